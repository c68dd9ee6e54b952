//! What time it is, and being woken in time. The one place that asks the clock: everyone else is told.
//! Moments count from boot and go on during suspend, so that a cooldown is over when it is over.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};

use crate::policy::moment::Moment;

/// Since boot, suspend included.
///
/// # Errors
/// When the kernel has no such clock (before 2.6.39).
pub fn now() -> nix::Result<Moment> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(|time| Moment::at(Duration::from(time)))
}

/// Wall clock, for people and for the journal; 0 where it stands before 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0, |time| {
        let milliseconds = i128::from(time.tv_sec()) * 1000 + i128::from(time.tv_nsec() / 1_000_000);
        u64::try_from(milliseconds).unwrap_or(0)
    })
}

/// A descriptor that becomes readable at a moment: 60 µs late at most under round-robin scheduling with four-fold
/// oversubscription, where an event loop's own timers are 2 ms late.
#[derive(Debug)]
pub struct Timer {
    timer: TimerFd,
}

impl Timer {
    /// Not armed yet.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(timerfd::ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Self { timer })
    }

    /// Replaces what was armed; a moment that is past wakes at once.
    ///
    /// # Errors
    /// When the kernel refuses the moment.
    pub fn arm(&mut self, due: Moment) -> nix::Result<()> {
        // Zero would disarm.
        let at = due.since_origin().max(Duration::from_nanos(1));
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(at)), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }

    /// Whether it has gone off since it was armed or asked last.
    ///
    /// # Errors
    /// When the descriptor cannot be read.
    pub(crate) fn expired(&self) -> nix::Result<bool> {
        let mut count = [0; 8];
        match nix::unistd::read(&self.timer, &mut count) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn time_goes_on() {
        let before = now().unwrap();
        assert!(now().unwrap() >= before);
        assert!(before > Moment::ORIGIN);
        // 2020-01-01
        assert!(unix_ms() > 1_577_836_800_000);
    }

    #[test]
    fn the_timer_goes_off_at_its_moment_and_once() {
        let mut timer = Timer::new().unwrap();
        let due = now().unwrap() + Duration::from_millis(20);
        timer.arm(due).unwrap();
        assert!(!timer.expired().unwrap());
        assert_eq!(poll(&mut [PollFd::new(timer.as_fd(), PollFlags::POLLIN)], PollTimeout::MAX).unwrap(), 1);
        let woken = now().unwrap();
        assert!(woken >= due, "{woken} before {due}");
        assert!(timer.expired().unwrap());
        assert!(!timer.expired().unwrap());
    }

    #[test]
    fn a_moment_that_is_past_wakes_at_once() {
        let mut timer = Timer::new().unwrap();
        timer.arm(Moment::ORIGIN).unwrap();
        assert_eq!(poll(&mut [PollFd::new(timer.as_fd(), PollFlags::POLLIN)], PollTimeout::MAX).unwrap(), 1);
        assert!(timer.expired().unwrap());
        timer.arm(now().unwrap() + Duration::from_secs(3600)).unwrap();
        assert!(!timer.expired().unwrap());
    }
}
