//! Copying out what others may see. Called after every tick, so it reuses what the view already holds.

use std::sync::Arc;

use super::super::event::Mode;
use super::super::mitigation::{ActionId, Mitigation};
use super::super::view::{ActionView, RuleView, View};
use super::Guardian;

impl Guardian {
    /// What an action is about, while the ledger holds it.
    #[must_use]
    pub fn mitigation_of(&self, id: ActionId) -> Option<&Mitigation> {
        self.ledger.all().iter().find(|action| action.id == id).map(|action| &action.mitigation)
    }

    pub fn show(&self, view: &mut View) {
        view.mode = self.mode.mode;
        view.mode_since = self.mode.since;
        view.hold = self.mode.hold;
        view.hold_until = (self.mode.mode == Mode::Emergency).then_some(self.mode.hold_until);
        view.rules.clear();
        view.rules.extend(self.lives.iter().zip(self.plan.rules()).map(|(life, rule)| RuleView {
            state: life.state,
            since: life.since,
            until: life.until(rule),
            when: life.when,
            clear: life.clear,
            taken: life.taken,
            fired: life.fired,
        }));
        view.steps.clear();
        view.steps.extend(self.steps.iter().map(|memory| memory.view));
        view.slots.clear();
        view.slots.extend(self.slots.readings().iter().map(|reading| reading.known()));
        view.actions.clear();
        view.actions.extend(self.ledger.all().iter().map(|action| ActionView {
            id: action.id,
            mitigation: action.mitigation.clone(),
            rule: Arc::clone(&action.rule),
            phase: action.phase,
            since: action.since,
            detail: Arc::clone(&action.detail),
            next_try: (!action.waiting).then_some(action.due),
        }));
    }
}
