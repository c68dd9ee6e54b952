//! A process by its descriptor: fewer workers, less of the CPU, stopped, ended. What is undone is undone at that very life
//! of it, which the undo names, wherever the configuration points by then; a pid that somebody else got is never touched.

mod allowed;
mod family;
mod group;
mod knob;
pub mod locate;
pub mod pinned;
pub(super) mod settings;
pub mod table;
pub mod target;
mod terminate;
mod workers;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use tokio::time::{Instant, sleep};

use super::consent::Consent;
use super::failure::Failure;
use super::passed::Passed;
use super::place::Place;
use super::rights::Rights;
use super::service::{AfterRefusal, Aim, Done, Order, Probe, Service};
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Amount, Mitigation, Verb};
use allowed::{may_renice, may_signal_all, not_set};
use family::Family;
use group::{Rest, Who};
use knob::{IDLE, Knob, Member, RUNNING, STOPPED, STOPPING};
use pinned::Pinned;

/// Threads that are started while we set the others: each pass finds fewer.
const PASSES: usize = 5;
/// For a signal to be acted on; a process in the middle of a disk request takes its time.
const OBEYS: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(10);

pub struct Process {
    target: target::Process,
    /// What was last surveyed or read whole: an order for the rest, or a part of an undo, says nothing about who is not
    /// meant.
    whole: Undo,
    /// What was last written where the thread may be gone by now.
    written: HashMap<String, String>,
    /// Read back whole since they were written: who has another value later got it from somebody else.
    landed: HashSet<String>,
    /// The life that had ended when the rest of its family was put back.
    put_back: String,
    /// CPU time of all of it.
    used: Passed,
}

