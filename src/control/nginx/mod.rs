//! nginx, which has no way to be told anything while it runs: its configuration looks for flag files, and so sheds without
//! a reload; and its caches are files that may go. Reloads nothing, signals nobody, and never touches what it did not
//! write itself, but for the files of caches that the configuration names.
//!
//! Flags outlive a restart of nginx, which finds them again, so that is no change of epoch. What they do not outlive is the
//! guardian: systemd removes its runtime directory, and with it the flags, when it stops or is killed.

mod ages;
mod flags;
mod level;
mod mention;
mod prune;
mod settings;
mod status;
pub mod target;
mod walk;

use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::DEADLINE;
use super::consent::Consent;
use super::failure::Failure;
use super::passed::Passed;
use super::rights::Rights;
use super::service::{AfterRefusal, Aim, Done, Order, Probe, Service};
use super::standing::Live;
use super::undo::Undo;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Verb};
use flags::Flags;
use level::{ABSENT, PUBLISHED};
use mention::Mention;
use prune::Pruner;

/// Where Debian keeps nginx's configuration.
const CONFIGURATION: &str = "/etc/nginx";

pub struct Nginx {
    target: target::Nginx,
    /// Where flags were set last, wherever it is by now.
    set_in: Option<Flags>,
    pruner: Pruner,
    /// Requests of others, and how many were ours.
    came: Passed,
    asked: u64,
}

#[async_trait(?Send)]
impl Service for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let mut told = vec![self.answers().await?];
        let mut rights = Rights::default();
        if let Some(path) = self.target.flags.clone() {
            let allowed = flags::probe(&path);
            let doubts = allowed.as_ref().ok().cloned().flatten();
            rights.note_as(Verb::Shed, allowed.map(|_| format!("shed by flags in {}", path.display())))?;
            // It reads many files, and only to be of help.
            let hint = self.pruner.apart(DEADLINE, move || Ok(hint(&path))).await;
            told.extend(doubts.or(hint.unwrap_or_default()));
        }
        if !self.target.caches.is_empty() {
            let allowed = self.pruner.probe(self.target.caches.clone()).await;
            rights.note_as(Verb::Prune, allowed.map(|()| "prune its caches".to_owned()))?;
        }
        told.insert(1, rights.told()?);
        Ok(Probe::usable(told.join("; ")))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        match verb {
            Verb::Shed => flags::probe(self.path()?).map(drop),
            Verb::Prune if self.target.caches.is_empty() => Err(nothing_to_prune()),
            Verb::Prune => self.pruner.probe(self.target.caches.clone()).await,
            verb => Err(self.cannot(verb)),
        }
    }

    /// Flags and caches stay as they were.
    async fn look(&mut self) -> Result<Probe, Failure> {
        self.answers().await.map(Probe::usable)
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        if mitigation.verb != Verb::Shed {
            return Err(self.cannot(mitigation.verb));
        }
        let wanted = level::of(mitigation.amount)?;
        let flags = Flags::make(self.path()?)?;
        let mut changes = Vec::with_capacity(PUBLISHED.len());
        for level in PUBLISHED {
            let live = flags.read(level)?;
            // An operator's own flag is no business of ours.
            if live == ABSENT || live == level::set(level) {
                changes.push(level::change(level, wanted));
            }
        }
        if changes.iter().all(|change| change.wanted() == ABSENT) {
            changes.clear();
        }
        let epoch = flags.epoch()?;
        self.set_in = Some(flags);
        Ok(Undo { epoch, changes, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let wanted = level::of(mitigation.amount)?;
        undo.changes.iter().map(|change| Ok(level::aim(flag(&change.key)?, wanted))).collect()
    }

    /// It names the directory of flags, which is its address.
    fn names(&self, _life: &str) -> Vec<String> {
        Vec::new()
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let path = self.path()?;
        let flags = Flags::open(path).inspect_err(|_| self.clear_out_of_sight(undo))?;
        let read = |change: &super::undo::Change| flags.read(flag(&change.key)?);
        let values = undo.changes.iter().map(read).collect::<Result<Vec<_>, Failure>>()?;
        let is_ours =
            |(change, value): (&super::undo::Change, &String)| *value == level::set(flag(&change.key).unwrap_or(0));
        // Wherever flags of ours are, they are to go.
        let is_same = flags.epoch()? == undo.epoch;
        if !is_same && !undo.changes.iter().zip(&values).any(is_ours) {
            self.clear_out_of_sight(undo);
            return Err(flags::gone(path));
        }
        if is_same {
            self.set_in = Some(flags);
        }
        Ok(Live { epoch: undo.epoch.clone(), values })
    }

    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        let path = self.path()?;
        let flags = Flags::open(path)?;
        let is_another = flags.epoch()? != expected_epoch;
        let mut first = Ok(());
        for order in orders {
            let level = flag(order.key)?;
            let written = if is_another && order.value != ABSENT {
                Err(flags::gone(path))
            } else {
                flags.write(level, order.value)
            };
            if written.is_err() {
                first = first.and(written);
                if after == AfterRefusal::Stop {
                    break;
                }
            }
        }
        first
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        let Some(page) = &self.target.stub_status else { return Ok(Gives::default()) };
        let counts = status::ask(page).await?;
        self.asked += 1;
        let others = counts.requests.saturating_sub(self.asked);
        let per_second = self.came.per_second(others as f64, Instant::now());
        Ok(Gives { per_second, sessions: Some(counts.active.saturating_sub(1)), ..Gives::default() })
    }

    /// A file is there or not.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        level::strictness(key, value)
    }

    /// Its first line says so.
    fn is_ours_alone(&self, value: &str) -> bool {
        level::is_set(value)
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        if mitigation.verb != Verb::Prune {
            return Err(self.cannot(mitigation.verb));
        }
        if self.target.caches.is_empty() {
            return Err(nothing_to_prune());
        }
        self.pruner.prune(self.target.caches.clone(), mitigation.amount, consent).await
    }

    fn remark(&self, undo: &Undo) -> Option<String> {
        let set = undo.changes.iter().rev().find(|change| change.wanted() != ABSENT)?;
        Some(format!("nginx refuses {}, of the shares that its configuration knows", set.wanted()))
    }
}

