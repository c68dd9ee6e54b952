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

/// Points a second by which a metric gets worse that will come to its end within the hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Growth(f64);

/// A trouble that grows less than half as fast was slowed.
const SLOWED: f64 = 0.5;

impl Growth {
    /// Whether what grew like this has been slowed to so many points a second, or gets better.
    #[must_use]
    pub fn is_slowed(self, pace: f64) -> bool {
        pace < self.0 * SLOWED
    }

    /// The same where it does not get better either, as what goes up and down by itself does.
    #[must_use]
    pub fn is_stopped(self, pace: f64) -> bool {
        pace.abs() < self.0 * SLOWED
    }

    #[must_use]
    pub const fn pace(self) -> f64 {
        self.0
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

    /// By how much the rule's metric gets worse in a second, over half a minute.
    pub(super) fn pace(&self, index: usize) -> Option<f64> {
        let (slot, _, sign) = self.subject(index)?;
        Some(self.slots.pace(slot)? * sign)
    }

    /// How fast it does, where it has done so for three quarters of a minute. What grew for less may have come to its own
    /// end, as a job does that has taken what it needs.
    pub(super) fn long_growth(&self, index: usize) -> Option<Growth> {
        let (_, _, sign) = self.subject(index)?;
        let pace = self.pace(index).filter(|_| self.has_grown(index))?;
        self.seconds_left(index, Some(pace * sign)).filter(|left| *left <= WITHIN_THE_HOUR)?;
        Some(Growth(pace))
    }

    pub(super) fn has_grown(&self, index: usize) -> bool {
        self.subject(index).is_some_and(|(slot, _, sign)| self.slots.has_grown(slot, sign))
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
