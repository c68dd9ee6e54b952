//! What commands came to. Only a verified end removes an action from the ledger; a failed undo stays owed, and an
//! answer that never came leaves the action in doubt until it is read back.

use std::sync::Arc;
use std::time::Duration;

use super::super::event::Event;
use super::super::ledger::{Action, VERIFY_EVERY, pause_after};
use super::super::mitigation::{Answered, Lasting, Outcome, Report, Verb};
use super::super::moment::Moment;
use super::super::view::{Phase, State};
use super::drill::DRILL;
use super::{Decisions, Guardian};

/// What is in force is read back at least this often, even while its target is hard to reach: a lease of 30 s must not
/// lapse in an emergency.
const MOST_BETWEEN_READS: Duration = Duration::from_secs(10);

/// A target that said no is not asked again for a minute.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

impl Guardian {
    pub(super) fn answer(&mut self, now: Moment, report: Report, out: &mut Decisions) {
        let Some(action) = self.ledger.find(report.id) else { return };
        action.waiting = false;
        action.detail = Arc::clone(&report.detail);
        match report.answered {
            Answered::Apply if action.mitigation.verb.lasting() == Lasting::Once => self.pulsed(now, &report, out),
            Answered::Apply if *action.rule == *DRILL => {
                let knob = action.mitigation.clone();
                self.applied(now, &report, out);
                // What a drill could not do keeps no rule from trying it.
                self.unblock(&knob);
            }
            Answered::Apply => self.applied(now, &report, out),
            Answered::Verify => self.verified(now, &report, out),
            Answered::Undo => self.undone(now, &report, out),
        }
    }

    fn pulsed(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.ledger.remove(report.id) else { return };
        self.tell_acted(&action, report, out);
        self.note_outcome(now, action.step, report.outcome, out);
    }

    fn applied(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.ledger.find(report.id) else { return };
        let told = action.clone();
        let before = action.before.take();
        match report.outcome {
            Outcome::Applied | Outcome::NoEffect => {
                action.enter(Phase::InForce, now);
                action.due = now + VERIFY_EVERY;
                self.unblock(&told.mitigation);
            }
            Outcome::TimedOut => {
                action.enter(Phase::InDoubt, now);
                action.due = now + pause_after(0);
            }
            Outcome::Overridden => {
                self.ledger.remove(report.id);
                self.block_as_theirs(&told.mitigation);
                self.drop_idle_blocks();
            }
            Outcome::Already if before.is_none() => {
                self.ledger.remove(report.id);
                self.block_as_already(now, &told.mitigation, REFUSED_PAUSE);
            }
            Outcome::EpochChanged => {
                self.ledger.remove(report.id);
                self.block(now, &told.mitigation, Duration::ZERO);
            }
            Outcome::Already | Outcome::Refused | Outcome::Unsupported | Outcome::Unreachable | Outcome::Expired => {
                self.apply_failed(now, report, before);
            }
        }
        self.tell_acted(&told, report, out);
        // What only goes on at another strength was noted when it began.
        self.note_outcome(now, told.step.filter(|_| !told.goes_on), report.outcome, out);
    }

    /// Where an adjustment failed, what was in force before it still is.
    fn apply_failed(&mut self, now: Moment, report: &Report, before: Option<super::Mitigation>) {
        let Some(action) = self.ledger.find(report.id) else { return };
        let knob = action.mitigation.clone();
        match before {
            Some(before) => {
                action.mitigation = before;
                action.enter(Phase::InForce, now);
                action.due = now + VERIFY_EVERY;
            }
            None => {
                self.ledger.remove(report.id);
            }
        }
        let may_soon_be_done = matches!(report.outcome, Outcome::Unreachable | Outcome::Expired);
        let least = if may_soon_be_done { Duration::ZERO } else { REFUSED_PAUSE };
        self.block(now, &knob, least);
    }

    fn verified(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.ledger.find(report.id) else { return };
        let in_doubt = action.phase == Phase::InDoubt;
        match report.outcome {
            Outcome::Applied | Outcome::NoEffect => {
                if in_doubt {
                    action.enter(Phase::InForce, now);
                }
                action.tries = 0;
                action.due = now + VERIFY_EVERY;
                note_theirs(action, report, out);
            }
            Outcome::TimedOut | Outcome::Unreachable | Outcome::Refused | Outcome::Unsupported | Outcome::Expired => {
                action.due = now + pause_after(action.tries).min(MOST_BETWEEN_READS);
                action.tries += 1;
            }
            Outcome::EpochChanged | Outcome::Already | Outcome::Overridden => self.lost(now, report, in_doubt, out),
        }
    }

