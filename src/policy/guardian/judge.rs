//! What a step did to its rule's metric, against where that was heading; a step that does nothing time and again is left
//! out for a while. Steps that are taken at once are judged at once: nobody can tell them apart.

use std::sync::Arc;
use std::time::Duration;

use super::super::event::Event;
use super::super::life::Baseline;
use super::super::mitigation::{Lasting, Mitigation, Outcome, Verb};
use super::super::moment::Moment;
use super::super::unit::Unit;
use super::super::view::{Phase, Verdict};
use super::{Decisions, Guardian};

/// Closing less than a twentieth of the gap is noise.
const LEAST_EFFECT: f64 = 0.05;
/// So many times in a row without effect, and the step is left out.
const BREAKER_AFTER: u32 = 3;
const BREAKER_FIRST: Duration = Duration::from_secs(300);
const BREAKER_MOST: Duration = Duration::from_secs(3600);

impl Guardian {
    /// Slot, threshold and the direction that is bad (+1 high, -1 low) of the first comparison that holds.
    pub(super) fn subject(&self, index: usize) -> Option<(usize, f64, f64)> {
        let readings = self.slots.readings();
        let program = &self.plan.programs()[index].when;
        let holding = program.comparisons().find(|compare| compare.evaluate(readings) == Verdict::True);
        let compare = holding.or_else(|| program.comparisons().next())?;
        let sign = match compare.relation.symbol() {
            ">" | ">=" => 1.0,
            "<" | "<=" => -1.0,
            _ => return None,
        };
        Some((compare.slot, compare.threshold, sign))
    }

    /// Telling somebody is not meant to change the metric.
    pub(super) fn baseline(&self, now: Moment, index: usize, step: usize) -> Option<Baseline> {
        if self.plan.rules()[index].steps[step].mitigation.verb == Verb::Notify {
            return None;
        }
        let (slot, threshold, sign) = self.subject(index)?;
        let value = self.slots.readings()[slot].known().filter(|value| value.is_finite())?;
        Some(Baseline { step, at: now, slot, threshold, sign, value, slope: self.slots.slope(slot) })
    }

    /// Once the settle time is over: how much of the gap to the threshold did the step close, against the trend?
    pub(super) fn judge(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let Some(baseline) = self.lives[index].judged.take() else { return };
        let Some(actual) = self.slots.readings()[baseline.slot].known() else { return };
        let operand = &self.plan.operands()[baseline.slot];
        let effect = baseline.effect(now, actual, limits(operand));
        let plan = Arc::clone(&self.plan);
        for step in plan.rules()[index].rung(baseline.step) {
            let flat = plan.flat_step(index, step);
            let Some(mitigation) = self.judgeable(index, step, flat) else { continue };
            self.steps[flat].view.effect = Some(effect);
            let rule = Arc::clone(&plan.rules()[index].name);
            out.events.push(Event::Judged { rule, step, mitigation, effect: Some(effect) });
            self.count_effect(now, flat, effect >= LEAST_EFFECT, out);
        }
    }

    /// What of a step has been done, and is still there if it lasts.
    fn judgeable(&self, index: usize, step: usize, flat: usize) -> Option<Mitigation> {
        let view = &self.steps[flat].view;
        let step = &self.plan.rules()[index].steps[step];
        if view.skipped.is_some() || step.mitigation.verb == Verb::Notify {
            return None;
        }
        match step.mitigation.verb.lasting() {
            Lasting::Once => (view.outcome == Some(Outcome::Applied)).then(|| step.mitigation.clone()),
            Lasting::InForce => {
                let action = self.in_force.on(&self.plan.knob(&step.mitigation))?;
                let done = action.phase == Phase::InForce && step.is(&action.mitigation);
                (done && view.outcome == Some(Outcome::Applied)).then(|| action.mitigation.clone())
            }
        }
    }

    #[must_use]
    pub(super) fn breaker_is_open(&self, now: Moment, flat: usize) -> bool {
        self.steps[flat].view.breaker_until.is_some_and(|until| now < until)
    }

    /// Whether the step was seen to help when it was judged last.
    #[must_use]
    pub(super) fn has_credit(&self, flat: usize) -> bool {
        self.steps[flat].view.effect.is_some_and(|effect| effect >= LEAST_EFFECT)
    }

    pub(super) fn reset_breakers(&mut self) {
        for memory in &mut self.steps {
            (memory.idle, memory.opened, memory.view.breaker_until) = (0, 0, None);
        }
    }

    /// Opens the step's breaker when it has done nothing several times running.
    pub(super) fn count_effect(&mut self, now: Moment, flat: usize, helped: bool, out: &mut Decisions) {
        let memory = &mut self.steps[flat];
        if helped {
            memory.idle = 0;
            memory.opened = 0;
            memory.view.breaker_until = None;
            return;
        }
        memory.idle += 1;
        if memory.idle < BREAKER_AFTER {
            return;
        }
        let retry_in = BREAKER_FIRST.saturating_mul(1 << memory.opened.min(8)).min(BREAKER_MOST);
        memory.idle = 0;
        memory.opened += 1;
        memory.view.breaker_until = Some(now + retry_in);
        let (index, step) = self.plan.owner_of(flat);
        let rule = &self.plan.rules()[index];
        let mitigation = rule.steps[step].mitigation.clone();
        out.events.push(Event::BreakerOpen { rule: Arc::clone(&rule.name), step, mitigation, retry_in });
    }
}

/// Where a metric can go at all: no trend leads beyond.
fn limits(operand: &super::super::condition::Operand) -> (f64, f64) {
    use super::super::condition::Function;
    match (operand.function, operand.unit()) {
        (Some(Function::Rate), _) => (f64::NEG_INFINITY, f64::INFINITY),
        (_, Unit::Percent) => (0.0, 100.0),
        _ => (0.0, f64::INFINITY),
    }
}

impl Baseline {
    /// 1 closes the whole gap between the threshold and where the metric was heading; 0 is nothing; below 0 it got
    /// worse than the trend. Clamped to ±1.
    fn effect(&self, now: Moment, actual: f64, (least, most): (f64, f64)) -> f64 {
        let projected = (self.value + self.slope * now.since(self.at).as_secs_f64()).clamp(least, most);
        let least_gap = (self.threshold.abs() * 0.01).max(f64::EPSILON);
        let gap = (self.sign * (projected - self.threshold)).max(least_gap);
        // Adding zero makes nothing of a negative zero.
        (self.sign * (projected - actual) / gap).clamp(-1.0, 1.0) + 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(slope: f64, actual: f64) -> f64 {
        let at = Moment::ORIGIN;
        let baseline = Baseline { step: 0, at, slot: 0, threshold: 90.0, sign: 1.0, value: 92.0, slope };
        baseline.effect(at + Duration::from_secs(4), actual, (0.0, 100.0))
    }

    #[test]
    fn an_effect_is_measured_against_the_trend() {
        assert_eq!(effect(0.0, 90.0), 1.0);
        assert_eq!(effect(0.0, 92.0), 0.0);
        assert_eq!(effect(2.0, 92.0), 0.8);
        assert_eq!(effect(0.0, 99.0), -1.0);
    }

    #[test]
    fn no_trend_leads_beyond_what_a_metric_can_be() {
        assert_eq!(effect(50.0, 100.0), 0.0);
        assert_eq!(effect(50.0, 95.0), 0.5);
    }
}
