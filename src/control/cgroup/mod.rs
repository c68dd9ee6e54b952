//! A cgroup of version 2 through its files: less memory (`memory.high`), less CPU (`cpu.max`), stopped (`cgroup.freeze`). What
//! is undone is undone in that very life of it, which the undo names; a cgroup of the same path that was made later was
//! never touched. Never lowers `memory.max`, which kills, and never acts on a cgroup that holds the guardian (`spared`).

mod cpu;
mod folder;
mod lower;
mod memory;
mod settings;
mod spared;
pub mod target;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::sleep;

use super::consent::Consent;
use super::failure::Failure;
use super::passed::Passed;
use super::place::Place;
use super::recent_peak::RecentPeak;
use super::resident::{NOISE_BYTES, compared};
use super::rights::Rights;
use super::service::{AfterRefusal, Aim, Before, Done, Order, Probe, Service, Turn};
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use cpu::Quota;
use folder::{Folder, Tree};
use lower::{Lowering, current};
use memory::Usage;

const HIGH: &str = "memory.high";
const CURRENT: &str = "memory.current";
const STAT: &str = "memory.stat";
const MAX: &str = "cpu.max";
const FREEZE: &str = "cgroup.freeze";
const EVENTS: &str = "cgroup.events";

/// What `cgroup.freeze` says, in words.
const THAWED: &str = "thawed";
const FREEZING: &str = "freezing";
const FROZEN: &str = "frozen";

/// Most stop within 1 ms; one that waits for a disk takes its time, and reads as `freezing` until then.
const STOPS: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(5);

pub struct Cgroup {
    target: target::Cgroup,
    tree: Tree,
    lowering: Lowering,
    peak: RecentPeak,
    /// CPU time of all of it.
    used: Passed,
}

#[async_trait(?Send)]
impl Service for Cgroup {
    fn name(&self) -> &'static str {
        "the cgroup"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let folder = self.folder()?;
        let mut rights = Rights::default();
        for verb in self.target.verbs().iter().copied().filter(|verb| !self.target.is_undeclared(*verb)) {
            rights.note(verb, self.allows(&folder, verb))?;
        }
        Ok(Probe::usable(format!("cgroup {} is there: {}", self.target.path, rights.told()?)))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        self.allows(&self.folder()?, verb)
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let folder = self.folder()?;
        let changes = match mitigation.verb {
            Verb::Throttle => {
                let prior = value(&folder, MAX)?;
                let wanted = quota(&prior)?.kept(mitigation.amount, cpus(&folder))?;
                vec![Change::new(MAX, prior, vec![wanted.text()])]
            }
            Verb::Shrink => self.less_memory(&folder, mitigation)?,
            Verb::Freeze => match state(&folder)? {
                THAWED => vec![Change::new(FREEZE, THAWED, vec![FREEZING.to_owned(), FROZEN.to_owned()])],
                // By whomever.
                _ => Vec::new(),
            },
            verb => return Err(self.cannot(verb)),
        };
        Ok(Undo { epoch: folder.epoch(), changes, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let folder = self.folder()?;
        let mut aims = Vec::with_capacity(undo.changes.len());
        for change in &undo.changes {
            aims.push(match change.key.as_str() {
                MAX => quota(&change.prior)?.kept(mitigation.amount, cpus(&folder))?.text(),
                HIGH => match self.goal(&folder, mitigation)? {
                    Some(bytes) => bytes.to_string(),
                    None => change.wanted().to_owned(),
                },
                _ => change.wanted().to_owned(),
            });
        }
        Ok(aims)
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        Ok(Some(self.folder()?.epoch()))
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        // One that is gone took with it what was set.
        let Some(folder) = self.tree.find(&self.target.path)? else {
            return Ok(Live { epoch: String::new(), values: undo.changes.iter().map(|it| it.prior.clone()).collect() });
        };
        if folder.epoch() != undo.epoch {
            let values = undo.changes.iter().map(|change| change.prior.clone()).collect();
            return Ok(Live { epoch: folder.epoch(), values });
        }
        self.peak.recall(undo);
        let values = undo.changes.iter().map(|change| value(&folder, &change.key)).collect::<Result<_, _>>()?;
        Ok(Live { epoch: undo.epoch.clone(), values })
    }

    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        let mut refused = Ok(());
        for order in orders {
            let folder = self.tree.find(&self.target.path)?.filter(|folder| folder.epoch() == expected_epoch);
            let Some(folder) = folder else { return Err(Failure::epoch_changed(self.name())) };
            let written = self.set(folder, order).await;
            if written.is_err() && after == AfterRefusal::Stop {
                return written;
            }
            refused = refused.and(written);
        }
        refused
    }

    async fn pulse(&mut self, mitigation: &Mitigation, _consent: &Consent<'_>) -> Result<Done, Failure> {
        Err(self.cannot(mitigation.verb))
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        let folder = self.folder()?;
        // Where a controller is off, nothing is known.
        let micros = folder.read("cpu.stat").ok().and_then(|stat| memory::field(&stat, "usage_usec"));
        let share = micros.and_then(|micros| self.used.per_second(micros as f64 / 1e6, Instant::now()));
        Ok(Gives { bytes: current(&folder).ok(), cpu_percent: share.map(|share| share * 100.0), ..Gives::default() })
    }

    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        match (key, value) {
            (HIGH, bytes) => memory::strictness(bytes),
            (MAX, quota) => cpu::strictness(quota),
            (FREEZE, FROZEN) => Some(1.0),
            (FREEZE, THAWED) => Some(0.0),
            _ => None,
        }
    }

    async fn measure(&mut self, _undo: &Undo) -> Before {
        Before::of_process(self.folder().ok().and_then(|folder| current(&folder).ok()))
    }

    async fn reclaimed(&mut self, undo: &Undo, before: Before, _consent: &Consent<'_>) -> Option<Done> {
        undo.changes.iter().find(|change| change.key == HIGH)?;
        let after = current(&self.folder().ok()?).ok()?;
        let (freed, detail) = compared(before.resident?, after);
        let outcome = if freed > NOISE_BYTES { Outcome::Applied } else { Outcome::NoEffect };
        let detail = format!("{CURRENT} {}", detail.trim_start_matches("resident "));
        Some(Done { outcome, detail, freed_bytes: Some(freed) })
    }
}

