//! What time it is, for the edges only: the policy is told. Moments are counted from boot and go on during suspend, so
//! that they mean the same to every process of this boot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use crate::policy::moment::Moment;

#[must_use]
pub fn now() -> Moment {
    // CLOCK_BOOTTIME is there since Linux 2.6.39; without it time stands still rather than the daemon.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Moment::ORIGIN, |time| Moment::at(Duration::from(time)))
}

#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
