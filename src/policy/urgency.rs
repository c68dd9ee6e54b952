//! How soon an emergency could come: the headroom to the nearest threshold divided by the fastest plausible fill rate.
//! The pace follows it, so that a node far from its limits is sampled once a second and one near them in milliseconds.

use std::time::Duration;

use super::guardian::Guardian;
use super::metric::Metric;
use super::severity::Severity;
use super::view::State;

/// Memory is not filled faster than this by touching it: measured ceiling 4.2 GB/s on two cores, and earlyoom assumes
/// 6000 MiB/s.
const FASTEST_FILL: f64 = 6e9;

impl Guardian {
    /// The shortest time in which memory could cross the threshold of an emergency rule that does not fire yet.
    #[must_use]
    pub fn soonest_crossing(&self) -> Option<Duration> {
        let rules = self.plan().rules().iter().zip(self.plan().programs());
        let readings = self.readings();
        rules
            .enumerate()
            .filter(|(index, (rule, _))| rule.severity == Severity::Emergency && self.state_of(*index) != State::Firing)
            .flat_map(|(_, (_, programs))| programs.when.comparisons())
            .filter(|compare| compare.towards_worse() == Some(true))
            .filter_map(|compare| {
                let operand = &self.plan().operands()[compare.slot];
                let value = readings.get(compare.slot)?.known()?;
                let total = self.memory_total()?;
                let gap = (value - compare.threshold).abs();
                let crossed = compare.relation.holds(value, compare.threshold);
                let bytes = match (operand.metric, operand.function) {
                    (Metric::MemoryAvailableBytes, None) => gap,
                    (Metric::MemoryAvailablePercent | Metric::MemoryUsedPercent, None) => gap / 100.0 * total,
                    _ => return None,
                };
                Duration::try_from_secs_f64(if crossed { 0.0 } else { bytes } / FASTEST_FILL).ok()
            })
            .min()
    }
}