impl Cgroup {
    #[must_use]
    pub fn new(target: target::Cgroup) -> Self {
        Self {
            target,
            tree: Tree::mounted(),
            lowering: Lowering::default(),
            peak: RecentPeak::default(),
            used: Passed::default(),
        }
    }

    fn folder(&self) -> Result<Folder, Failure> {
        spared::check(&self.target.path)?;
        self.tree.open(&self.target.path)
    }

    /// What it takes to do it, to see it, and to undo it: one file is written for both ways.
    fn allows(&self, folder: &Folder, verb: Verb) -> Result<(), Failure> {
        let (written, read): (&str, &[&str]) = match verb {
            Verb::Throttle => (MAX, &[]),
            Verb::Shrink => (HIGH, &[CURRENT, STAT]),
            Verb::Freeze if !self.target.sacrificial => {
                return Err(Failure::refused(
                    "freeze needs `sacrificial = true` on this control: the node can do without this work",
                ));
            }
            Verb::Freeze => (FREEZE, &[EVENTS]),
            verb => return Err(self.cannot(verb)),
        };
        folder.may_write(written)?;
        [written].iter().chain(read).try_for_each(|file| folder.read(file).map(drop))
    }

    fn less_memory(&mut self, folder: &Folder, mitigation: &Mitigation) -> Result<Vec<Change>, Failure> {
        let prior = value(folder, HIGH)?;
        let peak = self.peak.of(&folder.epoch(), current(folder)?);
        let goal = self.goal(folder, mitigation)?;
        let change = |bytes: u64| Change::new(HIGH, prior, vec![bytes.to_string()]).with_peak(peak);
        Ok(goal.map(change).into_iter().collect())
    }

    fn goal(&mut self, folder: &Folder, mitigation: &Mitigation) -> Result<Option<u64>, Failure> {
        let usage = Usage::of(current(folder)?, &folder.read(STAT)?, has_swap(folder));
        let peak = self.peak.of(&folder.epoch(), usage.current);
        memory::goal(usage, peak, self.target.floor_bytes, mitigation.amount)
    }

    async fn set(&mut self, folder: Folder, order: &Order<'_>) -> Result<(), Failure> {
        let live = value(&folder, order.key)?;
        // What was still stopping at the last look has stopped by itself.
        let has_stopped = order.over == Some(FREEZING) && live == FROZEN;
        match order.turn(if has_stopped { FREEZING } else { &live }) {
            Turn::Write => {}
            Turn::Done => return Ok(()),
            Turn::Theirs => return Err(Failure::set_meanwhile(&[order.key])),
        }
        match (order.key, order.value.parse::<u64>()) {
            (HIGH, Ok(bytes)) if current(&folder)? > bytes => self.lowering.lower(folder, bytes).await,
            (HIGH, _) => {
                self.lowering.call_off()?;
                folder.write(HIGH, order.value)
            }
            (MAX, _) => folder.write(MAX, order.value),
            (FREEZE, _) => freeze(&folder, order.value).await,
            (key, _) => Err(unknown(key)),
        }
    }
}

async fn freeze(folder: &Folder, wanted: &str) -> Result<(), Failure> {
    let written = match wanted {
        THAWED => "0",
        FREEZING | FROZEN => "1",
        other => return Err(unknown(other)),
    };
    folder.write(FREEZE, written)?;
    let until = Instant::now() + STOPS;
    while written == "1" && state(folder)? == FREEZING && Instant::now() < until {
        sleep(POLL).await;
    }
    Ok(())
}

fn value(folder: &Folder, key: &str) -> Result<String, Failure> {
    match key {
        HIGH | MAX => Ok(folder.read(key)?.trim().to_owned()),
        FREEZE => state(folder).map(str::to_owned),
        key => Err(unknown(key)),
    }
}

/// As it was told, and whether all of it stands still already. One that a cgroup above it freezes was told nothing itself.
fn state(folder: &Folder) -> Result<&'static str, Failure> {
    match folder.read(FREEZE)?.trim() {
        "0" => Ok(THAWED),
        "1" if memory::field(&folder.read(EVENTS)?, "frozen") == Some(1) => Ok(FROZEN),
        "1" => Ok(FREEZING),
        other => Err(unknown(other)),
    }
}

fn quota(text: &str) -> Result<Quota, Failure> {
    Quota::parse(text).ok_or_else(|| unknown(text))
}

/// On which it may run.
fn cpus(folder: &Folder) -> u32 {
    let own = folder.read("cpuset.cpus.effective").ok().and_then(|list| cpu::count(&list));
    let all = || sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten().and_then(|count| u32::try_from(count).ok());
    own.or_else(all).unwrap_or(1)
}

/// Whether programs' memory can be written out: the cgroup may, and the node has room.
fn has_swap(folder: &Folder) -> bool {
    let may = folder.read("memory.swap.max").is_ok_and(|most| most.trim() != "0");
    let node = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    may && memory::has_free_swap(&node)
}

fn unknown(what: &str) -> Failure {
    Failure::unsupported(format!("`{what}` cannot be set at a cgroup"))
}

#[cfg(test)]
mod tests;
