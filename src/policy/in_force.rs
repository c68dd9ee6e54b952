//! What is in force, on its way, or in doubt: one action per knob. It is the policy's view of the journal; the undo
//! itself stays with whoever performs the commands.

use std::sync::Arc;
use std::time::Duration;

use super::event::UndoReason;
use super::mitigation::{ActionId, Amount, Class, Knob, Lasting, Mitigation};
use super::moment::Moment;
use super::view::Phase;

/// What is in force is read back this often; leases are renewed by it.
pub const VERIFY_EVERY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Action {
    pub id: ActionId,
    pub knob: Knob,
    pub mitigation: Mitigation,
    /// What was in force before an adjustment that is under way.
    pub before: Option<Mitigation>,
    pub rule: Arc<str>,
    /// Where to note the outcome: the flat number of the step that asked for it.
    pub step: Option<usize>,
    /// What the command last given does: kept here, because a reload may drop its step while it is under way.
    pub class: Class,
    /// What is under way is the same step at another strength.
    pub goes_on: bool,
    pub phase: Phase,
    /// When it entered its phase.
    pub since: Moment,
    /// When it was first asked for: what is adjusted later is as old as that.
    pub began: Moment,
    /// A command is out and not yet answered.
    pub waiting: bool,
    /// When to verify or to retry.
    pub due: Moment,
    pub tries: u32,
    /// When it was last made weaker: recovery takes its time between two such changes.
    pub eased: Option<Moment>,
    pub why: UndoReason,
    pub detail: Arc<str>,
    /// What it changed, from what to what, for as long as it is in force.
    pub changed: Arc<str>,
    /// How strong it was before it was last made weaker; `None` where it was made stronger since.
    pub loosened_from: Option<Amount>,
    /// What of it somebody else has set meanwhile, as last told.
    pub theirs: Option<Arc<str>>,
}

impl Action {
    /// One that is about to be applied.
    #[must_use]
    pub fn new(id: ActionId, knob: Knob, mitigation: Mitigation, rule: Arc<str>, now: Moment) -> Self {
        Self {
            id,
            knob,
            class: mitigation.verb.class(),
            mitigation,
            before: None,
            rule,
            step: None,
            goes_on: false,
            phase: Phase::Applying,
            since: now,
            began: now,
            waiting: true,
            due: now + VERIFY_EVERY,
            tries: 0,
            eased: None,
            why: UndoReason::Recovered,
            detail: Arc::from(""),
            changed: Arc::from(""),
            loosened_from: None,
            theirs: None,
        }
    }

    pub fn enter(&mut self, phase: Phase, now: Moment) {
        self.phase = phase;
        self.since = now;
        self.tries = 0;
    }

    /// It is over when it is done: there is nothing to undo.
    #[must_use]
    pub fn is_once(&self) -> bool {
        self.mitigation.verb.lasting() == Lasting::Once
    }
}

/// Doubling from one second to a minute.
#[must_use]
pub fn pause_after(tries: u32) -> Duration {
    Duration::from_secs(1_u64 << tries.min(6)).min(Duration::from_secs(60))
}

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

    pub fn all_mut(&mut self) -> &mut [Action] {
        &mut self.actions
    }

    pub fn find(&mut self, id: ActionId) -> Option<&mut Action> {
        self.actions.iter_mut().find(|action| action.id == id)
    }

    /// The place of the lasting action on this knob.
    #[must_use]
    pub fn at(&self, knob: &Knob) -> Option<usize> {
        self.actions.iter().position(|action| action.knob == *knob)
    }

    /// The lasting action on this knob.
    #[must_use]
    pub fn on(&self, knob: &Knob) -> Option<&Action> {
        self.actions.iter().find(|action| action.knob == *knob)
    }

    /// Since when an answer to this step is waited for. What only goes on at another strength is no new step.
    #[must_use]
    pub fn awaits(&self, flat: usize) -> Option<Moment> {
        let asks = |action: &&Action| action.waiting && action.phase == Phase::Applying && !action.goes_on;
        self.actions.iter().filter(asks).find(|action| action.step == Some(flat)).map(|action| action.since)
    }

    pub fn remove(&mut self, id: ActionId) -> Option<Action> {
        let at = self.actions.iter().position(|action| action.id == id)?;
        Some(self.actions.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        assert_eq!(pause_after(0), Duration::from_secs(1));
        assert_eq!(pause_after(3), Duration::from_secs(8));
        assert_eq!(pause_after(40), Duration::from_secs(60));
    }
}
