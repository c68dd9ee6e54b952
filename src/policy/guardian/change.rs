//! What comes from outside the rules: an operator's undo, a stop, a new configuration, a level that allows less.

use std::sync::Arc;

use super::super::event::{Event, Skip, UndoReason};
use super::super::life::Life;
use super::super::mitigation::{ActionId, Class, Level};
use super::super::moment::Moment;
use super::super::plan::Plan;
use super::super::slots::Slots;
use super::super::view::State;
use super::{Claim, Decisions, Guardian, StepMemory};

impl Guardian {
    /// The rules behind what is undone go to their cooldown, or they would put it back with the next tick.
    pub(super) fn undo(&mut self, now: Moment, ids: &[ActionId], out: &mut Decisions) {
        let all = ids.is_empty();
        for at in 0..self.ledger.all().len() {
            let action = &mut self.ledger.all_mut()[at];
            if !all && !ids.contains(&action.id) {
                continue;
            }
            action.why = UndoReason::Operator;
            action.due = now;
            let knob = action.mitigation.clone();
            for rule in 0..self.lives.len() {
                if self.claims.iter().any(|claim| claim.rule == Some(rule) && claim.mitigation.same_knob(&knob)) {
                    self.let_go(now, rule, out);
                }
            }
            self.claims.retain(|claim| !claim.mitigation.same_knob(&knob));
        }
        if all {
            self.claims.clear();
            self.mode.hold_until = now;
            for rule in 0..self.lives.len() {
                if matches!(self.lives[rule].state, State::Firing | State::Undoing) {
                    self.let_go(now, rule, out);
                }
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.claims.clear();
        for action in self.ledger.all_mut() {
            action.why = UndoReason::Stopping;
            action.due = Moment::ORIGIN;
        }
    }

    /// Swaps the plan. Rules that did not change go on as they were; what the others had in force is undone.
    pub fn reload(&mut self, now: Moment, plan: Arc<Plan>) {
        let older = Arc::clone(&self.plan);
        let mut lives = vec![Life::new(now); plan.rules().len()];
        let mut steps = vec![StepMemory::default(); plan.step_count()];
        let mut moved = vec![None; older.rules().len()];
        for (old, rule) in older.rules().iter().enumerate() {
            let Some(new) = plan.rule_named(&rule.name) else { continue };
            if plan.policy.level == Level::Disabled {
                lives[new].fired = self.lives[old].fired;
                continue;
            }
            if plan.rules()[new] != *rule {
                lives[new].begin_anew(&self.lives[old]);
                continue;
            }
            moved[old] = Some(new);
            lives[new] = self.lives[old].clone();
            lives[new].judged = None;
            // What was left out for the level, or only told, is to be done now.
            let left_out = |step: &usize| {
                let view = &self.steps[older.flat_step(old, *step)].view;
                matches!(view.skipped, Some(Skip::Level { needed }) if plan.policy.level >= needed)
            };
            let first = match older.policy.dry_run && !plan.policy.dry_run {
                true => Some(0),
                false => (0..self.lives[old].taken).find(left_out),
            };
            if let Some(first) = first {
                lives[new].climb_from(first);
            }
            for step in 0..rule.steps.len() {
                steps[plan.flat_step(new, step)] = self.steps[older.flat_step(old, step)].clone();
            }
        }
        let renumbered = |flat: usize| {
            let (old, step) = older.owner_of(flat);
            moved[old].map(|new| plan.flat_step(new, step))
        };
        for claim in &mut self.claims {
            claim.rule = claim.rule.and_then(|old| moved[old]);
            claim.step = claim.step.and_then(renumbered);
        }
        for action in self.ledger.all_mut() {
            action.step = action.step.and_then(renumbered);
        }
        let slots = std::mem::replace(&mut self.slots, Slots::new(&plan));
        self.slots.inherit(slots);
        self.lives = lives;
        self.steps = steps;
        self.plan = plan;
        self.keep_within_level();
    }

    /// What the level does not allow any more is let go of at once, and taken again when it does.
    pub(super) fn keep_within_level(&mut self) {
        let plan = Arc::clone(&self.plan);
        let level = plan.policy.level;
        let class_of = |claim: &Claim| {
            let (rule, step) = plan.owner_of(claim.step?);
            Some(plan.rules()[rule].steps[step].class)
        };
        let is_allowed = |class: Class| level.allows(class) && !plan.policy.dry_run;
        let (kept, dropped): (Vec<_>, Vec<_>) =
            self.claims.drain(..).partition(|claim| is_allowed(class_of(claim).unwrap_or(Class::Reversible)));
        self.claims = kept;
        for claim in dropped {
            if let (Some(flat), Some(class)) = (claim.step, class_of(&claim).filter(|class| !level.allows(*class))) {
                self.steps[flat].view.skipped = Some(Skip::Level { needed: Level::needed_for(class) });
            }
            let is_wanted = self.claims.iter().any(|other| other.mitigation.same_knob(&claim.mitigation));
            if let Some(at) = self.ledger.on_knob(&claim.mitigation).filter(|_| !is_wanted) {
                self.ledger.all_mut()[at].why = UndoReason::Level;
            }
        }
    }

    fn let_go(&mut self, now: Moment, rule: usize, out: &mut Decisions) {
        let cooldown = self.plan.rules()[rule].cooldown;
        let name = Arc::clone(&self.plan.rules()[rule].name);
        out.events.push(Event::Cooling { rule: name, cooldown });
        self.lives[rule].cool(now, cooldown);
        for claim in &mut self.claims {
            if claim.rule == Some(rule) {
                claim.rule = None;
            }
        }
        self.drop_idle_blocks();
    }
}
