//! Climbing: one step at a time, the next only if the last did not clear the rule. Each step is judged by what it did to
//! the rule's metric against where that was heading; a step that does nothing time and again is left out for a while.

use std::sync::Arc;
use std::time::Duration;

use super::super::event::{Event, Mode, Release, Skip, StepKind};
use super::super::ledger::Action;
use super::super::life::Baseline;
use super::super::mitigation::{Command, Lasting, Mitigation, Outcome};
use super::super::moment::Moment;
use super::super::view::{Phase, State, StepView, Verdict};
use super::{Claim, Decisions, Guardian};

/// Closing less than a twentieth of the gap is noise.
const LEAST_EFFECT: f64 = 0.05;
/// So many times in a row without effect, and the step is left out.
const BREAKER_AFTER: u32 = 3;
const BREAKER_FIRST: Duration = Duration::from_secs(300);
const BREAKER_MOST: Duration = Duration::from_secs(3600);

impl Guardian {
    /// Takes as many steps as can be taken now: one, unless steps are skipped or already in force.
    pub(super) fn climb(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        loop {
            if self.lives[index].settles.is_some_and(|until| now < until) {
                return;
            }
            self.judge(now, index, out);
            let plan = Arc::clone(&self.plan);
            let rule = &plan.rules()[index];
            let life = &mut self.lives[index];
            life.settles = None;
            if life.when != Verdict::True {
                return;
            }
            if life.taken == rule.steps.len() {
                if !life.exhausted && life.taken > 0 {
                    life.exhausted = true;
                    out.events.push(Event::Exhausted { rule: Arc::clone(&rule.name) });
                }
                return;
            }
            if self.mode.mode != Mode::Emergency
                && (self.is_outranked(now, index) || self.must_wait_for_others(now, index))
            {
                return;
            }
            self.take_step(now, index, out);
        }
    }

    /// A rule of higher priority has the knob of the next step, and less is in force than this rule has come to: climbing
    /// on would only pile up steps that nobody has seen the effect of.
    fn is_outranked(&self, now: Moment, index: usize) -> bool {
        let rule = &self.plan.rules()[index];
        let Some(next) = rule.steps.get(self.lives[index].taken).map(|step| &step.mitigation) else { return false };
        let Some(best) = self.wanted(now, next).map(|best| &self.claims[best]) else { return false };
        let mine = |claim: &&Claim| claim.rule == Some(index) && claim.mitigation.same_knob(next);
        self.is_in_force(&best.mitigation)
            && self
                .claims
                .iter()
                .filter(mine)
                .any(|claim| claim.mitigation.amount.is_stronger_than(best.mitigation.amount))
    }

    /// Outside an emergency one rule acts at a time, so that each effect can be told apart. Nobody waits for a rule that
    /// is less important, or that only tells what it would do.
    fn must_wait_for_others(&self, now: Moment, index: usize) -> bool {
        let rules = self.plan.rules();
        let settling = |(other, life): (usize, &super::Life)| {
            other != index
                && life.state == State::Firing
                && life.settles.is_some_and(|until| now < until)
                && !rules[other].dry_run
                && rules[other].priority >= rules[index].priority
        };
        self.lives.iter().enumerate().any(settling)
    }

    fn take_step(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let step = self.lives[index].taken;
        let mitigation = &rule.steps[step].mitigation;
        let flat = plan.flat_step(index, step);
        self.lives[index].taken += 1;
        let StepView { effect, breaker_until, .. } = self.steps[flat].view;
        self.steps[flat].view = StepView { effect, breaker_until, ..StepView::default() };
        if let Some(why) = self.reason_to_skip(now, flat, mitigation) {
            self.steps[flat].view.skipped = Some(why);
            if why == Skip::Unavailable {
                self.claim(now, index, flat, mitigation);
            }
            let rule = Arc::clone(&rule.name);
            out.events.push(Event::Skipped { rule, step, mitigation: mitigation.clone(), why });
            return;
        }
        let dry_run = rule.dry_run || plan.policy.dry_run;
        let kind = if dry_run {
            StepKind::DryRun
        } else if mitigation.verb.lasting() == Lasting::InForce {
            self.claim(now, index, flat, mitigation)
        } else {
            StepKind::Act
        };
        let told = Event::Step { rule: Arc::clone(&rule.name), step, mitigation: mitigation.clone(), id: None, kind };
        out.events.push(told);
        if kind == StepKind::Shared {
            // What is in force already gets its time to show an effect, counted from when it came into force.
            let since = self.in_force_since(mitigation).unwrap_or(now);
            self.steps[flat].view.outcome = Some(Outcome::Already);
            self.lives[index].settles = Some(since + rule.steps[step].settle).filter(|until| now < *until);
            return;
        }
        self.lives[index].settles = Some(now + rule.steps[step].settle);
        if kind == StepKind::Act {
            self.lives[index].judged = self.baseline(now, index, step);
            if mitigation.verb.lasting() == Lasting::Once {
                self.pulse(now, Arc::clone(&rule.name), flat, mitigation.clone(), out);
            }
        }
    }

