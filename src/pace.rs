//! How long until the next tick: a second when calm, milliseconds when memory could run out before then.

use std::time::Duration;

use crate::config::settings::Sampling;

/// In an emergency, while a rule is pending and while an action is under way everything is read ten times a second:
/// that costs 0.3 % of a core and pressure averages do not change faster.
const ALERT: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    calm: Duration,
    fastest: Duration,
}

/// How closely the node must be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    Calm,
    Alert,
}

impl Pace {
    #[must_use]
    pub const fn new(sampling: &Sampling) -> Self {
        Self { calm: sampling.interval, fastest: sampling.fast_interval }
    }

    /// Time between ticks, given the shortest time in which memory could cross an emergency threshold.
    #[must_use]
    pub fn until_next(&self, watch: Watch, soonest_crossing: Option<Duration>) -> Duration {
        let everything = self.until_everything(watch);
        match soonest_crossing {
            Some(soonest) => soonest.clamp(self.fastest.min(everything), everything),
            None => everything,
        }
    }

    /// Time between readings of everything; ticks in between read memory alone.
    #[must_use]
    pub fn until_everything(&self, watch: Watch) -> Duration {
        match watch {
            Watch::Calm => self.calm,
            Watch::Alert => ALERT.clamp(self.fastest.min(self.calm), self.calm),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { calm: Duration::from_secs(1), fastest: Duration::from_millis(5) };

    #[test]
    fn the_pace_follows_the_headroom() {
        let far = Some(Duration::from_secs(3));
        let near = Some(Duration::from_millis(60));
        assert_eq!(PACE.until_next(Watch::Calm, far), Duration::from_secs(1));
        assert_eq!(PACE.until_next(Watch::Calm, near), Duration::from_millis(60));
        assert_eq!(PACE.until_next(Watch::Calm, Some(Duration::ZERO)), Duration::from_millis(5));
        assert_eq!(PACE.until_next(Watch::Alert, None), Duration::from_millis(100));
    }

    #[test]
    fn a_slow_configuration_is_respected() {
        let slow = Pace { calm: Duration::from_millis(50), fastest: Duration::from_millis(50) };
        assert_eq!(slow.until_next(Watch::Alert, Some(Duration::ZERO)), Duration::from_millis(50));
    }
}
