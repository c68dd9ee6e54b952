//! For how long something has been quiet, counted in watched time only. What was not watched, or not known, neither counts
//! nor ends it; only what was seen to be wanted begins it anew. It must never count by the clock.

use std::time::Duration;

/// Two are equal where they are so by the minute: that is what is worth writing down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quiet(Option<Duration>);

impl Quiet {
    #[must_use]
    pub const fn lasting(lasts: Option<Duration>) -> Self {
        Self(lasts)
    }

    /// `None` while it is not quiet, or nobody knows yet.
    #[must_use]
    pub(crate) const fn lasted(self) -> Option<Duration> {
        self.0
    }

    /// It is quiet now, and was for what was watched since the last look. Whether it has lasted that long.
    pub(crate) fn reaches(&mut self, watched: Duration, lasts: Duration) -> bool {
        let lasted = self.0.map_or(Duration::ZERO, |lasted| lasted + watched);
        self.0 = Some(lasted);
        lasted >= lasts
    }

    fn minutes(self) -> Option<u64> {
        self.0.map(|lasted| lasted.as_secs() / 60)
    }
}

impl PartialEq for Quiet {
    fn eq(&self, other: &Self) -> bool {
        self.minutes() == other.minutes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_watched_counts() {
        let seconds = Duration::from_secs;
        let mut quiet = Quiet::default();
        assert!(!quiet.reaches(seconds(600), seconds(10)), "that was before it was quiet");
        assert!(!quiet.reaches(seconds(9), seconds(10)));
        assert!(quiet.reaches(seconds(1), seconds(10)));
        assert_eq!(quiet.lasted(), Some(seconds(10)));
    }

    #[test]
    fn what_is_written_down_changes_by_the_minute() {
        let lasting = |seconds| Quiet::lasting(Some(Duration::from_secs(seconds)));
        assert_eq!(lasting(0), lasting(59));
        assert_ne!(lasting(59), lasting(60));
        assert_ne!(lasting(0), Quiet::default());
    }
}
