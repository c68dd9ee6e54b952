//! How often something is read whose cost grows with the node: a thousand interfaces or devices take milliseconds, and once
//! a second that is more than the guardian may cost. What a rule is about to act on is read at the loop's own pace.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::policy::moment::Moment;

/// One part in so many of a core: 4 ms, with 1,000 interfaces, are then due every 2 s.
const SHARE: u32 = 500;
/// Rates over longer than this would not show what matters.
const AT_LEAST_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Thrift {
    due: Moment,
    /// Somebody needs it now.
    in_need: bool,
}

impl Default for Thrift {
    fn default() -> Self {
        Self { due: Moment::ORIGIN, in_need: false }
    }
}

impl Thrift {
    #[must_use]
    pub fn is_due(&self, now: Moment) -> bool {
        self.in_need || now >= self.due
    }

    /// It took so much CPU time.
    pub fn spend(&mut self, now: Moment, cost: Duration) {
        // A tick that comes a little early is not put off.
        self.due = now + (cost * SHARE).min(AT_LEAST_EVERY) * 9 / 10;
    }

    pub fn set_need(&mut self, in_need: bool) {
        self.in_need = in_need;
    }
}

/// CPU time of this thread.
#[must_use]
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dear_is_seldom_read_unless_it_is_needed() {
        let mut thrift = Thrift::default();
        let at = |milliseconds| Moment::at(Duration::from_millis(milliseconds));
        assert!(thrift.is_due(at(1)));
        thrift.spend(at(1000), Duration::from_micros(20));
        assert!(thrift.is_due(at(1010)), "it costs next to nothing");
        thrift.spend(at(1000), Duration::from_millis(4));
        assert!(!thrift.is_due(at(2000)) && thrift.is_due(at(3000)));
        thrift.set_need(true);
        assert!(thrift.is_due(at(1100)));
        thrift.set_need(false);
        thrift.spend(at(1000), Duration::from_secs(1));
        assert!(thrift.is_due(at(11_000)));
    }
}