    /// No longer in force. A restart is answered by applying it again; what a person did stays.
    fn lost(&mut self, now: Moment, report: &Report, in_doubt: bool, out: &mut Decisions) {
        let Some(action) = self.ledger.remove(report.id) else { return };
        let theirs = match report.outcome {
            Outcome::Overridden => true,
            Outcome::Already => !in_doubt,
            _ => false,
        };
        if theirs {
            self.block_as_theirs(&action.mitigation);
        } else {
            self.block(now, &action.mitigation, Duration::ZERO);
        }
        self.claims.retain(|claim| claim.rule.is_some() || !claim.mitigation.same_knob(&action.mitigation));
        self.drop_idle_blocks();
        out.events.push(Event::Lost {
            id: report.id,
            mitigation: action.mitigation,
            outcome: report.outcome,
            detail: Arc::clone(&report.detail),
        });
    }

    fn undone(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.ledger.find(report.id) else { return };
        let (id, mitigation, outcome) = (report.id, action.mitigation.clone(), report.outcome);
        let detail = Arc::clone(&report.detail);
        match outcome {
            Outcome::Applied | Outcome::Already | Outcome::EpochChanged | Outcome::Overridden => {
                self.ledger.remove(id);
                out.events.push(Event::Undone { id, mitigation, outcome, detail, took: report.took });
            }
            Outcome::NoEffect
            | Outcome::Refused
            | Outcome::Unreachable
            | Outcome::TimedOut
            | Outcome::Unsupported
            | Outcome::Expired => {
                if action.phase != Phase::Owed {
                    action.enter(Phase::Owed, now);
                }
                let retry_in = pause_after(action.tries);
                action.due = now + retry_in;
                action.tries += 1;
                out.events.push(Event::Owed { id, mitigation, outcome, detail, retry_in });
            }
        }
    }

    fn tell_acted(&self, action: &Action, report: &Report, out: &mut Decisions) {
        out.events.push(Event::Acted {
            rule: Arc::clone(&action.rule),
            id: action.id,
            mitigation: action.mitigation.clone(),
            outcome: report.outcome,
            detail: Arc::clone(&report.detail),
            took: report.took,
            freed_bytes: report.freed_bytes,
        });
    }

    /// A step that worked settles from now on; where nothing of a rung did, the next is taken at once.
    fn note_outcome(&mut self, now: Moment, step: Option<usize>, outcome: Outcome, out: &mut Decisions) {
        let Some(flat) = step else { return };
        self.steps[flat].view.outcome = Some(outcome);
        self.steps[flat].view.skipped = None;
        let (index, step) = self.plan.owner_of(flat);
        let rule = &self.plan.rules()[index];
        let failed = rule.rung(step).all(|step| self.gave_nothing(index, step));
        let life = &mut self.lives[index];
        let latest = life.taken.checked_sub(1).is_some_and(|latest| rule.rung(step).contains(&latest));
        if life.state == State::Firing && latest && life.settles.is_some() {
            if worked(outcome) {
                life.settles = life.settles.max(Some(now + rule.steps[step].settle));
            } else if failed {
                life.settles = Some(now);
                life.judged = None;
            }
        }
        if outcome == Outcome::NoEffect {
            self.count_effect(now, flat, false, out);
        }
    }

    /// It was taken, and there is nothing to wait for.
    fn gave_nothing(&self, index: usize, step: usize) -> bool {
        let view = &self.steps[self.plan.flat_step(index, step)].view;
        let tells = self.plan.rules()[index].steps[step].mitigation.verb == Verb::Notify;
        let failed = view.outcome.is_some_and(|outcome| !worked(outcome));
        step < self.lives[index].taken && (tells || view.skipped.is_some() || failed)
    }
}

const fn worked(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Applied | Outcome::Already)
}

/// Told once for each thing that somebody else set, not at each reading.
fn note_theirs(action: &mut Action, report: &Report, out: &mut Decisions) {
    if action.theirs == report.theirs {
        return;
    }
    action.theirs.clone_from(&report.theirs);
    if let Some(found) = &report.theirs {
        let (mitigation, found) = (action.mitigation.clone(), Arc::clone(found));
        out.events.push(Event::Interfered { id: report.id, mitigation, found });
    }
}
