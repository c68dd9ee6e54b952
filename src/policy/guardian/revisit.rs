//! Steps that were passed over or failed, looked at again while their rule fires: a target that answers again, a cooldown
//! that is over, a knob that an operator gives back, a service that has something to give now. One place for all reasons.

use super::super::event::Skip;
use super::super::mitigation::{Class, Lasting};
use super::super::moment::Moment;
use super::super::verdict::Verdict;
use super::{Decisions, Guardian};

impl Guardian {
    pub(super) fn revisit(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        if self.lives[index].when() != Verdict::True {
            return;
        }
        for step in 0..self.lives[index].taken() {
            if self.is_due_again(now, index, step) {
                self.take_step(now, index, step, out);
                self.stands[index].has_more();
            }
        }
    }

    fn is_due_again(&self, now: Moment, index: usize, step: usize) -> bool {
        let flat = self.plan.flat_step(index, step);
        let meant = &self.plan.rules()[index].steps[step];
        let memory = &self.steps[flat];
        if memory.run.done || meant.class >= Class::Lossy && self.loses_already() {
            return false;
        }
        let was_passed_over = match memory.view.skipped {
            Some(Skip::Operator | Skip::OrdersUnread | Skip::Cooldown) => true,
            Some(Skip::CannotHelp | Skip::Breaker | Skip::Overridden) => true,
            // What lasts is wanted all the time, and applied as soon as that works.
            Some(Skip::Unavailable) => meant.mitigation.verb.lasting() == Lasting::Once,
            // Its pause begins the ladder again.
            Some(Skip::Level { .. } | Skip::StoodDown) => false,
            None => memory.run.retry_at.is_some_and(|at| now >= at),
        };
        let knob = self.plan.knob(&meant.mitigation);
        was_passed_over && self.reason_to_skip(now, flat, &knob, meant.mitigation.amount).is_none()
    }
}
