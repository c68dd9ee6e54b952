//! Until when a command is worth doing, and whether what is about to be done is wanted still. What cannot be undone asks
//! this immediately before it acts: the node may have recovered while the command waited. Never decides what to do.

use std::time::Duration;

use super::super::action::Action;
use super::super::mitigation::{ActionId, Class};
use super::super::rule::Step;
use super::super::verdict::Verdict;
use super::super::view::State;
use super::Guardian;

/// For what stays in force. Two read-backs: by then a rule that still wants it has been looked at fifty times, and asks
/// again. A conversation with a service takes 1.5 s at most, so that six may lie before it in the queue of its control.
pub(super) const LASTING_WITHIN: Duration = Duration::from_secs(10);

/// For what is over when it is done. It cannot be taken back, so it must answer the node as it is: three conversations.
pub(super) const ONCE_WITHIN: Duration = Duration::from_secs(5);

impl Guardian {
    /// Whether an action whose command is out should still be done: nobody ordered it off, and where it loses something, as
    /// of the newest sample its rule fires, its condition holds, and the level allows it. What can be taken back is taken
    /// back by the next look, where no rule wants it.
    #[must_use]
    pub fn still_wants(&self, id: ActionId) -> bool {
        let is_asked = |action: &Action| action.id() == id && action.is_waiting();
        let Some(at) = self.in_force.all().iter().position(is_asked) else { return false };
        let action = &self.in_force.all()[at];
        let is_ordered_off = self.stopping || self.orders.is_paused() || self.orders.is_undone(action.knob());
        let loses = action.class() >= Class::Lossy;
        !is_ordered_off && (!loses || !self.orders_unread && self.rule_wants(action))
    }

    /// These controls are not configured as they were: what an order to them meant is not what is meant now.
    pub fn outdate(&mut self, is_changed: impl Fn(&str) -> bool) {
        self.in_force.outdate(is_changed);
    }

    fn rule_wants(&self, action: &Action) -> bool {
        let Some(flat) = action.step().filter(|_| !action.is_outdated()) else { return false };
        let (index, step) = self.plan.owner_of(flat);
        let (rule, life) = (&self.plan.rules()[index], &self.lives[index]);
        let Step { mitigation, class, .. } = &rule.steps[step];
        let may = self.plan.policy.level.allows(*class)
            && !self.plan.policy.dry_run
            && !rule.dry_run
            && self.plan.declares(mitigation)
            && self.plan.knob(mitigation) == *action.knob();
        let fires = life.state() == State::Firing && life.when() == Verdict::True;
        may && fires && !self.stands[index].gives_back()
    }

    /// Of what the command on this action does. To make weaker what is in force loses nothing.
    pub(super) fn class_of(&self, at: usize) -> Class {
        let action = &self.in_force.all()[at];
        let is_eased = action.amount_before().is_some_and(|before| before.is_stronger_than(action.amount()));
        let step = action.step().filter(|_| !is_eased).map(|flat| self.plan.owner_of(flat));
        step.map_or(action.mitigation().verb.class(), |(rule, step)| self.plan.rules()[rule].steps[step].class)
    }
}
