//! How much time is left until the resource of a rule runs out, by the trend of its metric: it sets the pace of the
//! ladder. With little of it, reversible rungs are not waited for.

use std::time::Duration;

use super::super::unit::Unit;
use super::Guardian;

impl Guardian {
    /// The trend leaves less time than a rung takes that settles for so long.
    pub(super) fn hurries(&self, index: usize, settle: Duration) -> bool {
        self.seconds_left(index, self.slots_trend(index)).is_some_and(|left| left < settle.as_secs_f64())
    }

    /// Seconds until the metric of the rule's condition comes to its end, at the trend that can be believed; `None` where
    /// there is none, or it leads away from there.
    pub(super) fn seconds_to_exhaustion(&self, index: usize) -> Option<f64> {
        let (slot, ..) = self.subject(index)?;
        self.seconds_left(index, Some(self.slots.slope(slot)))
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
