//! Whom an undo is about: a process and whatever it has started. Also once the process itself has ended: then those are
//! known by their names in the undo, and by their session where one of those is still in it: while it is, the kernel gives
//! its number to nobody else. Whoever they are inherited by, what was set at them is still ours.

use std::collections::HashSet;
use std::iter::successors;

use super::group;
use super::knob::{Knob, Member};
use super::pinned::{self, Pinned};
use super::table::{self, Life, MOST_PROCESSES, Stat};
use crate::control::failure::Failure;
use crate::control::undo::Undo;

/// Whether two undos are about one thread: somebody of one of them is of the other, or was started by somebody of it.
pub fn meet(mine: &Undo, theirs: &Undo) -> bool {
    // The number of workers is its master's alone.
    let is_of_threads = |undo: &Undo| undo.changes.iter().any(|change| group::parse(&change.key).is_some());
    is_of_threads(mine) && is_of_threads(theirs) && (is_within(mine, theirs) || is_within(theirs, mine))
}

fn is_within(inner: &Undo, outer: &Undo) -> bool {
    let known: HashSet<Life> = roots(outer).collect();
    let session = session_left_by(outer);
    let is_of = |(life, stat): (Life, Stat)| known.contains(&life) || session == Some(stat.session);
    roots(inner).any(|life| ancestry(life).any(is_of))
}

/// The session that whom this is about had begun before it ended. Its number alone says nothing: once nobody of a session is
/// left, another process may get that, and begin a session of its own.
fn session_left_by(undo: &Undo) -> Option<i32> {
    let (pid, start) = Pinned::life_of(&undo.epoch)?;
    let is_there = |(id, start): Life| table::stat(id).filter(|stat| stat.start == start && !stat.is_over());
    let proves = |named: Life| is_there(named).is_some_and(|stat| stat.session == pid);
    (is_there((pid, start)).is_none() && group::all_named(undo).any(proves)).then_some(pid)
}

/// From whom all others of it descend.
fn roots(undo: &Undo) -> impl Iterator<Item = Life> {
    Pinned::life_of(&undo.epoch).into_iter().chain(group::all_named(undo))
}

/// This one, who started it, and so on. Nobody where it has ended.
fn ancestry(life: Life) -> impl Iterator<Item = (Life, Stat)> {
    let of = |pid: i32| table::stat(pid).map(|stat| ((pid, stat.start), stat));
    let first = of(life.0).filter(|(found, stat)| *found == life && !stat.is_over());
    successors(first, move |(_, stat)| of(stat.parent)).take(MOST_PROCESSES)
}

/// Whoever has started the one of this epoch, and all whom it has started.
#[must_use]
pub fn relatives(epoch: &str) -> Vec<String> {
    let Some(own) = Pinned::life_of(epoch) else { return Vec::new() };
    let above = ancestry(own).map(|(life, _)| life);
    let below = table::lives(&table::tree(own.0).unwrap_or_default());
    // Its pid may be another one's by now.
    let below = if below.contains(&own) { below } else { Vec::new() };
    above.chain(below).filter(|life| *life != own).map(Pinned::epoch_of).collect()
}

pub struct Family {
    /// `None` once it has ended.
    pub leader: Option<Pinned>,
    pids: Vec<i32>,
}

impl Family {
    /// `None` where none of them is alive.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub fn recall(undo: &Undo) -> Result<Option<Self>, Failure> {
        let leader = Pinned::recall(&undo.epoch)?;
        if !Pinned::is_of_this_boot(&undo.epoch) {
            return Ok(None);
        }
        let mut pids = leader.as_ref().map_or(Ok(Vec::new()), pinned::tree)?;
        let mut known: HashSet<i32> = pids.iter().copied().collect();
        for (id, start) in group::all_named(undo) {
            // A thread has no children of its own.
            let is_there = || table::stat(id).is_some_and(|stat| stat.start == start && !stat.is_over());
            if known.contains(&id) || !is_there() {
                continue;
            }
            // A child that has outlived who started it.
            if let Ok(Some(child)) = Pinned::open(id)
                && child.start == start
            {
                pids.extend(pinned::tree(&child)?.into_iter().filter(|pid| known.insert(*pid)));
            }
        }
        if let Some(session) = session_left_by(undo) {
            pids.extend(table::session(session).into_iter().filter(|pid| known.insert(*pid)));
        }
        Ok((!pids.is_empty()).then_some(Self { leader, pids }))
    }

    /// Whether the one that the undo is about has ended and left some behind, and this is another one: also none of those,
    /// as a child that has taken over would be.
    #[must_use]
    pub fn is_succeeded_by(undo: &Undo, now: &Pinned) -> bool {
        let is_another = Pinned::life_of(&undo.epoch) != Some((now.pid, now.start));
        let is_left = |family: &Self| family.leader.is_none() && !family.pids.contains(&now.pid);
        is_another && Self::recall(undo).is_ok_and(|family| family.as_ref().is_some_and(is_left))
    }

    /// The value of each, whoever started another before that one.
    ///
    /// # Errors
    /// Where they are too many.
    pub fn list(&self, knob: Knob) -> Result<Vec<Member>, Failure> {
        knob.list(&self.pids)
    }
}
