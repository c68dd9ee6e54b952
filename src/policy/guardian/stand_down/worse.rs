//! Whether the metric of a rule is worse than it was: by more than it moves anyway, and than it gets by itself while
//! everything is in force (`by_itself.rs`). Or the resource runs out.

use std::sync::Arc;

use super::super::super::verdict::Verdict;
use super::super::Guardian;
use super::by_itself::{Gauge, SLIGHTLY};

/// While the resource is used up within this time, nothing is given back.
const TOO_SOON: f64 = 300.0;
/// Of the way from the threshold to the end of the metric: what counts as worse during a test, and what as a new trouble
/// after it. Below, it is what the metric does anyway.
pub const WORSE: f64 = 0.1;
const MUCH_WORSE: f64 = 0.25;
/// So many spreads of the readings are no noise.
const SPREADS: f64 = 4.0;

/// What a metric read. A condition has several, and another one may hold later: only the same one is compared.
#[derive(Clone, Debug)]
pub struct Mark {
    gauge: Gauge,
    value: f64,
    /// Whether the condition held then.
    held: bool,
}

impl Mark {
    #[must_use]
    pub fn name(&self) -> String {
        self.gauge.operand().to_string()
    }

    #[must_use]
    pub const fn value(&self) -> f64 {
        self.value
    }

    /// As it was before, where that is known of the same.
    #[must_use]
    pub fn since(self, known: Option<&(Arc<str>, f64)>) -> Self {
        let value = known.filter(|(name, _)| **name == *self.name()).map_or(self.value, |(_, value)| *value);
        Self { value, ..self }
    }
}

pub struct Worse {
    pub gauge: Gauge,
    /// Than when everything was in force.
    pub by: f64,
    pub because: String,
}

impl Guardian {
    pub(super) fn metric_of(&self, index: usize) -> Option<Mark> {
        let (slot, ..) = self.subject(index)?;
        let value = self.slots.readings()[slot].known()?;
        let held = self.lives[index].when() == Verdict::True;
        Some(Mark { gauge: self.gauge(index)?, value, held })
    }

    /// What the rule's condition is about, as it is now.
    pub(super) fn gauge(&self, index: usize) -> Option<Gauge> {
        let (slot, threshold, sign) = self.subject(index)?;
        Some(Gauge::new(Arc::clone(&self.plan.operands()[slot]), threshold, sign))
    }

    /// Too little time is left to give anything back. A trend that turned by itself before says that only where it is as
    /// bad as it was then.
    pub(super) fn runs_out(&self, index: usize) -> bool {
        let is_soon = self.seconds_to_exhaustion(index).is_some_and(|left| left < TOO_SOON);
        is_soon && self.gauge(index).is_none_or(|gauge| self.is_at_its_worst(index, &gauge))
    }

    fn is_at_its_worst(&self, index: usize, gauge: &Gauge) -> bool {
        let worst = self.stands[index].by_itself().worst(gauge);
        let reading = self.reading(gauge);
        worst.zip(reading).is_none_or(|(worst, (_, reading))| gauge.worse_by(reading, worst) >= 0.0)
    }

    /// With its slot.
    pub(super) fn reading(&self, gauge: &Gauge) -> Option<(usize, f64)> {
        let slot = self.plan.operands().iter().position(|known| **known == *gauge.operand())?;
        Some((slot, self.slots.readings()[slot].known()?))
    }

    pub(super) fn worse_in_test(&self, index: usize, from: Option<&Mark>) -> Option<Worse> {
        self.got_worse(index, from?, WORSE)
    }

    /// A trouble that the ladder is for, though it has stood down: not before its condition holds.
    pub(super) fn much_worse(&self, index: usize, from: Option<&Mark>) -> Option<Worse> {
        self.got_worse(index, from?, MUCH_WORSE).filter(|_| self.lives[index].when() == Verdict::True)
    }

    fn got_worse(&self, index: usize, from: &Mark, share: f64) -> Option<Worse> {
        let Mark { gauge, value, held } = from;
        let (slot, actual) = self.reading(gauge)?;
        let known = self.stands[index].by_itself().worst(gauge).filter(|worst| gauge.is_beyond_threshold(*worst));
        let reference = known.map_or(*value, |worst| gauge.worse_of(worst, *value));
        let beyond = gauge.worse_by(actual, reference);
        let room = gauge.room(*value);
        let margin = (share * room).max(SPREADS * self.slots.spread(slot));
        let holds_again = !held && known.is_none() && self.lives[index].when() == Verdict::True;
        let grows_again = || self.stands[index].held_a_growth() && self.has_grown(index);
        let is_slightly = beyond > SLIGHTLY * room && (holds_again || self.runs_out(index) || grows_again());
        if beyond <= margin && !is_slightly {
            return None;
        }
        let operand = gauge.operand();
        let because = format!("{operand} {} → {}", operand.show(*value), operand.show(actual));
        Some(Worse { gauge: gauge.clone(), by: gauge.worse_by(actual, *value), because })
    }
}
