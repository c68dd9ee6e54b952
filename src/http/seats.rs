//! How many connections each way in may hold. When all seats are taken, a newcomer takes the seat of whoever has been
//! waiting longest (between requests, sending a head slowly, or reading an answer slowly), so that slow clients can
//! never lock out a probe. If nobody is, a probe takes the seat of whoever began last to wait for its turn, so that those
//! before it get theirs, and whoever else comes is turned away, as is everybody if every seat is at work on a request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::AbortHandle;

/// In place of a time: the handler of a request is running.
const AT_WORK: u64 = u64::MAX;
/// Beside the time since when: its request is read, and waits for its turn.
const QUEUED: u64 = 1 << 63;
/// A client that has just come is about to ask; while it shares its core with hundreds, that takes it a while.
const JUST_COME_US: u64 = 1_000_000;
/// One that had its answer may have another request.
const ANSWERED_US: u64 = 100_000;
/// Between an answer and the next request on the same connection: the next one was here already.
const AT_ONCE_US: u64 = 100;

#[derive(Debug)]
pub struct Seats {
    most: usize,
    since: Instant,
    taken: Mutex<Vec<Seat>>,
}

#[derive(Debug)]
struct Seat {
    pulse: Arc<Pulse>,
    task: AbortHandle,
}

/// Since when a connection waits for its client.
#[derive(Debug)]
pub struct Pulse {
    since: Instant,
    waiting_us: AtomicU64,
    answered: AtomicBool,
}

impl Pulse {
    pub fn works(&self) {
        self.waiting_us.store(AT_WORK, Ordering::Relaxed);
    }

    pub fn queues(&self) {
        self.waiting_us.store(micros(self.since) | QUEUED, Ordering::Relaxed);
    }

    /// Whether it has just got an answer, so that it is the turn of others.
    #[must_use]
    pub fn was_just_answered(&self) -> bool {
        let waits_since = self.waiting_us.load(Ordering::Relaxed);
        self.answered.load(Ordering::Relaxed) && micros(self.since).saturating_sub(waits_since) < AT_ONCE_US
    }

    /// In which its seat is nobody else's, while others only wait for their turn.
    fn grace_us(&self) -> u64 {
        if self.answered.load(Ordering::Relaxed) { ANSWERED_US } else { JUST_COME_US }
    }

    pub fn waits(&self) {
        self.answered.store(true, Ordering::Relaxed);
        self.waiting_us.store(micros(self.since), Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    Free,
    /// Somebody who was idle was sent away for it.
    Made,
    /// Somebody who waited for its turn was: there are more clients than seats.
    Taken,
    None,
}

/// Frees its seat when the connection ends, however it ends.
#[derive(Debug)]
pub struct Seated {
    seats: Arc<Seats>,
    pub pulse: Arc<Pulse>,
}

impl Seats {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, since: Instant::now(), taken: Mutex::default() })
    }

    /// For somebody who may be urgent; that is only asked where it matters.
    pub fn make_room(&self, is_urgent: impl FnOnce() -> bool) -> Room {
        let mut taken = self.taken();
        if taken.len() < self.most {
            return Room::Free;
        }
        let waiting = |seat: &Seat| seat.pulse.waiting_us.load(Ordering::Relaxed);
        let all = || taken.iter().enumerate().map(|(at, seat)| (waiting(seat), at));
        let idle = || all().filter(|(since, _)| since & QUEUED == 0);
        let now = micros(self.since);
        let is_over = |(since, at): &(u64, usize)| now.saturating_sub(*since) > taken[*at].pulse.grace_us();
        let (room, found) = match idle().filter(is_over).min() {
            Some(longest) => (Room::Made, Some(longest)),
            None => match all().filter(|(since, _)| since & QUEUED != 0 && *since != AT_WORK).max() {
                Some(last) => (Room::Taken, is_urgent().then_some(last)),
                None => (Room::Made, idle().min()),
            },
        };
        let Some((_, at)) = found else { return Room::None };
        taken.swap_remove(at).task.abort();
        room
    }

    #[must_use]
    pub fn guard(self: &Arc<Self>) -> Seated {
        let pulse = Pulse {
            since: self.since,
            waiting_us: AtomicU64::new(micros(self.since)),
            answered: AtomicBool::new(false),
        };
        Seated { seats: Arc::clone(self), pulse: Arc::new(pulse) }
    }

    /// To be called before the task first runs.
    pub fn seat(&self, pulse: Arc<Pulse>, task: AbortHandle) {
        self.taken().push(Seat { pulse, task });
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.seats.taken().retain(|seat| !Arc::ptr_eq(&seat.pulse, &self.pulse));
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(QUEUED - 1).min(QUEUED - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn the_longest_idle_gives_way_and_work_is_left_alone() {
        let seats = Seats::new(2);
        let guests: Vec<Seated> = (0..2).map(|_| seats.guard()).collect();
        let tasks: Vec<_> = (0..2).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for (guest, task) in guests.iter().zip(&tasks) {
            seats.seat(Arc::clone(&guest.pulse), task.abort_handle());
        }
        guests.iter().for_each(|guest| guest.pulse.works());
        assert_eq!(seats.make_room(|| true), Room::None);
        assert!(!guests[1].pulse.was_just_answered());
        guests[1].pulse.waits();
        assert_eq!(seats.make_room(|| true), Room::Made);
        assert!(tasks.into_iter().nth(1).unwrap().await.unwrap_err().is_cancelled());
        assert_eq!(seats.make_room(|| true), Room::Free);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn of_those_who_wait_for_their_turn_the_last_gives_way() {
        let seats = Seats::new(3);
        let guests: Vec<Seated> = (0..3).map(|_| seats.guard()).collect();
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(std::future::pending::<()>())).collect();
        for (guest, task) in guests.iter().zip(&tasks) {
            seats.seat(Arc::clone(&guest.pulse), task.abort_handle());
        }
        guests[0].pulse.works();
        for guest in [&guests[2], &guests[1]] {
            std::thread::sleep(std::time::Duration::from_millis(1));
            guest.pulse.queues();
        }
        assert_eq!(seats.make_room(|| false), Room::None, "it would take a seat from somebody like itself");
        assert_eq!(seats.make_room(|| true), Room::Taken);
        assert!(tasks.into_iter().nth(1).unwrap().await.unwrap_err().is_cancelled());
    }
}
