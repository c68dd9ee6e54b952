//! What a drill asks for: put in force although no rule wants it, so that the very next look lets go of it again. A rule
//! that wants the same knob meanwhile takes it over, as from any other action.

use std::sync::Arc;

use super::super::event::UndoReason;
use super::super::ledger::{Action, VERIFY_EVERY};
use super::super::mitigation::{Command, Mitigation};
use super::super::moment::Moment;
use super::super::view::Phase;
use super::still_wanted::LASTING_WITHIN;
use super::{Decisions, Guardian};

/// In place of a rule's name; no rule can be called this.
pub const DRILL: &str = "(drill)";

impl Guardian {
    /// Does nothing where something is in force on this knob, or somebody else has set it.
    pub(super) fn drill(&mut self, now: Moment, mitigation: &Mitigation, out: &mut Decisions) {
        let theirs = self.blocks.iter().any(|block| block.theirs && block.knob.same_knob(mitigation));
        if self.stopping || theirs || self.ledger.on_knob(mitigation).is_some() {
            return;
        }
        let id = self.ledger.issue_id();
        let rule: Arc<str> = DRILL.into();
        let (wish, name, class) = (mitigation.clone(), Arc::clone(&rule), mitigation.verb.class());
        let valid_until = now + LASTING_WITHIN;
        out.commands.push(Command::Apply { id, mitigation: wish, rule: name, class, valid_until });
        self.ledger.add(Action {
            id,
            mitigation: mitigation.clone(),
            before: None,
            rule,
            step: None,
            goes_on: false,
            phase: Phase::Applying,
            since: now,
            waiting: true,
            due: now + VERIFY_EVERY,
            tries: 0,
            eased: None,
            why: UndoReason::Drilled,
            detail: Arc::from(""),
            theirs: None,
        });
    }
}
