//! One change of one knob, from the moment at which it is asked for until it is known to be gone: in which phase it is, since
//! when, and when to look at it again. These change together only, by what happened to it.

use std::sync::Arc;
use std::time::Duration;

use super::effect::Effect;
use super::event::UndoReason;
use super::mitigation::{ActionId, Amount, Class, Knob, Lasting, Mitigation};
use super::moment::Moment;
use super::requester::Requester;
use super::view::{ActionView, Phase};

/// What is in force is read back this often; leases are renewed by it.
pub(crate) const VERIFY_EVERY: Duration = Duration::from_secs(5);

/// A mitigation that the journal says may be in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Inherited {
    pub id: ActionId,
    pub mitigation: Mitigation,
    pub rule: Requester,
    /// What identifies its target, which may be configured no more.
    pub target: Arc<str>,
    /// From what to what, as far as that was written down.
    pub changed: Arc<str>,
    /// Since it was first applied.
    pub age: Duration,
}

#[derive(Clone, Debug)]
pub struct Action {
    id: ActionId,
    knob: Knob,
    mitigation: Mitigation,
    /// What was in force before an adjustment that is under way.
    before: Option<Mitigation>,
    rule: Requester,
    /// Where to note the outcome: the flat number of the step that asked for it.
    step: Option<usize>,
    /// What the command last given does: kept here, because a reload may drop its step while it is under way.
    class: Class,
    /// What is under way is the same step at another strength.
    goes_on: bool,
    phase: Phase,
    /// When it entered its phase.
    since: Moment,
    /// When it was first asked for: what is adjusted later is as old as that.
    began: Moment,
    /// A command is out and not yet answered.
    waiting: bool,
    /// Its undo was given before its apply was answered.
    outran: bool,
    /// It was not read back since a time in which nobody looked.
    unwatched: bool,
    /// The command that is out was given since then.
    asked_since: bool,
    /// Its control was configured anew since its command was given.
    outdated: bool,
    /// When to verify or to retry.
    due: Moment,
    tries: u32,
    /// When it was last made weaker: recovery takes its time between two such changes.
    eased: Option<Moment>,
    why: UndoReason,
    detail: Arc<str>,
    /// What it changed, from what to what, for as long as it is in force.
    changed: Arc<str>,
    /// How strong it was before it was last made weaker; `None` where it was made stronger since.
    loosened_from: Option<Amount>,
    /// What of it somebody else has set meanwhile, as last told.
    theirs: Option<Arc<str>>,
}

