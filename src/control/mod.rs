//! Acting on services and undoing it: one folder per kind of control. A control never decides; it does what it is told,
//! reads it back, and says what came of it. What is common to all kinds, which values to write and which to leave alone,
//! is here; how to say it to the service is theirs.

mod app;
mod base;
pub mod failure;
mod haproxy;
mod http;
mod jvm;
mod memcached;
mod nginx;
mod pressure;
mod process;
pub mod recipe;
mod redis;
mod resident;
mod rights;
mod secret;
pub mod service;
mod socket;
pub mod standing;
pub mod target;
pub mod undo;
mod varnish;
mod webhook;
mod wire;
pub mod worker;

use std::sync::OnceLock;
use std::time::Duration;

use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use failure::Failure;
use service::{AfterRefusal, Done, Numbers, Order, Probe, Service};
use standing::{Live, Standing};
use target::Target;
use undo::{Change, Restore, Undo};

/// For one conversation with a service. A stopped HAProxy or a Redis in a script never answers; a loaded one answers
/// within 5 ms (measured: commands at 200 clients).
pub const DEADLINE: Duration = Duration::from_millis(1500);

/// How long a throttle holds that lapses by itself: `expire 30s` of the stick table that the documentation shows. To be
/// verified, and so renewed, at a third of it.
pub const LEASE: Duration = Duration::from_secs(30);

/// One service that can be told to do something.
pub struct Control {
    service: Box<dyn Service>,
}

/// What a read-back came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Checked {
    pub standing: Standing,
    /// Written anew, this stays as it is wanted.
    pub due: Vec<Change>,
}

impl From<Box<dyn Service>> for Control {
    fn from(service: Box<dyn Service>) -> Self {
        Self { service }
    }
}

impl Control {
    #[must_use]
    pub fn new(target: &Target) -> Self {
        Self::from(target.place().open())
    }

