//! How far apart samples are meant to be. A machine that was suspended and a process that was stopped saw nothing in the
//! meantime: that time must never count as if it had been watched.

use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spacing(Option<Duration>);

/// A node that is short of CPU or memory may keep us waiting for a second or two, and all of it is watched.
const ALWAYS_SEEN: Duration = Duration::from_secs(3);
/// So many samples in a row that did not come were not late, but left out.
const LEFT_OUT: u32 = 3;

/// The time between two samples.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Passed {
    pub watched: Duration,
    pub unseen: Duration,
}

impl Spacing {
    /// Samples come when they come, and what lies between two of them was as they say.
    pub const ANY: Spacing = Spacing(None);

    #[must_use]
    pub const fn every(pace: Duration) -> Self {
        Self(Some(pace))
    }

    /// Of the time between two samples, what nobody saw: after a gap only the usual pace counts.
    #[must_use]
    pub(crate) fn unseen(self, passed: Duration) -> Duration {
        match self.0 {
            Some(pace) if passed > ALWAYS_SEEN.max(pace * LEFT_OUT) => passed - pace,
            Some(_) | None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_as_the_pace_and_a_late_sample_as_it_is() {
        let seconds = Duration::from_secs;
        let spacing = Spacing::every(seconds(1));
        assert_eq!(spacing.unseen(seconds(1)), Duration::ZERO);
        assert_eq!(spacing.unseen(seconds(3)), Duration::ZERO);
        assert_eq!(spacing.unseen(seconds(3600)), seconds(3599));
        assert_eq!(Spacing::every(seconds(60)).unseen(seconds(170)), Duration::ZERO);
        assert_eq!(Spacing::every(Duration::from_millis(5)).unseen(seconds(3)), Duration::ZERO);
        assert_eq!(Spacing::ANY.unseen(seconds(3600)), Duration::ZERO);
    }
}
