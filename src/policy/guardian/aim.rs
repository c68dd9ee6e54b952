//! How strongly a step with a range is wanted, tick after tick: each change is an ordinary adjustment of what is in force.

use super::super::event::Mode;
use super::super::mitigation::{Amount, Mitigation};
use super::super::moment::Moment;
use super::super::proportion::{Beyond, Held, beyond, follow};
use super::super::rule::Step;
use super::super::verdict::Verdict;
use super::super::view::Phase;
use super::Guardian;
use super::recovery::halved;

impl Guardian {
    /// The step at the strength that it begins with. After a relapse that is no less than what is still in force of it.
    pub(super) fn aimed(&self, now: Moment, index: usize, number: usize) -> Mitigation {
        let step = &self.plan.rules()[index].steps[number];
        let mut mitigation = step.mitigation.clone();
        if let Some(amount) = self.passed_already(now, index, number) {
            mitigation.amount = amount;
        }
        if let Some(range) = step.range {
            let first = Amount::Keep(range.first(self.beyond(index).share));
            let held = self.in_force.on(&self.plan.knob(&mitigation)).map(|action| action.mitigation());
            let still = held.filter(|held| step.is(held)).map(|held| held.amount);
            mitigation.amount = still.filter(|still| still.is_stronger_than(first)).unwrap_or(first);
        }
        mitigation
    }

    /// More of this than the step asks for is in force and still needed, and the rule is on its way to as much: to take
    /// the knob over at its gentle beginning would only loosen it while things get worse.
    fn passed_already(&self, now: Moment, index: usize, number: usize) -> Option<Amount> {
        let rule = &self.plan.rules()[index];
        let mine = &rule.steps[number].mitigation;
        let knob = self.plan.knob(mine);
        let best = self.wanted(now, &knob)?;
        let held = self.demands.get(best).mitigation.amount;
        let is_needed = match self.demands.get(best).rule {
            Some(other) => self.is_wanted_still(now, best) && self.plan.rules()[other].priority < rule.priority,
            None => self.mode.mode() == Mode::Emergency,
        };
        let action = self.in_force.on(&knob)?;
        let is_there = !matches!(action.phase(), Phase::Undoing | Phase::Owed) && action.amount() == held;
        let comes_to_it = |later: &Step| {
            later.mitigation.same_knob(mine)
                && (later.mitigation.amount == held || later.mitigation.amount.is_stronger_than(held))
        };
        let surpasses = is_needed && is_there && held.is_stronger_than(mine.amount);
        (surpasses && rule.steps[number + 1..].iter().any(comes_to_it)).then_some(held)
    }

    /// Brings what a firing rule wants to how far beyond its threshold it is now.
    pub(super) fn aim_again(&mut self, now: Moment, index: usize) {
        if self.plan.programs()[index].measures.is_empty() {
            return;
        }
        let beyond = self.beyond(index);
        let plan = &self.plan;
        self.demands.aim(index, |flat, amount, lull| {
            let (_, number) = plan.owner_of(flat);
            let step = &plan.rules()[index].steps[number];
            let (Some(range), Amount::Keep(kept)) = (step.range, amount) else { return None };
            let most = halved(step.mitigation.verb, amount).and_then(Amount::kept_percent);
            let held = Held { kept, settle: step.settle, most: most.unwrap_or(range.gentle()) };
            Some(Amount::Keep(follow(range, held, now, beyond, lull)))
        });
    }

    fn beyond(&self, index: usize) -> Beyond {
        let beyond = beyond(&self.plan.programs()[index].measures, self.slots.readings());
        let unknown = self.lives[index].when() == Verdict::Unknown;
        Beyond { incomplete: beyond.incomplete || unknown, ..beyond }
    }
}
