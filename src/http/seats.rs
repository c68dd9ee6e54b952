//! How many connections each way in may hold. When all seats are taken, a newcomer takes the seat of whoever has been
//! waiting longest (between requests, sending a head slowly, or reading an answer slowly), so that slow clients can
//! never lock out a probe. Only if every seat is at work on a request is the newcomer turned away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::task::AbortHandle;

/// In place of a time: the handler of a request is running.
const AT_WORK: u64 = u64::MAX;

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
}

impl Pulse {
    pub fn works(&self) {
        self.waiting_us.store(AT_WORK, Ordering::Relaxed);
    }

    pub fn waits(&self) {
        self.waiting_us.store(micros(self.since), Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    Free,
    /// Somebody was sent away for it.
    Made,
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

    pub fn make_room(&self) -> Room {
        let mut taken = self.taken();
        if taken.len() < self.most {
            return Room::Free;
        }
        let waiting = |seat: &Seat| seat.pulse.waiting_us.load(Ordering::Relaxed);
        let longest = taken.iter().enumerate().map(|(at, seat)| (waiting(seat), at)).min();
        match longest {
            Some((since, at)) if since != AT_WORK => {
                taken.swap_remove(at).task.abort();
                Room::Made
            }
            Some(_) | None => Room::None,
        }
    }

    #[must_use]
    pub fn guard(self: &Arc<Self>) -> Seated {
        let pulse = Pulse { since: self.since, waiting_us: AtomicU64::new(micros(self.since)) };
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
    u64::try_from(since.elapsed().as_micros()).unwrap_or(AT_WORK - 1)
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
        assert_eq!(seats.make_room(), Room::None);
        guests[1].pulse.waits();
        assert_eq!(seats.make_room(), Room::Made);
        assert!(tasks.into_iter().nth(1).unwrap().await.unwrap_err().is_cancelled());
        assert_eq!(seats.make_room(), Room::Free);
    }
}
