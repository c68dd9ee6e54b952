//! What keeps us alive and on time when everything else is not: real-time scheduling, locked memory, the last place in
//! the queue of the out-of-memory killer. Each may be refused; then it is reported, with what to do, and lived without.

mod confine;
pub mod layout;
pub(crate) mod overrun;
mod stack;
mod tables;
mod trust;
pub mod wiping;

pub(crate) use confine::confine;
pub(crate) use trust::trusts;

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::status::BlindSpot;

/// Who is scheduled in real time, and how: low among real-time priorities, so above all normal work and below the kernel's
/// own threads (50) and watchdogs (99). Acting never holds up the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Urgency {
    Acting = 9,
    Loop = 10,
}

/// As systemd-oomd protects itself; -1000 would hide a leak of ours from the kernel for ever.
const OOM_SCORE: i32 = -900;
/// Bit of `CAP_IPC_LOCK` in `CapEff`.
const IPC_LOCK: u32 = 14;
/// Bit of `CAP_SYS_NICE`.
const SYS_NICE: u32 = 23;

/// For the calling thread alone: what it spawns later is scheduled as usual.
#[must_use]
pub fn schedule_in_real_time(urgency: Urgency) -> Option<BlindSpot> {
    let priority = urgency as libc::c_int;
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    overrun::leave_in_time();
    // SAFETY: the kernel's `sched_param` is one int, which it reads. musl's own wrapper only says ENOSYS.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    Errno::result(answer).err().map(|errno| BlindSpot {
        what: "real-time scheduling".to_owned(),
        why: format!(
            "refused ({}): ticks come late while all cores are busy; grant CAP_SYS_NICE, or LimitRTPRIO={priority} and \
             CPUSchedulingPolicy=rr in the unit",
            errno.desc()
        ),
    })
}

/// Everything mapped now stays; what is mapped later stays once it was touched, which costs nothing for what never is
/// (0.4 MB less than locking all of it). Call it before threads start.
#[must_use]
pub fn lock_memory(proc_root: &Path) -> Option<BlindSpot> {
    let refused = |why: String| BlindSpot { what: "locked memory".to_owned(), why };
    // Under a limit, locking what comes later would make a later allocation fail: that is worse than being slow.
    if !may_lock_everything(proc_root) {
        return Some(refused(
            "not tried: without CAP_IPC_LOCK, or LimitMEMLOCK=infinity in the unit, a later allocation could fail; the \
             guardian may stall while the node swaps"
                .to_owned(),
        ));
    }
    let outcome = mlockall(MlockAllFlags::MCL_CURRENT).and_then(|()| lock_later_on_touch());
    tables::let_go();
    stack::let_go(proc_root);
    outcome.err().map(|errno| {
        refused(format!("refused ({}): the guardian may stall while the node swaps; grant CAP_IPC_LOCK", errno.desc()))
    })
}

fn lock_later_on_touch() -> nix::Result<()> {
    let flags = libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: flags alone; nix does not know MCL_ONFAULT.
    Errno::result(unsafe { libc::mlockall(flags) }).map(drop)
}

fn may_lock_everything(proc_root: &Path) -> bool {
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    unlimited || fs::read_to_string(proc_root.join("self/status")).is_ok_and(|status| has_capability(&status, IPC_LOCK))
}

/// Whether the niceness of other processes can be lowered again. Within a namespace of users, a capability is not enough.
#[must_use]
pub(crate) fn may_schedule_others() -> bool {
    let is_first = fs::read_to_string("/proc/self/uid_map")
        .is_ok_and(|map| map.split_ascii_whitespace().eq(["0", "0", "4294967295"]));
    is_first && fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| has_capability(&status, SYS_NICE))
}

fn has_capability(status: &str, bit: u32) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|set| set >> bit & 1 == 1)
}

/// Where the kernel's knobs can be turned: a container is shown its node's /proc read-only, and has one of its own, of the
/// same kernel.
#[must_use]
pub(crate) fn writable_proc(proc_root: &Path) -> &Path {
    let read_only = statvfs(proc_root).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    if read_only { Path::new("/proc") } else { proc_root }
}

/// Leaves a score alone that protects as well already, as a unit's `OOMScoreAdjust=` does.
#[must_use]
pub(crate) fn protect_from_oom_killer(proc_root: &Path) -> Option<BlindSpot> {
    let path = proc_root.join("self/oom_score_adj");
    lower_score(&path).err().map(|error| BlindSpot {
        what: path.display().to_string(),
        why: format!(
            "{error}: the kernel may end the guardian when memory runs out; grant CAP_SYS_RESOURCE, or set \
             OOMScoreAdjust={OOM_SCORE} in the unit"
        ),
    })
}

fn lower_score(path: &Path) -> io::Result<()> {
    let score: Option<i32> = fs::read_to_string(path)?.trim().parse().ok();
    if score.is_some_and(|score| score <= OOM_SCORE) {
        return Ok(());
    }
    fs::write(path, OOM_SCORE.to_string())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    fn policy_of_this_thread() -> i64 {
        // SAFETY: 0 is the calling thread.
        unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) }
    }

    #[test]
    fn real_time_is_for_the_calling_thread_alone_or_says_why_not() {
        let outcome = thread::spawn(|| {
            (schedule_in_real_time(Urgency::Loop), policy_of_this_thread(), thread_spawned_from_here())
        });
        let (refused, here, spawned) = outcome.join().unwrap();
        match refused {
            None => assert_eq!(here & 0xff, i64::from(libc::SCHED_RR)),
            Some(spot) => assert!(spot.why.contains("CAP_SYS_NICE"), "{spot:?}"),
        }
        assert_eq!(spawned, i64::from(libc::SCHED_OTHER));
    }

    fn thread_spawned_from_here() -> i64 {
        thread::spawn(policy_of_this_thread).join().unwrap()
    }

    #[test]
    fn a_score_is_lowered_never_raised() {
        let proc_root = TempDir::new().unwrap();
        let path = proc_root.path().join("self/oom_score_adj");
        assert!(protect_from_oom_killer(proc_root.path()).unwrap().why.contains("OOMScoreAdjust=-900"));
        fs::create_dir(proc_root.path().join("self")).unwrap();
        for (before, after) in [("0\n", "-900"), ("-1000\n", "-1000\n"), ("-900\n", "-900\n"), ("garbage", "-900")] {
            fs::write(&path, before).unwrap();
            assert_eq!(protect_from_oom_killer(proc_root.path()), None);
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn what_can_be_written_is_left_where_it_is() {
        let proc_root = TempDir::new().unwrap();
        assert_eq!(writable_proc(proc_root.path()), proc_root.path());
        assert_eq!(writable_proc(Path::new("/nowhere")), Path::new("/nowhere"));
    }

    #[test]
    fn a_capability_is_one_bit() {
        assert!(has_capability("Name:\tx\nCapEff:\t0000000000004000\n", IPC_LOCK));
        assert!(!has_capability("Name:\tx\nCapEff:\t000001fffffbfff\n".replace("fbfff", "fabfff").as_str(), IPC_LOCK));
        assert!(!has_capability("CapEff:\tgarbage\n", IPC_LOCK) && !has_capability("", IPC_LOCK));
    }
}