    fn reason_to_skip(&self, now: Moment, flat: usize, mitigation: &Mitigation) -> Option<Skip> {
        let class = mitigation.verb.class();
        if !self.plan.policy.level.allows(class) {
            return Some(Skip::Level { needed: super::Level::needed_for(class) });
        }
        if self.steps[flat].view.breaker_until.is_some_and(|until| now < until) {
            return Some(Skip::Breaker);
        }
        let dry_run = self.plan.policy.dry_run || self.plan.rules()[self.owner_of(flat).0].dry_run;
        match self.blocks.iter().find(|block| block.knob.same_knob(mitigation)) {
            Some(block) if block.theirs => Some(Skip::Drifted),
            Some(block) if now < block.until && !dry_run => Some(Skip::Unavailable),
            Some(_) | None => None,
        }
    }

    /// Wants a lasting step; `Shared` where that changes nothing.
    fn claim(&mut self, now: Moment, index: usize, flat: usize, mitigation: &Mitigation) -> StepKind {
        let before = self.wanted(now, mitigation).map(|claim| self.claims[claim].mitigation.clone());
        if !self.claims.iter().any(|claim| claim.rule == Some(index) && claim.mitigation == *mitigation) {
            self.claims.push(Claim { rule: Some(index), step: Some(flat), mitigation: mitigation.clone() });
        }
        self.hurry(now, mitigation);
        let after = self.wanted(now, mitigation).map(|claim| self.claims[claim].mitigation.clone());
        if before == after { StepKind::Shared } else { StepKind::Act }
    }

    /// After a relapse: everything that this firing had put in force is wanted again.
    pub(super) fn reclaim(&mut self, now: Moment, index: usize) {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        self.claims.retain(|claim| claim.rule != Some(index));
        let dry_run = rule.dry_run || plan.policy.dry_run;
        for (step, taken) in rule.steps.iter().enumerate().take(self.lives[index].taken) {
            let flat = plan.flat_step(index, step);
            let lasts = taken.mitigation.verb.lasting() == Lasting::InForce;
            if lasts && !dry_run && matches!(self.steps[flat].view.skipped, None | Some(Skip::Unavailable)) {
                self.claims.push(Claim { rule: Some(index), step: Some(flat), mitigation: taken.mitigation.clone() });
                self.hurry(now, &taken.mitigation);
                self.lives[index].settles = Some(now + taken.settle);
            }
        }
    }

    /// What is owed on a knob that is wanted again need not wait for its next try.
    fn hurry(&mut self, now: Moment, knob: &Mitigation) {
        if let Some(at) = self.ledger.on_knob(knob) {
            let action = &mut self.ledger.all_mut()[at];
            if action.phase == Phase::Owed {
                action.due = now;
            }
        }
    }

    /// Something that is over when it is done.
    fn pulse(&mut self, now: Moment, rule: Arc<str>, flat: usize, mitigation: Mitigation, out: &mut Decisions) {
        let id = self.ledger.issue_id();
        out.commands.push(Command::Apply { id, mitigation: mitigation.clone(), rule: Arc::clone(&rule) });
        self.ledger.add(Action {
            id,
            mitigation,
            before: None,
            rule,
            step: Some(flat),
            phase: Phase::Applying,
            since: now,
            waiting: true,
            due: now,
            tries: 0,
            eased: None,
            why: Release::Recovered,
            detail: Arc::from(""),
            theirs: None,
        });
    }