    /// As sentences call it: `HAProxy`.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.service.name()
    }

    /// Can it be reached, and may it act? Changes nothing.
    pub async fn probe(&mut self) -> Probe {
        self.service.probe().await.unwrap_or_else(Probe::failed)
    }

    /// Is it still there? Cheap enough for now and then.
    pub async fn look(&mut self) -> Probe {
        self.service.look().await.unwrap_or_else(Probe::failed)
    }

    /// What a mitigation would change and from what. No changes: it is so already.
    ///
    /// # Errors
    /// When it cannot be told or must not be done. Nothing was changed.
    pub async fn capture(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        self.service.permits(mitigation.verb).await?;
        self.service.survey(mitigation).await
    }

    /// The same undo with the values for another strength added: the prior values stay the first ones.
    ///
    /// # Errors
    /// `EpochChanged` where the target has forgotten, `Overridden` where none of it is ours any more.
    pub async fn capture_again(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Undo, Failure> {
        let live = self.service.read(undo).await?;
        match self.judge(undo, &live) {
            Standing::EpochChanged => return Err(Failure::epoch_changed(self.service.name())),
            Standing::Foreign(found) => return Err(Failure::overridden(format!("left alone: {found}"))),
            Standing::Ours { .. } | Standing::Prior => {}
        }
        let aims = self.service.aim(mitigation, undo).await?;
        let kept = undo.changes.iter().zip(&live.values).zip(aims);
        let changes = kept
            .filter(|((change, value), _)| is_ours_to_change(change, value) && !self.was_cleared(change, value))
            .map(|((change, _), aim)| change.aimed(aim))
            .collect();
        Ok(Undo { changes, ..undo.renewed() })
    }

    /// Writes what the undo says we want, and reads it back.
    ///
    /// # Errors
    /// When it was not done, or not wholly, or nobody can tell: read the standing.
    pub async fn apply(&mut self, undo: &Undo) -> Result<Done, Failure> {
        let resident = self.service.resident(undo).await;
        self.service.write(&undo.epoch, &wanted(&undo.changes), AfterRefusal::Stop).await?;
        let live = self.service.read(undo).await?;
        if undo.epoch != live.epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        if !standing::landed(undo, &live) {
            let pairs = undo.changes.iter().zip(&live.values).map(|(change, value)| (change, value.as_str()));
            let still =
                standing::remains(&pairs.filter(|(change, value)| change.wanted() != *value).collect::<Vec<_>>());
            return Err(Failure::refused(format!(
                "{} took the command without doing it: {still}",
                self.service.name()
            )));
        }
        let mut done = Done { outcome: Outcome::Applied, detail: standing::moved(&undo.changes), freed_bytes: None };
        if let Some(reclaimed) = self.service.reclaimed(undo, resident).await {
            done.outcome = reclaimed.outcome;
            done.detail = format!("{}; {}", done.detail, reclaimed.detail);
            done.freed_bytes = reclaimed.freed_bytes;
        }
        if let Some(remark) = self.service.remark(undo) {
            done.detail = format!("{}; {remark}", done.detail);
        }
        Ok(done)
    }

    /// Whether what we set is still there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn standing(&mut self, undo: &Undo) -> Result<Standing, Failure> {
        Ok(standing::judge(undo, &self.service.read(undo).await?))
    }

    /// The same, and what is to be written so that it stays: what lapses by itself, or what an adjustment in doubt did
    /// not reach.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn check(&mut self, undo: &Undo) -> Result<Checked, Failure> {
        let live = self.service.read(undo).await?;
        let standing = self.judge(undo, &live);
        if !matches!(standing, Standing::Ours { .. } | Standing::Prior) {
            return Ok(Checked { standing, due: Vec::new() });
        }
        let due = undo.changes.iter().zip(&live.values).filter(|(change, value)| {
            let renewable = self.service.is_lease(&change.key) && is_ours_to_change(change, value);
            (renewable && !self.was_cleared(change, value))
                || (change.wanted() != *value && change.restore(value) == Restore::Write)
        });
        Ok(Checked { standing, due: due.map(|(change, _)| change.clone()).collect() })
    }

    /// Writes what is due.
    ///
    /// # Errors
    /// When it was not written.
    pub async fn renew(&mut self, undo: &Undo, due: &[Change]) -> Result<(), Failure> {
        self.service.write(&undo.epoch, &wanted(due), AfterRefusal::Stop).await
    }

    /// Whether all of it goes by itself when it is not renewed.
    #[must_use]
    pub fn lapses(&self, undo: &Undo) -> bool {
        undo.changes.iter().all(|change| self.service.is_lease(&change.key))
    }

    /// Puts back what is still ours, reads that back, and leaves alone what somebody else has set.
    ///
    /// # Errors
    /// When it could not be done: it is still owed.
    pub async fn undo(&mut self, undo: &Undo) -> Result<Done, Failure> {
        let live = self.service.read(undo).await?;
        if undo.epoch != live.epoch {
            let Failure { outcome, detail } = Failure::epoch_changed(self.service.name());
            return Ok(Done { outcome, detail, freed_bytes: None });
        }
        let sorted = standing::sort(undo, &live);
        if !sorted.restore.is_empty()
            && let Err(failure) = self.restore(&undo.epoch, &sorted.restore).await
        {
            return match failure.outcome {
                Outcome::EpochChanged => {
                    Ok(Done { outcome: failure.outcome, detail: failure.detail, freed_bytes: None })
                }
                _ => Err(failure),
            };
        }
        let returned = standing::returned(&sorted.restore);
        let (outcome, detail) = match (sorted.restore.is_empty(), sorted.foreign.is_empty()) {
            (false, true) => (Outcome::Applied, returned),
            (true, true) => (Outcome::Already, "everything was back already".to_owned()),
            (true, false) => (Outcome::Overridden, format!("left alone: {}", standing::found(&sorted.foreign))),
            (false, false) => {
                (Outcome::Overridden, format!("{returned}; left alone: {}", standing::found(&sorted.foreign)))
            }
        };
        Ok(Done { outcome, detail, freed_bytes: None })
    }

    /// Does what leaves nothing in force.
    ///
    /// # Errors
    /// When it was not done.
    pub async fn pulse(&mut self, mitigation: &Mitigation) -> Result<Done, Failure> {
        self.service.permits(mitigation.verb).await?;
        self.service.pulse(mitigation).await
    }

    /// Numbers that the service reports of itself; none where it cannot be asked.
    pub async fn numbers(&mut self) -> Numbers {
        self.service.numbers().await.unwrap_or_default()
    }

    /// Two verbs that would harm together.
    #[must_use]
    pub fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
        self.service.excludes(wanted, in_force)
    }

    /// While it is wanted, a lease that somebody cleared is as much theirs as a value that somebody set.
    fn judge(&self, undo: &Undo, live: &Live) -> Standing {
        let pairs = undo.changes.iter().zip(&live.values);
        let cleared: Vec<_> = pairs.filter(|(change, value)| self.was_cleared(change, value)).collect();
        let standing = standing::judge(undo, live);
        match standing {
            Standing::Prior if !cleared.is_empty() => Standing::Foreign(standing::cleared(&cleared)),
            Standing::Ours { theirs } if !cleared.is_empty() => {
                let theirs = theirs.into_iter().chain([standing::cleared(&cleared)]).collect::<Vec<_>>().join(", ");
                Standing::Ours { theirs: Some(theirs) }
            }
            Standing::Prior | Standing::Ours { .. } | Standing::Foreign(_) | Standing::EpochChanged => standing,
        }
    }

    fn was_cleared(&self, change: &Change, live: &str) -> bool {
        change.restore(live) == Restore::Done && self.service.was_cleared(&change.key)
    }

    async fn restore(&mut self, epoch: &str, changes: &[&Change]) -> Result<(), Failure> {
        let orders: Vec<_> = changes.iter().map(|change| Order { key: &change.key, value: &change.prior }).collect();
        self.service.write(epoch, &orders, AfterRefusal::GoOn).await?;
        let changes = changes.iter().map(|&change| change.clone()).collect();
        let only = Undo { epoch: epoch.to_owned(), changes, lapses_unix_ms: None };
        let live = self.service.read(&only).await?;
        // As good as a restore, but nobody put anything back: the undo may have been what it did not live through.
        if live.epoch != epoch {
            return Err(Failure::epoch_changed(self.service.name()));
        }
        match standing::judge_restored(&only, &live) {
            None => Ok(()),
            Some(still) => {
                Err(Failure::refused(format!("{} took the undo without doing it: {still}", self.service.name())))
            }
        }
    }
}

fn wanted(changes: &[Change]) -> Vec<Order<'_>> {
    changes.iter().map(|change| Order { key: &change.key, value: change.wanted() }).collect()
}

fn is_ours_to_change(change: &Change, live: &str) -> bool {
    change.wanted() == live || change.restore(live) != Restore::Leave
}

/// Names this life of the kernel; empty where it cannot be read, and then only a restart of the target shows.
fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        read.map(|id| id.trim().to_owned()).unwrap_or_default()
    })
}