impl Nginx {
    #[must_use]
    pub fn new(target: target::Nginx) -> Self {
        Self { target, set_in: None, pruner: Pruner::default(), came: Passed::default(), asked: 0 }
    }

    /// The directory may come back: it was renamed, or something is mounted over it. What cannot be removed went with it.
    fn clear_out_of_sight(&self, undo: &Undo) {
        let Some(flags) = self.set_in.as_ref().filter(|flags| flags.epoch().is_ok_and(|epoch| epoch == undo.epoch))
        else {
            return;
        };
        for level in undo.changes.iter().filter_map(|change| level::parse(&change.key)) {
            drop(flags.write(level, ABSENT));
        }
    }

    async fn answers(&self) -> Result<String, Failure> {
        let Some(page) = &self.target.stub_status else { return Ok("nginx is not asked".to_owned()) };
        let active = status::ask(page).await?.active;
        Ok(format!("nginx answers, with {active} connections"))
    }

    fn path(&self) -> Result<&Path, Failure> {
        self.target.flags.as_deref().ok_or_else(|| {
            Failure::refused(
                "shed needs flag files: set `flags = \"/run/node-guardian/nginx\"` on this control, and add the lines \
                 of \
                 docs/controls/nginx.md to nginx.conf",
            )
        })
    }
}

fn nothing_to_prune() -> Failure {
    Failure::refused("prune needs to know what may go: set `caches = [\"/var/cache/nginx/app\"]` on this control")
}

fn flag(key: &str) -> Result<u8, Failure> {
    level::parse(key).ok_or_else(|| Failure::unsupported(format!("`{key}` is not a flag of nginx")))
}

/// What an operator should know who set nginx up for flags, or has still to do it.
fn hint(flags: &Path) -> Option<String> {
    match mention::of(flags, Path::new(CONFIGURATION)) {
        Mention::In(file) => Some(format!("{} looks for them", file.display())),
        Mention::Nowhere => Some(format!(
            "no file in {CONFIGURATION} names that directory, so nginx sheds only if its configuration is elsewhere: \
             see \
             docs/controls/nginx.md"
        )),
        Mention::Unknown => None,
    }
}
