//! Time as a value. The policy never asks what time it is: every call is told, so the same code runs live,
//! in `replay` and in tests. A moment is a distance from an origin that the caller chooses (boot, or 0 in a trace).

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Moment(Duration);

impl Moment {
    pub const ORIGIN: Moment = Moment(Duration::ZERO);

    #[must_use]
    pub const fn at(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    #[must_use]
    pub(crate) const fn since_origin(self) -> Duration {
        self.0
    }

    /// Zero when `earlier` is in fact later: time that goes backwards never makes anything older.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    #[must_use]
    pub const fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, later: Duration) -> Moment {
        Moment(self.0.saturating_add(later))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, earlier: Duration) -> Moment {
        Moment(self.0.saturating_sub(earlier))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0.as_secs_f64())
    }
}