    /// Follows the metric that the rule is about: the first comparison that holds.
    pub(super) fn watch(&mut self, now: Moment, index: usize) {
        if let Some((slot, _, _)) = self.subject(index)
            && let Some(value) = self.slots.readings()[slot].known().filter(|value| value.is_finite())
        {
            self.lives[index].watched.push(now, value);
        }
    }

    /// Slot, threshold and the direction that is bad (+1 high, -1 low).
    fn subject(&self, index: usize) -> Option<(usize, f64, f64)> {
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

    fn baseline(&self, now: Moment, index: usize, step: usize) -> Option<Baseline> {
        let (slot, threshold, sign) = self.subject(index)?;
        let value = self.slots.readings()[slot].known().filter(|value| value.is_finite())?;
        let slope = self.lives[index].watched.slope();
        Some(Baseline { step, at: now, slot, threshold, sign, value, slope })
    }

    /// Once the settle time is over: how much of the gap to the threshold did the step close, against the trend?
    fn judge(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let Some(baseline) = self.lives[index].judged.take() else { return };
        let Some(actual) = self.slots.readings()[baseline.slot].known() else { return };
        let judged = &self.plan.rules()[index].steps[baseline.step].mitigation;
        if judged.verb.lasting() == Lasting::InForce && !self.is_in_force(judged) {
            return;
        }
        let effect = baseline.effect(now, actual);
        let flat = self.plan.flat_step(index, baseline.step);
        self.steps[flat].view.effect = Some(effect);
        let rule = &self.plan.rules()[index];
        let mitigation = rule.steps[baseline.step].mitigation.clone();
        let rule = Arc::clone(&rule.name);
        out.events.push(Event::Judged { rule, step: baseline.step, mitigation, effect: Some(effect) });
        self.count_effect(now, flat, effect >= LEAST_EFFECT, out);
    }

    fn is_in_force(&self, mitigation: &Mitigation) -> bool {
        let action = self.ledger.on_knob(mitigation).map(|at| &self.ledger.all()[at]);
        action.is_some_and(|action| action.phase == Phase::InForce && action.mitigation == *mitigation)
    }

    /// Since when this or more is in force.
    fn in_force_since(&self, mitigation: &Mitigation) -> Option<Moment> {
        let action = &self.ledger.all()[self.ledger.on_knob(mitigation)?];
        let enough = !mitigation.amount.is_stronger_than(action.mitigation.amount);
        (action.phase == Phase::InForce && enough).then_some(action.since)
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
        let (index, step) = self.owner_of(flat);
        let rule = &self.plan.rules()[index];
        let mitigation = rule.steps[step].mitigation.clone();
        out.events.push(Event::BreakerOpen { rule: Arc::clone(&rule.name), step, mitigation, retry_in });
    }

    /// The rule and the step within it of a flat step.
    pub(super) fn owner_of(&self, flat: usize) -> (usize, usize) {
        let rules = 0..self.plan.rules().len();
        let index = rules
            .rev()
            .find(|rule| self.plan.flat_step(*rule, 0) <= flat && !self.plan.rules()[*rule].steps.is_empty());
        let index = index.unwrap_or_default();
        (index, flat - self.plan.flat_step(index, 0))
    }
}

impl Baseline {
    /// 1 closes the whole gap between the threshold and where the metric was heading; 0 is nothing; below 0 it got
    /// worse than the trend. Clamped to ±1.
    fn effect(&self, now: Moment, actual: f64) -> f64 {
        let projected = self.value + self.slope * now.since(self.at).as_secs_f64();
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
        baseline.effect(at + Duration::from_secs(4), actual)
    }

    #[test]
    fn an_effect_is_measured_against_the_trend() {
        assert_eq!(effect(0.0, 90.0), 1.0);
        assert_eq!(effect(0.0, 92.0), 0.0);
        assert_eq!(effect(2.0, 92.0), 0.8);
        assert_eq!(effect(0.0, 99.0), -1.0);
    }
}
