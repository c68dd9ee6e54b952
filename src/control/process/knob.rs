//! What each thread or process of a tree has a value of its own of: niceness, the class of its disk requests, whether it is
//! stopped. Reading one, setting one; which ones and to what is decided elsewhere.

use nix::errno::Errno;

use super::pinned::Pinned;
use super::table::{self, has};
use crate::control::failure::Failure;

/// As many as are read in 50 ms.
const MOST_MEMBERS: usize = 4096;

const WHO_IS_A_THREAD: i32 = 1;
const CLASS_SHIFT: i32 = 13;
const NICEST: i32 = 19;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Knob {
    Nice,
    Io,
    State,
}

/// A thread, or for `State` a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    pub pid: i32,
    pub id: i32,
    pub start: u64,
    pub value: String,
}

impl Knob {
    pub const ALL: [Knob; 3] = [Knob::Nice, Knob::Io, Knob::State];

    pub const fn name(self) -> &'static str {
        match self {
            Knob::Nice => "nice",
            Knob::Io => "io class",
            Knob::State => "state",
        }
    }

    /// How far it stands back: behind everybody else is strictest.
    pub fn strictness(self, value: &str) -> Option<f64> {
        match self {
            Knob::Nice => value.parse::<i32>().ok().map(f64::from),
            Knob::Io => io_strictness(value),
            Knob::State if value == RUNNING => Some(0.0),
            Knob::State if value == STOPPED => Some(1.0),
            Knob::State => None,
        }
    }

    /// How a member shows that has not obeyed yet.
    pub const fn on_its_way(self) -> Option<&'static str> {
        match self {
            Knob::State => Some(STOPPING),
            Knob::Nice | Knob::Io => None,
        }
    }

    /// The value of each, in the order of these processes.
    ///
    /// # Errors
    /// Where they are too many.
    pub fn list(self, pids: &[i32]) -> Result<Vec<Member>, Failure> {
        let mut members = Vec::new();
        for &pid in pids {
            match self {
                Knob::State => members.extend(state(pid)),
                Knob::Nice | Knob::Io => {
                    // One more than may be is enough to know.
                    let threads = table::threads(pid).into_iter().take(MOST_MEMBERS + 1);
                    members.extend(threads.filter_map(|id| self.thread(pid, id)));
                }
            }
            if members.len() > MOST_MEMBERS {
                let first = pids[0];
                let detail = format!("process {first} and what it has started are more than {MOST_MEMBERS} threads");
                return Err(Failure::unsupported(detail));
            }
        }
        Ok(members)
    }

    fn thread(self, pid: i32, id: i32) -> Option<Member> {
        let stat = match self {
            // By its main thread a process is named, also once that has ended. It has no disk requests then.
            Knob::Nice if id == pid => table::stat(pid),
            Knob::Nice | Knob::Io | Knob::State => table::thread_stat(pid, id),
        };
        let stat = stat.filter(|stat| !stat.is_over())?;
        let value = match self {
            Knob::Io => io_class(id)?,
            Knob::Nice | Knob::State => stat.nice.to_string(),
        };
        Some(Member { pid, id, start: stat.start, value })
    }

    /// # Errors
    /// ESRCH where the member is gone.
    pub fn set(self, member: &Member, value: &str) -> nix::Result<()> {
        match self {
            Knob::State => stop_or_continue(member, value),
            Knob::Nice | Knob::Io => {
                // No descriptor pins a thread: its start is as close to the call as can be.
                let stat = table::thread_stat(member.pid, member.id).ok_or(Errno::ESRCH)?;
                if stat.start != member.start {
                    return Err(Errno::ESRCH);
                }
                match self {
                    Knob::Io => set_io_class(member.id, value),
                    Knob::Nice | Knob::State => set_nice(member.id, value.parse().map_err(|_| Errno::EINVAL)?),
                }
            }
        }
    }
}

/// CPU time is shared by weight, and a step of niceness is a quarter of it (sched(7)): 50 % are 3 steps, 10 % are 10.
pub fn nicer(nice: i32, kept_percent: f64) -> i32 {
    let steps = (100.0 / kept_percent.clamp(0.1, 100.0)).ln() / 1.25_f64.ln();
    (nice + (steps.round() as i32).max(1)).min(NICEST)
}

