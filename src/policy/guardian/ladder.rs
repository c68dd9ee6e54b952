//! Climbing: one step at a time, the next only if the last did not clear the rule. Steps of one rung are taken at once.

use std::sync::Arc;

use super::super::event::{Event, Mode, Skip, StepKind, UndoReason};
use super::super::ledger::Action;
use super::super::mitigation::{Class, Command, Lasting, Mitigation, Outcome};
use super::super::moment::Moment;
use super::super::view::{Phase, State, StepView, Verdict};
use super::still_wanted::ONCE_WITHIN;
use super::{Claim, Decisions, Guardian};

impl Guardian {
    /// Takes as many steps as can be taken now: one, unless steps are skipped or already in force.
    pub(super) fn climb(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        loop {
            let plan = Arc::clone(&self.plan);
            let rule = &plan.rules()[index];
            if !rule.is_within_rung(self.lives[index].taken) {
                if self.lives[index].settles.is_some_and(|until| now < until) {
                    return;
                }
                self.judge(now, index, out);
                self.lives[index].settles = None;
            }
            let life = &mut self.lives[index];
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
        let mitigation = &self.aimed(now, index, step);
        let flat = plan.flat_step(index, step);
        self.lives[index].taken += 1;
        let StepView { effect, breaker_until, .. } = self.steps[flat].view;
        self.steps[flat].view = StepView { effect, breaker_until, ..StepView::default() };
        if let Some(why) = self.reason_to_skip(now, flat, mitigation, rule.steps[step].class) {
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
            let until = Some(since + rule.steps[step].settle).filter(|until| now < *until);
            self.lives[index].settles = self.lives[index].settles.max(until);
            return;
        }
        let until = Some(now + rule.steps[step].settle).filter(|until| now < *until);
        self.lives[index].settles = self.lives[index].settles.max(until);
        if kind == StepKind::Act {
            // What somebody is told moves no metric.
            let is_judged = rule.steps[step].class > Class::Notify;
            let baseline = if is_judged { self.baseline(now, index, step) } else { None };
            self.lives[index].judged = baseline.or(self.lives[index].judged);
            if mitigation.verb.lasting() == Lasting::Once {
                self.pulse(now, Arc::clone(&rule.name), flat, mitigation.clone(), out);
            }
        }
    }

    fn reason_to_skip(&self, now: Moment, flat: usize, mitigation: &Mitigation, class: Class) -> Option<Skip> {
        if !self.plan.policy.level.allows(class) {
            return Some(Skip::Level { needed: super::Level::needed_for(class) });
        }
        if self.steps[flat].view.breaker_until.is_some_and(|until| now < until) {
            return Some(Skip::Breaker);
        }
        let dry_run = self.plan.policy.dry_run || self.plan.rules()[self.plan.owner_of(flat).0].dry_run;
        match self.blocks.iter().find(|block| block.holds(now, mitigation)) {
            Some(block) if block.theirs => Some(Skip::Overridden),
            Some(_) if !dry_run => Some(Skip::Unavailable),
            Some(_) | None => None,
        }
    }

    /// Wants a lasting step; `Shared` where that changes nothing.
    fn claim(&mut self, now: Moment, index: usize, flat: usize, mitigation: &Mitigation) -> StepKind {
        let before = self.wanted(now, mitigation).map(|claim| self.claims[claim].mitigation.clone());
        let known =
            |claim: &Claim| claim.rule == Some(index) && (claim.mitigation == *mitigation || claim.step == Some(flat));
        if !self.claims.iter().any(known) {
            self.claims.push(Claim::new(index, flat, mitigation.clone()));
        }
        // What a restart left behind is this rule's now: let go of by halves, with the rest of it.
        self.claims.retain(|claim| claim.rule.is_some() || !claim.mitigation.same_knob(mitigation));
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
            let allowed = plan.policy.level.allows(taken.class);
            if lasts && !dry_run && allowed && matches!(self.steps[flat].view.skipped, None | Some(Skip::Unavailable)) {
                self.claims.push(Claim::new(index, flat, self.aimed(now, index, step)));
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
        let (index, step) = self.plan.owner_of(flat);
        let class = self.plan.rules()[index].steps[step].class;
        let valid_until = now + ONCE_WITHIN;
        let (wish, name) = (mitigation.clone(), Arc::clone(&rule));
        out.commands.push(Command::Apply { id, mitigation: wish, rule: name, class, valid_until });
        self.ledger.add(Action {
            id,
            mitigation,
            before: None,
            rule,
            step: Some(flat),
            goes_on: false,
            phase: Phase::Applying,
            since: now,
            waiting: true,
            due: now,
            tries: 0,
            eased: None,
            why: UndoReason::Recovered,
            detail: Arc::from(""),
            theirs: None,
        });
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
}
