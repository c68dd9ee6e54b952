//! What a drill asks for: put in force although no rule wants it, so that the very next look lets go of it again. A rule
//! that wants the same knob meanwhile takes it over, as from any other action.

use super::super::action::Action;
use super::super::event::UndoReason;
use super::super::mitigation::{Command, Mitigation};
use super::super::moment::Moment;
use super::super::requester::Requester;
use super::still_wanted::LASTING_WITHIN;
use super::{Decisions, Guardian};

impl Guardian {
    /// Does nothing where something is in force on this knob, or somebody else, or an operator's order, has it.
    pub(super) fn drill(&mut self, now: Moment, mitigation: &Mitigation, out: &mut Decisions) {
        let knob = self.plan.knob(mitigation);
        let is_free = self.in_force.at(&knob).is_none() && !self.orders.is_theirs(&knob);
        if self.stopping || self.orders.is_paused() || self.orders.is_undone(&knob) || !is_free {
            return;
        }
        let id = self.in_force.issue_id();
        let rule = Requester::drill();
        let (wish, name, class) = (mitigation.clone(), rule.clone(), mitigation.verb.class());
        let valid_until = now + LASTING_WITHIN;
        out.commands.push(Command::Apply { id, mitigation: wish, rule: name, class, valid_until });
        let action = Action::new(id, knob, mitigation.clone(), rule, now);
        self.in_force.add(action.with_undo(UndoReason::Drilled));
    }
}
