//! A new configuration, or a level that allows less. Rules are matched by name and their steps by what they do: what a
//! changed rule still wants stays in force, and what it dropped goes back by halves like anything else.

use std::sync::Arc;

use super::super::demand::{Demand, Placed};
use super::super::event::{Skip, UndoReason};
use super::super::life::Life;
use super::super::losses::Loss;
use super::super::mitigation::{Class, Level, Mitigation};
use super::super::moment::Moment;
use super::super::plan::Plan;
use super::super::rule::{Rule, Step};
use super::super::slots::Slots;
use super::stand_down::Stand;
use super::{Guardian, StepMemory};

/// Where the rules and steps of the plan before are in the new one.
struct Moved {
    rules: Vec<Option<usize>>,
    /// By flat numbers.
    steps: Vec<Option<usize>>,
}

impl Guardian {
    pub fn reload(&mut self, now: Moment, plan: Arc<Plan>) {
        let older = Arc::clone(&self.plan);
        let moved = Moved::between(&older, &plan);
        let mut lives = vec![Life::new(now); plan.rules().len()];
        let mut stands = vec![Stand::default(); plan.rules().len()];
        let mut steps = vec![StepMemory::default(); plan.step_count()];
        let mut is_calmed = false;
        for (old, new) in moved.steps.iter().enumerate() {
            if let Some(new) = new {
                steps[*new] = self.steps[old].clone();
            }
        }
        for (old, new) in moved.rules.iter().enumerate() {
            let Some(new) = *new else { continue };
            if plan.policy.level == Level::Disabled {
                lives[new] = self.lives[old].idle(now);
                continue;
            }
            is_calmed |= self.alarms(old) && !plan.rules()[new].is_alarm();
            lives[new] = self.lives[old].moved();
            stands[new] = self.stands[old].moved(&moved.steps, &plan);
            let first = first_to_take(&older, &plan, old, new, &steps);
            let is_new =
                plan.policy.level > older.policy.level || !is_same_ladder(&older.rules()[old], &plan.rules()[new]);
            if is_new && stands[new].gives_back() {
                // Something can be tried now that could not be when nothing helped.
                stands[new] = stands[new].begun_anew(now);
            }
            if ends_dry_run(&older, &plan, old, new) {
                // That nothing helps was not found out: nothing was done.
                stands[new] = Stand::since(now, None);
            }
            if first < lives[new].taken() || !is_same_ladder(&older.rules()[old], &plan.rules()[new]) {
                lives[new].climb_to(first);
                stands[new].has_more();
            }
        }
        let had = plan.moved(self.orders.controls());
        self.orders.follow(&had);
        self.orders.losses_unless_known(|loss| moved.keeps(&older, &plan, loss));
        self.move_demands(&moved, &plan);
        let slots = std::mem::replace(&mut self.slots, Slots::new(&plan));
        self.slots.inherit(slots);
        self.troubles.expect(plan.rules().len());
        self.lives = lives;
        self.stands = stands;
        self.steps = steps;
        self.services.expect(&plan.policy);
        self.plan = plan;
        self.keep_within_level();
        if is_calmed && !self.is_alarmed() {
            self.mode.end_hold(now);
        }
    }

    fn move_demands(&mut self, moved: &Moved, plan: &Plan) {
        let renumbered = |flat: usize| moved.steps[flat];
        let is_disabled = plan.policy.level == Level::Disabled;
        self.demands.renumber(|demand| {
            let flat = demand.step.and_then(renumbered).filter(|_| !is_disabled)?;
            let (rule, step) = plan.owner_of(flat);
            let meant = &plan.rules()[rule].steps[step];
            // A range goes on from where it is; what is written as one strength has that from now on.
            let kept = if meant.range.is_none() { &meant.mitigation } else { &demand.mitigation };
            let mitigation = Mitigation { control: Arc::clone(&meant.mitigation.control), ..kept.clone() };
            Some(Placed { rule, step: flat, knob: plan.knob(&mitigation), mitigation })
        });
        self.in_force.renumber(renumbered);
    }

