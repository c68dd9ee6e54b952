//! A real-time thread that computes without waiting takes a core from everything else, and where a unit sets
//! `LimitRTTIME=`, the kernel ends the process for it. Before that comes a signal: the thread then leaves real time and
//! goes on as an ordinary one, which is told. It does not come back before a restart.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use signal_hook::consts::SIGXCPU;
use signal_hook::low_level;

use crate::status::BlindSpot;

/// A tick computes for 0.2 ms, the thread that acts for 2 ms between two waits.
const AT_MOST: Duration = Duration::from_secs(1);

static HAS_LEFT: AtomicBool = AtomicBool::new(false);
/// In microseconds, as they were set.
static SOFT: AtomicU64 = AtomicU64::new(RLIM_INFINITY);
static HARD: AtomicU64 = AtomicU64::new(RLIM_INFINITY);

/// Before the first thread is scheduled in real time.
pub fn leave_in_time() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: a system call of plain numbers and an atomic operation, both allowed in a signal handler.
        let installed = unsafe { low_level::register(SIGXCPU, leave) };
        // Without the handler, the signal would end what it is to save.
        if installed.is_ok() {
            limit();
        }
    });
}

/// The kernel signals the thread that it is about.
fn leave() {
    let (policy, priority) = (libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0);
    // SAFETY: the kernel's `sched_param` is one int, which it reads; 0 is the calling thread.
    unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority) };
    HAS_LEFT.store(true, Ordering::Relaxed);
    limit_again();
}

/// With the signal the kernel raises the soft limit of all threads by a second: up to the hard one, as the unit sets it, and
/// the next thread to run away would be ended unasked.
fn limit_again() {
    let limit = libc::rlimit64 { rlim_cur: SOFT.load(Ordering::Relaxed), rlim_max: HARD.load(Ordering::Relaxed) };
    let nothing = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the kernel reads one structure, which lives until after the call, and writes nothing; 0 is this process.
    unsafe { libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_RTTIME, &raw const limit, nothing) };
}

/// Where a filter forbids it, the unit has set it (`LimitRTTIME=soft:hard`).
fn limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_RTTIME) else { return };
    let micros = u64::try_from(AT_MOST.as_micros()).unwrap_or(RLIM_INFINITY);
    let wanted = micros.min(hard / 2).min(soft);
    SOFT.store(wanted, Ordering::Relaxed);
    HARD.store(hard, Ordering::Relaxed);
    setrlimit(Resource::RLIMIT_RTTIME, wanted, hard).ok();
}

/// What there is to tell, once.
#[must_use]
pub fn told() -> Option<BlindSpot> {
    HAS_LEFT.swap(false, Ordering::Relaxed).then(|| BlindSpot {
        what: "real-time scheduling".to_owned(),
        why: format!(
            "left, because a thread computed for {} s without waiting: the guardian may be late while all cores are \
             busy; \
             restart node-guardian, and report this bug with its last commands",
            AT_MOST.as_secs()
        ),
    })
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::super::{Urgency, schedule_in_real_time};
    use super::*;

    fn policy() -> i64 {
        // SAFETY: 0 is the calling thread.
        unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) & 0xff }
    }

    #[test]
    fn a_thread_that_runs_away_leaves_real_time_and_lives() {
        let ran = thread::spawn(|| {
            if schedule_in_real_time(Urgency::Acting).is_some() {
                return None;
            }
            let limits = getrlimit(Resource::RLIMIT_RTTIME).unwrap();
            let until = Instant::now() + Duration::from_secs(30);
            while policy() == i64::from(libc::SCHED_RR) && Instant::now() < until {
                std::hint::spin_loop();
            }
            Some((policy(), told(), limits))
        });
        if let Some((policy, told, limits)) = ran.join().unwrap() {
            assert_eq!(policy, i64::from(libc::SCHED_OTHER));
            assert_eq!(getrlimit(Resource::RLIMIT_RTTIME), Ok(limits), "the next one is warned as well");
            assert!(told.unwrap().why.contains("restart node-guardian"));
        }
    }
}
