//! What a step did to its rule's metric (`effect.rs` tells it), and what follows: a step that was measured to do nothing
//! time and again has its breaker open for a while. What cannot be told from noise counts for nothing, and whatever was
//! in force when a rule cleared has its credit. Steps that are taken at once are judged at once: nobody can tell them
//! apart.

use std::sync::Arc;
use std::time::Duration;

use super::super::condition::{Function, Operand};
use super::super::effect::{Effect, Question};
use super::super::event::Event;
use super::super::life::Baseline;
use super::super::mitigation::{Lasting, Mitigation, Outcome, Verb};
use super::super::moment::Moment;
use super::super::program::Compare;
use super::super::unit::Unit;
use super::super::verdict::Verdict;
use super::super::view::Phase;
use super::{Decisions, Guardian};

/// So many times in a row without effect, and the step's breaker opens.
const BREAKER_AFTER: u32 = 3;
const BREAKER_FIRST: Duration = Duration::from_secs(300);
const BREAKER_MOST: Duration = Duration::from_secs(3600);

impl Guardian {
    /// While its breaker is open a step is left out, or in an emergency comes last: there is always something to do.
    #[must_use]
    pub(super) fn breaker_is_open(&self, now: Moment, flat: usize) -> bool {
        self.steps[flat].view.breaker_until.is_some_and(|until| now < until)
    }

    /// An operator wants every step to be tried again.
    pub fn reset_breakers(&mut self) {
        (0..self.steps.len()).for_each(|flat| self.give_credit(flat));
    }

    /// Telling somebody is not meant to change the metric.
    pub(super) fn baseline(&self, now: Moment, index: usize, step: usize) -> Option<Baseline> {
        if self.plan.rules()[index].steps[step].mitigation.verb == Verb::Notify {
            return None;
        }
        let (slot, threshold, sign) = self.subject(index)?;
        let value = self.slots.readings()[slot].known().filter(|value| value.is_finite())?;
        Some(Baseline { step, at: now, slot, threshold, sign, value, is_told: false })
    }

    /// Once the settle time is over.
    pub(super) fn judge(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let Some(baseline) = self.lives[index].judge() else { return };
        let effect = self.effect_since(now, &baseline);
        for flat in self.tell_effect(index, &baseline, effect, out) {
            if effect.is_useful() {
                self.give_credit(flat);
                self.stands[index].helped();
            } else if effect.is_useless() {
                self.count_useless(now, flat, out);
            }
        }
    }

    /// When the rule clears. An effect that came late is told, and nothing that was there counts as useless.
    pub(super) fn judge_cleared(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        if let Some(baseline) = self.lives[index].judge_last() {
            let effect = self.effect_since(now, &baseline);
            if !baseline.is_told || effect.is_useful() {
                self.tell_effect(index, &baseline, effect, out);
            }
        }
        for step in 0..self.lives[index].taken() {
            let flat = self.plan.flat_step(index, step);
            if self.judgeable(index, step, flat).is_some() {
                self.give_credit(flat);
            }
        }
    }

    /// Counts a step that measurably did nothing, and opens its breaker when that happened several times running.
    pub(super) fn count_useless(&mut self, now: Moment, flat: usize, out: &mut Decisions) {
        let memory = &mut self.steps[flat];
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

    fn give_credit(&mut self, flat: usize) {
        let memory = &mut self.steps[flat];
        memory.idle = 0;
        memory.opened = 0;
        memory.view.breaker_until = None;
    }

    /// Slot, threshold and the direction that is bad (+1 high, -1 low) of the first comparison that holds.
    pub(super) fn subject(&self, index: usize) -> Option<(usize, f64, f64)> {
        let readings = self.slots.readings();
        let program = &self.plan.programs()[index].when;
        let holding = program.comparisons().find(|compare| compare.evaluate(readings) == Verdict::True);
        gauged(holding.or_else(|| program.comparisons().next())?)
    }

    fn effect_since(&self, now: Moment, baseline: &Baseline) -> Effect {
        let operand = &self.plan.operands()[baseline.slot];
        let Baseline { at, slot, threshold, sign, value, .. } = *baseline;
        // A window at the step says what was before it; the readings behind it are what is compared.
        let value = operand.function.is_none_or(|function| function == Function::Rate).then_some(value);
        let question = Question { at, now, threshold, sign, value, limits: limits(operand), lag: lag(operand) };
        self.slots.effect(slot, &question)
    }

    /// Notes it at every step of the rung that was really done, and says which those are.
    fn tell_effect(&mut self, index: usize, baseline: &Baseline, effect: Effect, out: &mut Decisions) -> Vec<usize> {
        let plan = Arc::clone(&self.plan);
        let mut told = Vec::new();
        for step in plan.rules()[index].rung(baseline.step) {
            let flat = plan.flat_step(index, step);
            let Some(mitigation) = self.judgeable(index, step, flat) else { continue };
            self.steps[flat].view.effect = Some(effect);
            let rule = Arc::clone(&plan.rules()[index].name);
            out.events.push(Event::Judged { rule, step, mitigation, effect });
            told.push(flat);
        }
        told
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
                let done = action.phase() == Phase::InForce && step.is(action.mitigation());
                (done && view.outcome == Some(Outcome::Applied)).then(|| action.mitigation().clone())
            }
        }
    }
}

/// Slot, threshold and the direction that is bad (+1 high, -1 low), where there is one.
pub fn gauged(compare: &Compare) -> Option<(usize, f64, f64)> {
    match compare.relation.symbol() {
        ">" | ">=" => Some((compare.slot, compare.threshold, 1.0)),
        "<" | "<=" => Some((compare.slot, compare.threshold, -1.0)),
        _ => None,
    }
}

/// Where a metric can go at all: no trend leads beyond.
fn limits(operand: &Operand) -> (f64, f64) {
    match (operand.function, operand.unit()) {
        (Some(Function::Rate), _) => (f64::NEG_INFINITY, f64::INFINITY),
        (_, Unit::Percent) => (0.0, 100.0),
        _ => (0.0, f64::INFINITY),
    }
}

/// The kernel's averages of pressure fade with the time that they are named after.
fn lag(operand: &Operand) -> Duration {
    let name = operand.metric.name();
    let seconds = [(".avg10", 10), (".avg60", 60)].into_iter().find(|(ending, _)| name.ends_with(ending));
    Duration::from_secs(seconds.map_or(0, |(_, seconds)| seconds))
}
