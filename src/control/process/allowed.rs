//! What it takes to stop a process or to make it slower, and to take that back. Asked before it is begun, and told where it
//! was refused.

use nix::errno::Errno;

use super::knob::{Knob, Member};
use super::pinned::{self, Pinned};
use crate::control::failure::Failure;
use crate::privilege;

/// Who could not be continued must not be stopped, whoever its parent is.
pub fn may_signal_all(process: &Pinned) -> Result<(), Failure> {
    for pid in pinned::tree(process)? {
        if let Some(member) = Pinned::open(pid)?
            && let Err(errno) = member.signal(0)
            && errno != Errno::ESRCH
        {
            return Err(member.unsent(errno));
        }
    }
    Ok(())
}

/// Up is allowed to many, back down to few: who may not go back must not begin.
pub fn may_renice(process: &Pinned, nice: i32) -> Result<(), Failure> {
    if !privilege::may_schedule_others() {
        return Err(Failure::refused(
            "a raised niceness could not be put back: give the guardian's unit CAP_SYS_NICE (AmbientCapabilities= and \
             CapabilityBoundingSet=) and `SystemCallFilter=setpriority ioprio_set`",
        ));
    }
    // What it has already.
    let leader = Member { pid: process.pid, id: process.pid, start: process.start, value: String::new() };
    match Knob::Nice.set(&leader, &nice.to_string()) {
        Ok(()) => Ok(()),
        Err(errno) => Err(not_set(Knob::Nice, &leader, errno)),
    }
}

pub fn not_set(knob: Knob, member: &Member, errno: Errno) -> Failure {
    let (name, id) = (knob.name(), member.id);
    match (errno, knob) {
        (Errno::ESRCH, _) => Failure::epoch_changed("the process"),
        (Errno::EPERM | Errno::EACCES, Knob::State) => {
            Failure::refused(format!("may not signal process {id}: give the guardian's unit CAP_KILL"))
        }
        (Errno::EPERM | Errno::EACCES, Knob::Nice | Knob::Io) => Failure::refused(format!(
            "may not set the {name} of thread {id}: give the guardian's unit CAP_SYS_NICE and \
             `SystemCallFilter=setpriority ioprio_set`"
        )),
        (errno, _) => Failure::refused(format!("cannot set the {name} of thread {id}: {}", errno.desc())),
    }
}