fn state(pid: i32) -> Option<Member> {
    // Before its state: a signal that does not wait any more shows there.
    let told = table::status(pid).is_some_and(|status| has(status.pending, libc::SIGSTOP));
    let stat = table::stat(pid).filter(|stat| !stat.is_over())?;
    let value = match stat.state {
        _ if stat.is_stopped() => STOPPED,
        // Whether it stops or goes on once its tracer lets go of it shows only then.
        _ if stat.is_traced() => STOPPING,
        _ if told => STOPPING,
        // One of its threads took the signal; who sleeps would be awake by now.
        state if state != b'S' && one_is_stopped(pid) => STOPPING,
        _ => RUNNING,
    };
    Some(Member { pid, id: pid, start: stat.start, value: value.to_owned() })
}

/// `None` where that life is over.
pub fn state_of((pid, start): (i32, u64)) -> Option<Member> {
    state(pid).filter(|member| member.start == start)
}

fn one_is_stopped(pid: i32) -> bool {
    table::threads(pid).into_iter().any(|id| table::thread_stat(pid, id).is_some_and(|stat| stat.is_stopped()))
}

pub const STOPPED: &str = "stopped";
/// In the middle of a disk request, or short of CPU time: the signal waits. Whoever took it for running would leave it to
/// stop later, with nobody to continue it.
pub const STOPPING: &str = "stopping";
pub const RUNNING: &str = "running";
pub const IDLE: &str = "idle";

fn stop_or_continue(member: &Member, value: &str) -> nix::Result<()> {
    let signal = if value == STOPPED { libc::SIGSTOP } else { libc::SIGCONT };
    let process = Pinned::open(member.pid).map_err(|_| Errno::EPERM)?.filter(|found| found.start == member.start);
    process.ok_or(Errno::ESRCH)?.signal(signal)
}

fn set_nice(thread: i32, nice: i32) -> nix::Result<()> {
    let thread = u32::try_from(thread).map_err(|_| Errno::ESRCH)?;
    // SAFETY: numbers alone.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, nice) }).map(drop)
}

fn io_class(thread: i32) -> Option<String> {
    // SAFETY: numbers alone.
    let found = Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_IS_A_THREAD, thread) }).ok()?;
    let (class, level) = (found >> CLASS_SHIFT, found & 0xff);
    Some(match class {
        1 => format!("realtime {level}"),
        2 => format!("best-effort {level}"),
        3 => IDLE.to_owned(),
        // Kernels before 5.19 tell a level here that they do not take back.
        _ => "none".to_owned(),
    })
}

/// Classes in their order, and within one the levels from 0 to 7; none of its own is best-effort in the middle.
fn io_strictness(value: &str) -> Option<f64> {
    const LEVELS: f64 = 8.0;
    let level = |text: &str| text.parse::<u8>().ok().map(f64::from);
    match value.split_once(' ') {
        Some(("realtime", text)) => level(text),
        Some(("best-effort", text)) => Some(LEVELS + level(text)?),
        None if value == "none" => Some(LEVELS + 4.0),
        None if value == IDLE => Some(2.0 * LEVELS),
        Some(_) | None => None,
    }
}

fn set_io_class(thread: i32, value: &str) -> nix::Result<()> {
    let level = |level: &str| level.parse::<i32>().map_err(|_| Errno::EINVAL);
    let wanted = match value.split_once(' ') {
        Some(("realtime", found)) => 1 << CLASS_SHIFT | level(found)?,
        Some(("best-effort", found)) => 2 << CLASS_SHIFT | level(found)?,
        Some(_) => return Err(Errno::EINVAL),
        None if value == IDLE => 3 << CLASS_SHIFT,
        None => 0,
    };
    // SAFETY: numbers alone.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_IS_A_THREAD, thread, wanted) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_so_many_steps_of_niceness() {
        let steps = [(100.0, 1), (80.0, 1), (50.0, 3), (25.0, 6), (10.0, 10), (1.0, 19), (0.0, 19)];
        for (kept, nice) in steps {
            assert_eq!(nicer(0, kept), nice, "{kept} %");
        }
        assert_eq!((nicer(-5, 50.0), nicer(15, 1.0)), (-2, 19));
    }

    #[test]
    fn who_waits_for_everybody_else_is_strictest() {
        let classes = ["realtime 0", "realtime 7", "best-effort 0", "none", "best-effort 7", IDLE];
        let order: Vec<f64> = classes.iter().map(|class| Knob::Io.strictness(class).unwrap()).collect();
        assert!(order.is_sorted_by(|one, next| one < next), "{order:?}");
        assert!(Knob::Nice.strictness("-5") < Knob::Nice.strictness("3"));
        assert_eq!(Knob::State.strictness(STOPPING), None, "neither yet");
    }
}