#[async_trait(?Send)]
impl Service for Process {
    fn name(&self) -> &'static str {
        "the process"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let process = self.target.locator.find()?;
        let stat = process.stat().ok_or_else(|| Failure::epoch_changed(self.name()))?;
        let mut rights = Rights::default();
        for verb in self.target.verbs().iter().copied().filter(|verb| !self.target.is_undeclared(*verb)) {
            rights.note(verb, self.allows(&process, verb))?;
        }
        let detail = format!("process {} ({}) is there: {}", process.pid, stat.command, rights.told()?);
        if self.target.workers.is_none() {
            return Ok(Probe::usable(detail));
        }
        Ok(Probe::usable(format!("{detail}; {} workers", workers::count(&process)?)))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        self.allows(&self.target.locator.find()?, verb)
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let process = self.target.locator.find()?;
        self.written.clear();
        let changes = match (mitigation.verb, self.target.workers) {
            (Verb::Throttle, Some(_)) => workers::survey(&process, mitigation.amount).await?,
            (Verb::Throttle, None) => self.slower(&process, mitigation.amount)?,
            (Verb::Freeze, _) => frozen(&process)?,
            (verb, _) => return Err(self.cannot(verb)),
        };
        self.whole = Undo { epoch: process.epoch(), changes, lapses_unix_ms: None };
        let named = self.children(|change, value| change.prior == value)?;
        self.whole.changes.extend(named);
        Ok(self.whole.clone())
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let aim = |change: &Change| match group::parse(&change.key) {
            _ if change.key == workers::KEY => {
                let prior = change.prior.parse().unwrap_or(1);
                workers::wanted(prior, mitigation.amount).map(|wanted| wanted.min(prior).to_string())
            }
            Some((Knob::Nice, _)) => Ok(nicer(&change.prior, kept(mitigation.amount)?)),
            Some((Knob::Io | Knob::State, _)) | None => Ok(change.wanted().to_owned()),
        };
        undo.changes.iter().map(aim).collect()
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        Ok(Some(self.target.locator.find()?.epoch()))
    }

    fn relatives(&self, life: &str) -> Vec<String> {
        family::relatives(life)
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        self.remember(undo);
        let family = Family::recall(&self.whole)?;
        let leader = family.as_ref().and_then(|family| family.leader.as_ref());
        let mut known: HashMap<Knob, (Rest, Vec<Member>)> = HashMap::new();
        let mut values = Vec::with_capacity(undo.changes.len());
        for change in &undo.changes {
            if change.key == workers::KEY {
                values.push(match leader {
                    Some(leader) => Some(workers::read(leader, change).await?),
                    None => None,
                });
                continue;
            }
            let (knob, who) = group::parse(&change.key).ok_or_else(|| unknown(&change.key))?;
            let (rest, members) = match known.entry(knob) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => {
                    let members = family.as_ref().map_or(Ok(Vec::new()), |family| family.list(knob))?;
                    unknown.insert((Rest::of(knob, &self.whole), members))
                }
            };
            values.push(self.value(change, knob, who, rest, members));
        }
        let mut pairs = undo.changes.iter().zip(&values);
        // What it has left behind is ours still: nobody else would put that back.
        let is_owed = pairs.any(|(change, value)| {
            value.as_ref().is_some_and(|value| change.is_known(value) && change.prior != *value)
        });
        let is_over = leader.is_none() && !is_owed && self.put_back != undo.epoch;
        // Of what is gone, with what was set at it: neither owed nor missed.
        let gone = |change: &Change| match leader {
            Some(_) => self.written.get(&change.key).unwrap_or(&change.prior).clone(),
            None if is_owed => change.wanted().to_owned(),
            None => change.prior.clone(),
        };
        let pairs = undo.changes.iter().zip(values);
        let values = pairs.map(|(change, value)| value.unwrap_or_else(|| gone(change))).collect();
        Ok(Live { epoch: if is_over { String::new() } else { undo.epoch.clone() }, values })
    }

    async fn is_succeeded(&mut self, undo: &Undo) -> bool {
        self.target.locator.find().is_ok_and(|now| Family::is_succeeded_by(undo, &now))
    }

    async fn write(&mut self, epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        if self.whole.epoch != epoch {
            return Err(Failure::epoch_changed(self.name()));
        }
        if Pinned::recall(epoch)?.is_none() {
            epoch.clone_into(&mut self.put_back);
        }
        let mut refused = None;
        let obeys_by = Instant::now() + OBEYS;
        for order in in_turn(orders) {
            let written = match group::parse(order.key) {
                _ if order.key == workers::KEY => steer(epoch, order).await,
                Some((Knob::State, Who::One(one))) => self.set_state(one, order, obeys_by).await,
                Some((knob, who)) => self.set(knob, who, order, obeys_by).await,
                None => Err(unknown(order.key)),
            };
            match (written, after) {
                (Ok(()), _) => {}
                (Err(failure), AfterRefusal::Stop) => return Err(failure),
                (Err(failure), AfterRefusal::GoOn) => refused = refused.or(Some(failure)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Whoever was started since the survey, by one that goes on until it is told.
    async fn unreached(&mut self, undo: &Undo) -> Result<Vec<Change>, Failure> {
        self.remember(undo);
        let named = self.children(|change, value| change.prior == value)?;
        self.whole.changes.extend(named.iter().cloned());
        Ok(named)
    }

    /// Whoever was started since, and has it from its parent.
    async fn inherited(&mut self, undo: &Undo) -> Result<Vec<Change>, Failure> {
        self.remember(undo);
        self.children(|change, value| change.ours.iter().any(|ours| ours == value))
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Terminate => {
                terminate::terminate(&self.target.locator.find()?, self.target.kill_after_seconds, consent).await
            }
            verb => Err(self.cannot(verb)),
        }
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        let lives = table::lives(&pinned::tree(&self.target.locator.find()?)?);
        let used = table::cpu_seconds(&lives);
        // A child that has ended takes its time with it: then nothing is known until the next reading.
        let share = used.and_then(|seconds| self.used.per_second(seconds, Instant::now().into_std()));
        Ok(Gives {
            bytes: Some(table::held(&lives)),
            cpu_percent: share.map(|share| share * 100.0),
            ..Gives::default()
        })
    }

    /// The kernel has done it when it answers; what takes longer has been waited for.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        if key == workers::KEY {
            return workers::strictness(value);
        }
        group::parse(key)?.0.strictness(value)
    }

    /// Some of all, or on their way: no value that could be set.
    fn is_ours_alone(&self, value: &str) -> bool {
        [group::PARTLY, workers::PARTLY, STOPPING].contains(&value)
    }

    /// Of a thread that has ended.
    fn returns(&self, key: &str) -> bool {
        matches!(group::parse(key), Some((_, Who::One(_))))
    }

    /// A stopped master takes no signal for its workers.
    fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
        self.target.workers.is_some() && wanted == Verb::Throttle && in_force == Verb::Freeze
    }
}

