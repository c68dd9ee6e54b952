//! How much time is left until the resource of a rule runs out, by the trend of its metric: it sets the pace of the
//! ladder. With little of it, reversible rungs are not waited for.

use std::time::Duration;

use super::super::unit::Unit;
use super::Guardian;

/// Less time than this is none.
const SHORTEST: f64 = 0.05;
/// No ladder has more.
const MOST_RUNGS: f64 = 100.0;
/// What takes longer to run out is nothing that a ladder of seconds is for.
const WITHIN_THE_HOUR: f64 = 3600.0;

/// Points a second by which a metric gets worse; `None` where it does not, or not within the hour.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Growth {
    /// Over seconds.
    fast: Option<f64>,
    /// Over minutes: it is still seen for a minute or two after it has ended.
    slow: Option<f64>,
}

/// A trouble that grows less than half as fast was slowed.
const SLOWED: f64 = 0.5;

impl Growth {
    /// Whether what grew like this has been slowed, by the same measure. `None` where nothing grew.
    #[must_use]
    pub fn is_slowed(self, now: Growth) -> Option<bool> {
        let slowed = |before: f64, now: Option<f64>| now.unwrap_or(0.0) < before * SLOWED;
        match (self.fast, self.slow) {
            (Some(before), _) => Some(slowed(before, now.fast)),
            (None, Some(before)) => Some(slowed(before, now.slow)),
            (None, None) => None,
        }
    }

    /// Only what is seen over minutes, which is too late to say at once.
    #[must_use]
    pub const fn is_slow(self) -> bool {
        self.fast.is_none() && self.slow.is_some()
    }
}

impl Guardian {
    /// How many rungs that settle for so long are not to be waited for: as many as would use up the time that the trend
    /// leaves; none where one has its time.
    pub(super) fn rungs_in_time(&self, index: usize, settle: Duration) -> u32 {
        let Some(left) = self.seconds_left(index, self.slots_trend(index)) else { return 0 };
        let rungs = (settle.as_secs_f64() / left.max(SHORTEST)).floor();
        rungs.clamp(0.0, MOST_RUNGS) as u32
    }

    /// Seconds until the metric of the rule's condition comes to its end, at the trend that can be believed; `None` where
    /// there is none, or it leads away from there.
    pub(super) fn seconds_to_exhaustion(&self, index: usize) -> Option<f64> {
        let (slot, ..) = self.subject(index)?;
        self.seconds_left(index, Some(self.slots.slope(slot)))
    }

    /// How fast the rule's metric gets worse, by the trends that can be believed.
    pub(super) fn growth(&self, index: usize) -> Growth {
        let Some((slot, _, sign)) = self.subject(index) else { return Growth::default() };
        let of = |slope: f64| {
            let left = self.seconds_left(index, Some(slope))?;
            (left <= WITHIN_THE_HOUR).then_some(sign * slope)
        };
        Growth { fast: of(self.slots.slope(slot)), slow: of(self.slots.drift(slot)) }
    }

    /// The quick trend of the rule's metric.
    fn slots_trend(&self, index: usize) -> Option<f64> {
        let (slot, ..) = self.subject(index)?;
        self.slots.quick_slope(slot)
    }

    fn seconds_left(&self, index: usize, slope: Option<f64>) -> Option<f64> {
        let (slot, _, sign) = self.subject(index)?;
        let operand = &self.plan.operands()[slot];
        if !operand.metric.runs_out() {
            return None;
        }
        let value = self.slots.readings()[slot].known()?;
        let end = match (operand.function, operand.unit(), sign > 0.0) {
            (Some(super::super::condition::Function::Rate), ..) => return None,
            (_, Unit::Percent, true) => 100.0,
            (_, _, false) => 0.0,
            (_, _, true) => return None,
        };
        let slope = slope.filter(|slope| slope * sign > 0.0)?;
        Some(((end - value) / slope).max(0.0))
    }
}
