//! Signs of life of the threads that must not hang unseen. Each thread writes its own, the loop reads them; no lock, so
//! that neither ever waits for the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::policy::moment::Moment;

/// A thread that gives no sign for this long, and is in no call that may last, hangs. The longest wait that anything here
/// allows itself is a conversation of 1.5 s; a node on which every thread is late for ten is beyond a restart's help.
pub(crate) const OVERDUE_AFTER: Duration = Duration::from_secs(10);

/// What a thread does, in the lowest bits; the milliseconds since boot are above.
const STATE_BITS: u32 = 2;
const IDLE: u64 = 0;
const WORKING: u64 = 1;
const WAITING: u64 = 2;
const ENDED: u64 = 3;

/// One thread's own.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

/// What can be told of a thread from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sign {
    Well,
    /// It has been in a call that nobody can bound for this long: that is the disk's fault and no hang of ours.
    Waiting(Duration),
    /// No sign for this long.
    Overdue(Duration),
    Ended,
}

impl Heartbeat {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// It waits for work, which may take for ever.
    pub(crate) fn idle(&self) {
        self.note(IDLE);
    }

    /// It works from now on, or still does.
    pub(crate) fn beat(&self) {
        self.note(WORKING);
    }

    /// It goes into a call that nobody can bound.
    pub(crate) fn wait(&self) {
        self.note(WAITING);
    }

    fn note(&self, state: u64) {
        let ms = clock::now().map_or(0, |now| now.since_origin().as_millis());
        let ms = u64::try_from(ms).unwrap_or_default();
        self.0.store(ms << STATE_BITS | state, Ordering::Release);
    }

    #[must_use]
    pub(crate) fn sign(&self, now: Moment) -> Sign {
        let noted = self.0.load(Ordering::Acquire);
        let since = now.since(Moment::at(Duration::from_millis(noted >> STATE_BITS)));
        match noted & ((1 << STATE_BITS) - 1) {
            WAITING => Sign::Waiting(since),
            WORKING if since >= OVERDUE_AFTER => Sign::Overdue(since),
            ENDED => Sign::Ended,
            _ => Sign::Well,
        }
    }
}

/// Held by a thread for as long as it lives: whoever looks sees when it panics.
#[derive(Debug)]
pub(crate) struct Alive(pub Arc<Heartbeat>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.note(ENDED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_works_can_be_overdue() {
        let heartbeat = Heartbeat::new();
        let (now, later) = (clock::now().unwrap(), |now: Moment, after: u64| now + Duration::from_secs(after));
        heartbeat.idle();
        assert_eq!(heartbeat.sign(later(now, 3600)), Sign::Well);
        heartbeat.beat();
        assert_eq!(heartbeat.sign(later(now, 9)), Sign::Well);
        assert!(
            matches!(heartbeat.sign(later(now, 11)), Sign::Overdue(since) if since.as_secs() == 10 || since.as_secs() == 11)
        );
        heartbeat.wait();
        assert!(matches!(heartbeat.sign(later(now, 60)), Sign::Waiting(since) if since.as_secs() >= 59));
        drop(Alive(Arc::clone(&heartbeat)));
        assert_eq!(heartbeat.sign(now), Sign::Ended);
    }
}