impl Process {
    #[must_use]
    pub fn new(target: target::Process) -> Self {
        let whole = Undo { epoch: String::new(), changes: Vec::new(), lapses_unix_ms: None };
        Self {
            target,
            whole,
            written: HashMap::new(),
            landed: HashSet::new(),
            put_back: String::new(),
            used: Passed::default(),
        }
    }

    /// Those that have no change of their own yet.
    fn children(&self, has: impl Fn(&Change, &str) -> bool) -> Result<Vec<Change>, Failure> {
        let Some(family) = Family::recall(&self.whole)? else { return Ok(Vec::new()) };
        let mut named = Vec::new();
        for knob in Knob::ALL {
            let key = group::key(knob, Who::Rest);
            if self.whole.changes.iter().any(|change| change.key == key) {
                named.extend(group::name_children(knob, &self.whole, &family.list(knob)?, &has));
            }
        }
        Ok(named)
    }

    /// What is put back is read back alone.
    fn remember(&mut self, undo: &Undo) {
        let known = &mut self.whole.changes;
        if undo.epoch != self.whole.epoch || !undo.changes.iter().all(|it| known.iter().any(|own| own.key == it.key)) {
            return self.whole.clone_from(undo);
        }
        for change in &undo.changes {
            known.iter_mut().filter(|own| own.key == change.key).for_each(|own| own.clone_from(change));
        }
    }

    fn declared(&self, verb: Verb) -> Result<(), Failure> {
        if self.target.sacrificial {
            return Ok(());
        }
        let detail =
            format!("{verb} is only for what the node can do without: set `sacrificial = true` on this control");
        Err(Failure::refused(detail))
    }

    /// What it takes to stop all of it, make it slower or end it; and to let it go on, be as fast as before.
    fn allows(&self, process: &Pinned, verb: Verb) -> Result<(), Failure> {
        match verb {
            Verb::Throttle if self.target.workers.is_some() => workers::takes_signals(process),
            Verb::Throttle => self.may_slow_down(process),
            Verb::Freeze => {
                self.declared(verb)?;
                may_signal_all(process)
            }
            Verb::Terminate => {
                self.declared(verb)?;
                process.may_signal()
            }
            verb => Err(self.cannot(verb)),
        }
    }

    fn may_slow_down(&self, process: &Pinned) -> Result<(), Failure> {
        let leader = process.stat().ok_or_else(|| Failure::epoch_changed(self.name()))?;
        may_renice(process, leader.nice)?;
        if !self.target.idle_io {
            return Ok(());
        }
        // What it has already.
        let members = Knob::Io.list(&pinned::tree(process)?)?;
        let Some(member) = members.first() else { return Ok(()) };
        match Knob::Io.set(member, &member.value) {
            Ok(()) => Ok(()),
            Err(errno) => Err(not_set(Knob::Io, member, errno)),
        }
    }

    fn slower(&self, process: &Pinned, amount: Amount) -> Result<Vec<Change>, Failure> {
        let kept = kept(amount)?;
        let pids = pinned::tree(process)?;
        let mut changes = group::survey(Knob::Nice, &Knob::Nice.list(&pids)?, |nice| nicer(nice, kept))?;
        if self.target.idle_io {
            // Real time is somebody's explicit wish, and takes more rights to give back.
            let aim = |class: &str| if class.starts_with("realtime") { class } else { IDLE }.to_owned();
            changes.extend(group::survey(Knob::Io, &Knob::Io.list(&pids)?, aim)?);
        }
        Ok(changes)
    }

    /// `None` where it is gone.
    fn value(&mut self, change: &Change, knob: Knob, who: Who, rest: &Rest, members: &[Member]) -> Option<String> {
        match who {
            Who::Rest => {
                let found = rest.value(change, members);
                found.map(|value| self.not_undone_by_hand(change, value))
            }
            // Also where it is of the tree no more.
            Who::One(one) if knob == Knob::State => knob::state_of(one).map(|member| member.value),
            Who::One((id, start)) => members
                .iter()
                .find(|member| (member.id, member.start) == (id, start))
                .map(|member| member.value.clone()),
        }
    }

    /// Once all had what we set, some that have it no more are no reason to set it again.
    fn not_undone_by_hand(&mut self, change: &Change, value: String) -> String {
        if value == change.wanted() {
            self.landed.insert(change.key.clone());
        } else if value == group::PARTLY && self.landed.contains(&change.key) {
            return change.wanted().to_owned();
        }
        value
    }

