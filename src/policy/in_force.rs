//! What is in force, on its way, or in doubt: one action per knob. It is the policy's view of the journal; the undo
//! itself stays with whoever performs the commands.

use std::sync::Arc;

use super::action::Action;
use super::event::UndoReason;
use super::mitigation::{ActionId, Knob};
use super::moment::Moment;
use super::view::Phase;

#[derive(Clone, Debug)]
pub struct InForce {
    actions: Vec<Action>,
    next_id: u64,
}

impl InForce {
    #[must_use]
    pub const fn new(next_id: ActionId) -> Self {
        Self { actions: Vec::new(), next_id: next_id.0 }
    }

    pub fn issue_id(&mut self) -> ActionId {
        let id = ActionId(self.next_id);
        self.next_id += 1;
        id
    }

    /// Ids below this were given before.
    pub fn raise(&mut self, next_id: ActionId) {
        self.next_id = self.next_id.max(next_id.0);
    }

    pub fn add(&mut self, action: Action) {
        self.actions.push(action);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }

    #[must_use]
    pub fn all(&self) -> &[Action] {
        &self.actions
    }

    pub fn get_mut(&mut self, at: usize) -> &mut Action {
        &mut self.actions[at]
    }

    /// All of it is to be undone from then on, for this reason.
    pub fn let_go(&mut self, why: UndoReason, due: Moment) {
        for action in &mut self.actions {
            action.let_go(why);
            action.hurry(due);
        }
    }

    /// Nobody knows what became of it while nobody looked: it is read back before anything else is made of it.
    pub fn went_unwatched(&mut self, now: Moment) {
        self.actions.iter_mut().for_each(|action| action.went_unwatched(now));
    }

    /// What is owed on this knob need not wait for its next try.
    pub fn hurry(&mut self, now: Moment, knob: &Knob) {
        let owed = |action: &&mut Action| *action.knob() == *knob && action.phase() == Phase::Owed;
        self.actions.iter_mut().filter(owed).for_each(|action| action.hurry(now));
    }

    /// Nothing that is to be looked at on this target need wait.
    pub fn usable(&mut self, now: Moment, target: &Arc<str>) {
        let is_due = |action: &&mut Action| {
            action.knob().target == *target && !action.is_waiting() && action.phase() != Phase::InForce
        };
        self.actions.iter_mut().filter(is_due).for_each(|action| action.hurry(now));
    }

    /// Another plan, in which steps have these numbers.
    pub fn renumber(&mut self, renumbered: impl Fn(usize) -> Option<usize>) {
        for action in &mut self.actions {
            action.renumber(&renumbered);
        }
    }

    /// Those at these controls.
    pub fn outdate(&mut self, is_changed: impl Fn(&str) -> bool) {
        let changed = self.actions.iter_mut().filter(|action| is_changed(&action.mitigation().control));
        changed.for_each(Action::outdate);
    }

    pub fn find(&mut self, id: ActionId) -> Option<&mut Action> {
        self.actions.iter_mut().find(|action| action.id() == id)
    }

    /// The place of the lasting action on this knob.
    #[must_use]
    pub fn at(&self, knob: &Knob) -> Option<usize> {
        self.actions.iter().position(|action| *action.knob() == *knob)
    }

    /// The lasting action on this knob.
    #[must_use]
    pub fn on(&self, knob: &Knob) -> Option<&Action> {
        self.actions.iter().find(|action| *action.knob() == *knob)
    }

    /// Since when an answer to this step is waited for. What only goes on at another strength is no new step.
    #[must_use]
    pub fn awaits(&self, flat: usize) -> Option<Moment> {
        let asks = |action: &&Action| {
            action.is_waiting() && action.phase() == Phase::Applying && action.step_begun().is_some()
        };
        self.actions.iter().filter(asks).find(|action| action.step() == Some(flat)).map(Action::since)
    }

    pub fn remove(&mut self, id: ActionId) -> Option<Action> {
        let at = self.actions.iter().position(|action| action.id() == id)?;
        Some(self.actions.remove(at))
    }
}
