//! Whom an undo is about: a process and whatever it has started. Also once the process itself has ended: then those are
//! known by their names in the undo, and by their session where it began one, as what systemd starts does. Whoever they are
//! inherited by, what was set at them is still ours.

use std::collections::HashSet;

use super::group;
use super::knob::{Knob, Member};
use super::pinned::{self, Pinned};
use super::table;
use crate::control::failure::Failure;
use crate::control::undo::Undo;

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
        if leader.is_none()
            && let Some(pid) = Pinned::pid_of(&undo.epoch)
        {
            pids.extend(table::session(pid).into_iter().filter(|pid| known.insert(*pid)));
        }
        Ok((!pids.is_empty()).then_some(Self { leader, pids }))
    }

    /// The value of each, whoever started another before that one.
    ///
    /// # Errors
    /// Where they are too many.
    pub fn list(&self, knob: Knob) -> Result<Vec<Member>, Failure> {
        knob.list(&self.pids)
    }
}