impl Action {
    /// One that is about to be applied.
    #[must_use]
    pub fn new(id: ActionId, knob: Knob, mitigation: Mitigation, rule: Requester, now: Moment) -> Self {
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
            outran: false,
            unwatched: false,
            asked_since: false,
            outdated: false,
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

    /// What the journal says may be in force.
    #[must_use]
    pub fn inherited(found: Inherited, knob: Knob, now: Moment) -> Self {
        let Inherited { id, mitigation, rule, changed, age, .. } = found;
        Self {
            phase: Phase::InDoubt,
            waiting: false,
            due: now,
            why: UndoReason::Orphaned,
            detail: Arc::from("found in the journal"),
            changed,
            began: now - age,
            ..Self::new(id, knob, mitigation, rule, now)
        }
    }

    /// Asked for by this step, whose class it has.
    #[must_use]
    pub(crate) fn of_step(self, step: Option<usize>, class: Class) -> Self {
        Self { step, class, ..self }
    }

    /// It is undone for this reason, once that is nobody's wish any more.
    #[must_use]
    pub(crate) fn with_undo(self, why: UndoReason) -> Self {
        Self { why, ..self }
    }

    #[must_use]
    pub const fn id(&self) -> ActionId {
        self.id
    }

    #[must_use]
    pub const fn knob(&self) -> &Knob {
        &self.knob
    }

    #[must_use]
    pub const fn mitigation(&self) -> &Mitigation {
        &self.mitigation
    }

    #[must_use]
    pub(crate) const fn amount(&self) -> Amount {
        self.mitigation.amount
    }

    /// What was in force before an adjustment that is under way.
    #[must_use]
    pub(crate) fn amount_before(&self) -> Option<Amount> {
        self.before.as_ref().map(|before| before.amount)
    }

    #[must_use]
    pub const fn rule(&self) -> &Requester {
        &self.rule
    }

    #[must_use]
    pub const fn step(&self) -> Option<usize> {
        self.step
    }

    /// The step whose outcome is that of the command last given; what only goes on at another strength was noted before.
    #[must_use]
    pub(crate) fn step_begun(&self) -> Option<usize> {
        self.step.filter(|_| !self.goes_on)
    }

    #[must_use]
    pub(crate) const fn class(&self) -> Class {
        self.class
    }

    #[must_use]
    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    #[must_use]
    pub(crate) const fn since(&self) -> Moment {
        self.since
    }

    #[must_use]
    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Its undo was given before its apply was answered, which it still is not.
    #[must_use]
    pub(crate) const fn has_outrun(&self) -> bool {
        self.outran
    }

    /// It is being done still, whether or not that is wanted any more.
    #[must_use]
    pub(crate) fn is_being_applied(&self) -> bool {
        self.waiting && (self.phase == Phase::Applying || self.outran)
    }

    #[must_use]
    pub(crate) const fn due(&self) -> Moment {
        self.due
    }

    #[must_use]
    pub(crate) const fn eased(&self) -> Option<Moment> {
        self.eased
    }

    #[must_use]
    pub(crate) const fn why(&self) -> UndoReason {
        self.why
    }

    /// What it last came to, in words.
    #[must_use]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    #[must_use]
    pub fn view(&self, effect: Option<Effect>) -> ActionView {
        ActionView {
            id: self.id,
            mitigation: self.mitigation.clone(),
            rule: self.rule.clone(),
            phase: self.phase,
            since: self.since,
            began: self.began,
            target: Arc::clone(&self.knob.target),
            detail: Arc::clone(&self.detail),
            changed: Arc::clone(&self.changed),
            theirs: self.theirs.clone(),
            loosened_from: self.loosened_from,
            effect,
            next_try: (matches!(self.phase, Phase::Owed | Phase::InDoubt) && !self.waiting).then_some(self.due),
        }
    }

    fn enter(&mut self, phase: Phase, now: Moment) {
        self.phase = phase;
        self.since = now;
        self.tries = 0;
    }

    /// It is read back.
    pub(crate) const fn verify(&mut self) {
        (self.waiting, self.asked_since) = (true, true);
    }

    /// It is undone, or that is tried again. True where it begins.
    pub fn undo(&mut self, now: Moment) -> bool {
        self.outran = self.is_being_applied();
        self.waiting = true;
        let begins = self.phase != Phase::Owed;
        if begins {
            self.enter(Phase::Undoing, now);
        }
        begins
    }

    /// What was asked for before its undo was answered: the undo is still out.
    pub(crate) fn outrun(&mut self, has_landed: bool) {
        (self.waiting, self.outran) = (true, false);
        if let Some(before) = self.before.take().filter(|_| !has_landed) {
            self.mitigation = before;
        }
    }

    /// It goes on at another strength, or as another step.
    pub(crate) fn adjust(&mut self, now: Moment, to: Mitigation, step: Option<usize>, rule: Option<Requester>) {
        if self.mitigation.amount.is_stronger_than(to.amount) {
            self.eased = Some(now);
        }
        self.before = Some(std::mem::replace(&mut self.mitigation, to));
        if let Some(rule) = rule {
            self.rule = rule;
        }
        self.goes_on = step.is_some() && self.step == step;
        self.step = step;
        self.why = UndoReason::Recovered;
        (self.waiting, self.asked_since, self.outdated) = (true, true, false);
        self.enter(Phase::Applying, now);
    }

    /// Its control is not what it was when the command was given.
    pub(crate) const fn outdate(&mut self) {
        self.outdated = true;
    }

    #[must_use]
    pub(crate) const fn is_outdated(&self) -> bool {
        self.outdated
    }

    pub(crate) const fn set_class(&mut self, class: Class) {
        self.class = class;
    }

    /// Whoever performs it has answered.
    pub(crate) fn answered(&mut self, detail: &Arc<str>) {
        self.waiting = false;
        self.detail = Arc::clone(detail);
    }

    /// It was applied, and changed this.
    pub(crate) fn landed(&mut self, now: Moment, changed: &Arc<str>) {
        let before = self.before.take();
        self.enter(Phase::InForce, now);
        self.is_seen(now);
        self.changed = Arc::clone(changed);
        let weaker = |before: &Mitigation| before.amount.is_stronger_than(self.mitigation.amount);
        self.loosened_from = before.filter(weaker).map(|before| before.amount);
    }

    /// Nobody knows whether it was applied.
    pub(crate) fn doubt(&mut self, now: Moment) {
        self.before = None;
        self.enter(Phase::InDoubt, now);
        self.due = now + pause_after(0);
    }

    /// It could not be adjusted: what was in force before still is. False where nothing was.
    pub(crate) fn fall_back(&mut self, now: Moment) -> bool {
        let Some(before) = self.before.take() else { return false };
        self.mitigation = before;
        self.enter(Phase::InForce, now);
        self.due = now + VERIFY_EVERY;
        true
    }

    /// Nobody looked for a while: what lapses by itself may be gone.
    pub(crate) fn went_unwatched(&mut self, now: Moment) {
        (self.unwatched, self.asked_since) = (true, false);
        if self.phase == Phase::InForce && !self.waiting {
            self.due = now;
        }
    }

    /// It was not read back since a time in which nobody looked.
    #[must_use]
    pub(crate) const fn is_unwatched(&self) -> bool {
        self.unwatched
    }

    /// It was read back, and stands.
    pub(crate) fn stands(&mut self, now: Moment) {
        if self.phase == Phase::InDoubt {
            self.enter(Phase::InForce, now);
        }
        self.tries = 0;
        self.is_seen(now);
    }

    /// As of when its command was given: an answer of before nobody looked says nothing of now.
    fn is_seen(&mut self, now: Moment) {
        self.unwatched &= !self.asked_since;
        self.due = if self.unwatched { now } else { now + VERIFY_EVERY };
    }

    /// What of it somebody else has set, where that is news.
    pub(crate) fn note_theirs(&mut self, theirs: &Option<Arc<str>>) -> Option<Arc<str>> {
        if self.theirs == *theirs {
            return None;
        }
        self.theirs.clone_from(theirs);
        theirs.clone()
    }

    /// It could not be read back: when to try again.
    pub(crate) fn unread(&mut self, now: Moment, most: Duration) {
        self.due = now + pause_after(self.tries).min(most);
        self.tries += 1;
    }

    /// It could not be undone: in how long that is tried again.
    pub(crate) fn owe(&mut self, now: Moment) -> Duration {
        if self.phase != Phase::Owed {
            self.enter(Phase::Owed, now);
        }
        let pause = pause_after(self.tries);
        self.due = now + pause;
        self.tries += 1;
        pause
    }

    /// What is next for it need not wait.
    pub(crate) const fn hurry(&mut self, now: Moment) {
        self.due = now;
    }

    /// In another plan, steps have these numbers.
    pub(crate) fn renumber(&mut self, renumbered: impl Fn(usize) -> Option<usize>) {
        self.step = self.step.and_then(renumbered);
    }

    /// Nobody is to want it any more, for this reason.
    pub(crate) const fn let_go(&mut self, why: UndoReason) {
        self.why = why;
    }

    /// It is over when it is done: there is nothing to undo.
    #[must_use]
    pub(crate) fn is_once(&self) -> bool {
        self.mitigation.verb.lasting() == Lasting::Once
    }
}

/// Doubling from one second to a minute.
#[must_use]
pub(crate) fn pause_after(tries: u32) -> Duration {
    Duration::from_secs(1_u64 << tries.min(6)).min(Duration::from_secs(60))
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