    /// What the level or a dry run does not allow any more, or its control does not declare, is let go of at once, and taken
    /// again when that allows it.
    pub(super) fn keep_within_level(&mut self) {
        let plan = Arc::clone(&self.plan);
        let level = plan.policy.level;
        let class_of = |demand: &Demand| {
            let (rule, step) = plan.owner_of(demand.step?);
            Some(plan.rules()[rule].steps[step].class)
        };
        let is_allowed = |class: Class| level.allows(class) && !plan.policy.dry_run;
        let is_dry = |demand: &Demand| demand.rule.is_some_and(|rule| plan.rules()[rule].dry_run);
        let dropped = self.demands.take_unless(|demand| {
            let class = class_of(demand).unwrap_or(Class::Reversible);
            is_allowed(class) && !is_dry(demand) && plan.declares(&demand.mitigation)
        });
        for demand in dropped {
            if let (Some(flat), Some(class)) = (demand.step, class_of(&demand).filter(|class| !level.allows(*class))) {
                self.steps[flat].view.skipped = Some(Skip::Level { needed: Level::needed_for(class) });
            }
            let is_wanted = self.demands.on(&demand.knob).next().is_some();
            if let Some(at) = self.in_force.at(&demand.knob).filter(|_| !is_wanted) {
                self.in_force.get_mut(at).let_go(UndoReason::Level);
            }
        }
    }
}

impl Moved {
    fn between(older: &Plan, newer: &Plan) -> Self {
        let rules: Vec<_> = older.rules().iter().map(|rule| newer.rule_named(&rule.name)).collect();
        let mut steps = vec![None; older.step_count()];
        for (old, new) in rules.iter().enumerate() {
            let Some(new) = *new else { continue };
            for (step, found) in matched(older, newer, old, new).into_iter().enumerate() {
                steps[older.flat_step(old, step)] = found.map(|found| newer.flat_step(new, found));
            }
        }
        Self { rules, steps }
    }

    /// Whether a step knows of this loss that was there before.
    fn keeps(&self, older: &Plan, newer: &Plan, loss: &Loss) -> bool {
        let is_its = |plan: &Plan, flat: usize| {
            let (rule, step) = plan.owner_of(flat);
            let rule = &plan.rules()[rule];
            *rule.name == *loss.rule && plan.knob(&rule.steps[step].mitigation) == loss.knob
        };
        let moved =
            |(old, new): (usize, &Option<usize>)| new.is_some_and(|new| is_its(older, old) && is_its(newer, new));
        newer.policy.level != Level::Disabled && self.steps.iter().enumerate().any(moved)
    }
}

/// How two steps are compared, the closest first.
#[derive(Clone, Copy)]
enum Alike {
    /// The same thing at the same strength.
    Whole,
    /// The same knob.
    Knob,
    /// The same control and verb: the control leads elsewhere now. What is wanted moves there; what is in force goes back.
    Name,
}

/// For each step of a rule, which step of the new rule it is.
fn matched(older: &Plan, newer: &Plan, old: usize, new: usize) -> Vec<Option<usize>> {
    let (before, after) = (&older.rules()[old].steps, &newer.rules()[new].steps);
    let is_same = |alike: Alike, old: &Step, new: &Step| {
        let same_knob = older.knob(&old.mitigation) == newer.knob(&new.mitigation);
        match alike {
            Alike::Whole => same_knob && old.mitigation.amount == new.mitigation.amount && old.range == new.range,
            Alike::Knob => same_knob,
            Alike::Name => old.mitigation.same_knob(&new.mitigation),
        }
    };
    let mut found: Vec<Option<usize>> = vec![None; before.len()];
    for alike in [Alike::Whole, Alike::Knob, Alike::Name] {
        for at in 0..before.len() {
            if found[at].is_none() {
                let free = |to: &usize| !found.contains(&Some(*to)) && is_same(alike, &before[at], &after[*to]);
                found[at] = (0..after.len()).find(free);
            }
        }
    }
    found
}

fn is_same_ladder(old: &Rule, new: &Rule) -> bool {
    old.steps == new.steps
}

fn ends_dry_run(older: &Plan, newer: &Plan, old: usize, new: usize) -> bool {
    let is_dry = |plan: &Plan, rule: usize| plan.policy.dry_run || plan.rules()[rule].dry_run;
    is_dry(older, old) && !is_dry(newer, new)
}

/// The first step of the new rule that is still to be taken.
fn first_to_take(older: &Plan, newer: &Plan, old: usize, new: usize, steps: &[StepMemory]) -> usize {
    let rule = &newer.rules()[new];
    if ends_dry_run(older, newer, old, new) {
        return 0;
    }
    let is_taken = |step: usize| {
        let memory = &steps[newer.flat_step(new, step)];
        let waits_for_level = |skip: Skip| matches!(skip, Skip::Level { needed } if newer.policy.level >= needed);
        let is_allowed = !memory.view.skipped.is_some_and(waits_for_level);
        is_allowed && (memory.run.taken_at.is_some() || memory.view.skipped.is_some())
    };
    (0..rule.steps.len()).find(|step| !is_taken(*step)).unwrap_or(rule.steps.len())
}