    async fn set_state(&mut self, one: (i32, u64), order: &Order<'_>, obeys_by: Instant) -> Result<(), Failure> {
        self.written.insert(order.key.to_owned(), order.value.to_owned());
        let mut told = false;
        while let Some(member) = knob::state_of(one).filter(|member| member.value != order.value) {
            if !told {
                match Knob::State.set(&member, order.value) {
                    Ok(()) | Err(Errno::ESRCH) => told = true,
                    Err(errno) => return Err(not_set(Knob::State, &member, errno)),
                }
            } else if Instant::now() < obeys_by {
                sleep(POLL).await;
            } else {
                break;
            }
        }
        Ok(())
    }

    async fn set(&mut self, knob: Knob, who: Who, order: &Order<'_>, obeys_by: Instant) -> Result<(), Failure> {
        self.landed.remove(order.key);
        self.written.insert(order.key.to_owned(), order.value.to_owned());
        let change =
            self.whole.changes.iter().find(|change| change.key == order.key).ok_or_else(|| unknown(order.key))?;
        let rest = Rest::of(knob, &self.whole);
        for _ in 0..PASSES {
            let family = Family::recall(&self.whole)?.ok_or_else(|| Failure::epoch_changed(self.name()))?;
            let mut members = family.list(knob)?;
            if knob == Knob::State && order.value == RUNNING {
                // Who is woken first finds the others at work.
                members.reverse();
            }
            let due = match who {
                Who::Rest => rest.to_set(change, &members, order.value),
                Who::One(one) => members.iter().filter(|member| is_due(member, one, order.value)).collect(),
            };
            if due.is_empty() {
                return Ok(());
            }
            for member in &due {
                match knob.set(member, order.value) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(not_set(knob, member, errno)),
                }
            }
            if knob == Knob::State {
                obeyed(&due, order.value, obeys_by).await;
            }
        }
        Ok(())
    }
}

async fn steer(epoch: &str, order: &Order<'_>) -> Result<(), Failure> {
    let process = Pinned::recall(epoch)?.ok_or_else(|| Failure::epoch_changed("the process"))?;
    let target = order.value.parse().map_err(|_| unknown(order.value))?;
    workers::steer(&process, target).await
}

fn frozen(process: &Pinned) -> Result<Vec<Change>, Failure> {
    let mut members = Knob::State.list(&pinned::tree(process)?)?;
    let is_traced = |member: &&Member| table::stat(member.pid).is_some_and(|stat| stat.is_traced());
    if let Some(traced) = members.iter().find(is_traced) {
        let detail =
            format!("process {} is held by a tracer (strace, gdb): whether it is stopped cannot be told", traced.pid);
        return Err(Failure::unreachable(detail));
    }
    // By somebody else.
    members.iter_mut().filter(|it| it.value == STOPPING).for_each(|it| it.value = STOPPED.to_owned());
    group::survey(Knob::State, &members, |_| STOPPED.to_owned())
}

/// Parents are stopped first, and those that were started meanwhile at the end; children are continued first.
fn in_turn<'o, 'v>(orders: &'o [Order<'v>]) -> Vec<&'o Order<'v>> {
    let mut orders: Vec<_> = orders.iter().collect();
    match orders.first().map(|first| first.value) {
        Some(STOPPED) => orders.push(orders[0]),
        Some(RUNNING) => orders.reverse(),
        Some(_) | None => {}
    }
    orders
}

fn is_due(member: &Member, one: (i32, u64), value: &str) -> bool {
    (member.id, member.start) == one && member.value != value
}

/// Waits until the kernel shows it; the read-back tells whether it did.
async fn obeyed(told: &[&Member], value: &str, until: Instant) {
    let is_open = |member: &&Member| {
        let now = knob::state_of((member.id, member.start));
        now.is_some_and(|now| now.value != value)
    };
    while told.iter().any(is_open) && Instant::now() < until {
        sleep(POLL).await;
    }
}

fn kept(amount: Amount) -> Result<f64, Failure> {
    match amount {
        Amount::Keep(kept) => Ok(kept),
        Amount::Whole => Ok(0.0),
        Amount::Bytes(_) => Err(Failure::unsupported("a process is throttled to a share: write `to = \"50%\"`")),
    }
}

fn nicer(nice: &str, kept: f64) -> String {
    nice.parse().map_or_else(|_| nice.to_owned(), |nice| knob::nicer(nice, kept).to_string())
}

fn unknown(what: &str) -> Failure {
    Failure::unsupported(format!("`{what}` cannot be set at a process"))
}
