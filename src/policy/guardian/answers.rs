//! What commands came to. Only a verified end removes an action from the ledger; a failed undo stays owed, and an
//! answer that never came leaves the action in doubt until it is read back.

use std::sync::Arc;
use std::time::Duration;

use super::super::action::{Action, pause_after};
use super::super::event::Event;
use super::super::mitigation::{Answered, Class, Outcome, Report};
use super::super::moment::Moment;
use super::super::orders::{Ends, Theirs};
use super::super::quiet::Quiet;
use super::super::view::{Phase, State};
use super::{Decisions, Guardian};

/// What is in force is read back at least this often, even while its target is hard to reach: a lease of 30 s must not
/// lapse in an emergency.
const MOST_BETWEEN_READS: Duration = Duration::from_secs(10);

/// A target that said no is not asked again for a minute.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

impl Guardian {
    pub(super) fn answer(&mut self, now: Moment, report: Report, out: &mut Decisions) {
        let Some(action) = self.in_force.find(report.id) else { return };
        action.answered(&report.detail);
        let is_drilled = action.rule().is_drill();
        match report.answered {
            Answered::Apply if action.is_once() => self.done_once(now, &report, out),
            Answered::Apply if action.has_outrun() => self.outrun(now, &report, out),
            Answered::Apply => {
                let knob = action.knob().clone();
                self.applied(now, &report, out);
                // What a drill could not do keeps no rule from trying it.
                if is_drilled {
                    self.retries.forget(&knob);
                }
            }
            Answered::Verify => self.verified(now, &report, out),
            Answered::Undo => self.undone(now, &report, out),
        }
    }

    fn done_once(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.in_force.remove(report.id) else { return };
        self.tell_acted(&action, report, out);
        self.note_outcome(now, action.step(), report.outcome, out);
    }

    fn applied(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.in_force.find(report.id) else { return };
        let told = action.clone();
        match report.outcome {
            Outcome::Applied | Outcome::NoEffect => {
                action.landed(now, &report.detail);
                self.retries.forget(told.knob());
            }
            Outcome::TimedOut => action.doubt(now),
            Outcome::Overridden => {
                self.in_force.remove(report.id);
                self.note_theirs(now, &told, report);
                self.forget_idle_knobs();
            }
            Outcome::Already if told.amount_before().is_none() => {
                self.in_force.remove(report.id);
                self.retries.already(now, told.knob(), told.amount(), REFUSED_PAUSE);
            }
            Outcome::EpochChanged => {
                self.in_force.remove(report.id);
                self.retries.failed(now, told.knob(), Duration::ZERO);
            }
            Outcome::Already | Outcome::Refused | Outcome::Unsupported | Outcome::Unreachable | Outcome::Expired => {
                self.apply_failed(now, report);
            }
        }
        self.tell_acted(&told, report, out);
        self.note_outcome(now, told.step_begun(), report.outcome, out);
    }

    /// Its undo was given before this was answered, and is answered next. Only what somebody else did is news.
    fn outrun(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.in_force.find(report.id) else { return };
        let told = action.clone();
        action.outrun(matches!(report.outcome, Outcome::Applied | Outcome::NoEffect));
        if report.outcome == Outcome::Overridden && !self.orders.is_undone(told.knob()) {
            self.note_theirs(now, &told, report);
        }
        self.tell_acted(&told, report, out);
        self.note_outcome(now, told.step_begun(), report.outcome, out);
    }

    /// Where an adjustment failed, what was in force before it still is.
    fn apply_failed(&mut self, now: Moment, report: &Report) {
        let Some(action) = self.in_force.find(report.id) else { return };
        let knob = action.knob().clone();
        if !action.fall_back(now) {
            self.in_force.remove(report.id);
        }
        match report.outcome {
            Outcome::Unreachable | Outcome::Expired => self.retries.failed(now, &knob, Duration::ZERO),
            Outcome::Refused => self.retries.refused(now, &knob, REFUSED_PAUSE),
            Outcome::Applied
            | Outcome::Already
            | Outcome::NoEffect
            | Outcome::TimedOut
            | Outcome::Unsupported
            | Outcome::EpochChanged
            | Outcome::Overridden => self.retries.failed(now, &knob, REFUSED_PAUSE),
        }
    }

    fn verified(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.in_force.find(report.id) else { return };
        match report.outcome {
            Outcome::Applied | Outcome::NoEffect => {
                action.stands(now);
                tell_theirs(action, report, out);
            }
            Outcome::TimedOut | Outcome::Unreachable | Outcome::Refused | Outcome::Unsupported | Outcome::Expired => {
                action.unread(now, MOST_BETWEEN_READS);
            }
            Outcome::EpochChanged | Outcome::Already | Outcome::Overridden => self.lost(now, report, out),
        }
    }

    /// No longer in force. A restart is answered by applying it again; what a person did stays.
    fn lost(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.in_force.remove(report.id) else { return };
        self.retries.something_ended(now);
        let was_known = action.phase() != Phase::InDoubt;
        let theirs = report.outcome == Outcome::Overridden || report.outcome == Outcome::Already && was_known;
        if theirs {
            self.note_theirs(now, &action, report);
        } else {
            self.retries.failed(now, action.knob(), Duration::ZERO);
        }
        self.demands.drop_orphans(action.knob());
        self.forget_idle_knobs();
        out.events.push(Event::Lost {
            id: report.id,
            mitigation: action.mitigation().clone(),
            outcome: report.outcome,
            detail: Arc::clone(&report.detail),
        });
    }

    fn undone(&mut self, now: Moment, report: &Report, out: &mut Decisions) {
        let Some(action) = self.in_force.find(report.id) else { return };
        let (id, mitigation, outcome) = (report.id, action.mitigation().clone(), report.outcome);
        let detail = Arc::clone(&report.detail);
        match outcome {
            Outcome::Applied | Outcome::Already | Outcome::EpochChanged | Outcome::Overridden => {
                let action = self.in_force.remove(id);
                self.retries.something_ended(now);
                // What an operator undid is an order of its own.
                let is_theirs = outcome == Outcome::Overridden || report.theirs.is_some();
                let found = action.filter(|action| is_theirs && !self.orders.is_undone(action.knob()));
                if let Some(action) = found {
                    self.note_theirs(now, &action, report);
                }
                out.events.push(Event::Undone { id, mitigation, outcome, detail, took: report.took });
            }
            Outcome::NoEffect
            | Outcome::Refused
            | Outcome::Unreachable
            | Outcome::TimedOut
            | Outcome::Unsupported
            | Outcome::Expired => {
                let retry_in = action.owe(now);
                out.events.push(Event::Owed { id, mitigation, outcome, detail, retry_in });
            }
        }
    }

    /// Somebody else set it: no rule turns it until none wants it any more.
    fn note_theirs(&mut self, now: Moment, action: &Action, report: &Report) {
        let ends = Ends::WhenAllAreClear(Quiet::default());
        let (id, knob, mitigation) = (action.id(), action.knob().clone(), action.mitigation().clone());
        let found = report.theirs.as_ref().map_or_else(|| Arc::clone(&report.detail), Arc::clone);
        self.orders.note_theirs(Theirs { id, knob, mitigation, found, since: now, ends });
    }

    fn tell_acted(&self, action: &Action, report: &Report, out: &mut Decisions) {
        out.events.push(Event::Acted {
            rule: action.rule().clone(),
            id: action.id(),
            mitigation: action.mitigation().clone(),
            before: action.amount_before(),
            outcome: report.outcome,
            detail: Arc::clone(&report.detail),
            took: report.took,
            freed_bytes: report.freed_bytes,
        });
    }

    /// A step that worked settles from now on. What could not be done is tried again with growing pauses, and where
    /// nothing of a rung was done, the next is taken at once.
    fn note_outcome(&mut self, now: Moment, step: Option<usize>, outcome: Outcome, out: &mut Decisions) {
        let Some(flat) = step else { return };
        let is_once = self.step_is_once(flat);
        let memory = &mut self.steps[flat];
        memory.view.outcome = Some(outcome);
        memory.view.skipped = None;
        // It may have destroyed what it was to destroy, and would do it once more.
        let may_have_worked = is_once && outcome == Outcome::TimedOut && self.step_of(flat).class >= Class::Lossy;
        let memory = &mut self.steps[flat];
        let has_worked = worked(outcome) || may_have_worked;
        memory.run.done |= is_once && (has_worked || outcome == Outcome::NoEffect);
        let retries = is_once && !may_have_worked;
        memory.run.retry_at =
            retry_of(outcome).filter(|_| retries).map(|least| now + pause_after(memory.run.tries).max(least));
        memory.run.tries = if has_worked { 0 } else { memory.run.tries + 1 };
        let (index, step) = self.plan.owner_of(flat);
        let rule = &self.plan.rules()[index];
        if is_once && !has_worked && outcome != Outcome::NoEffect {
            self.orders.take_back_loss(&rule.name, &self.plan.knob(&rule.steps[step].mitigation));
        }
        let is_over = rule.rung(step).all(|step| self.gave_nothing(index, step));
        let life = &mut self.lives[index];
        let latest = life.taken().checked_sub(1).is_some_and(|latest| rule.rung(step).contains(&latest));
        if life.state() == State::Firing && latest {
            if has_worked {
                life.settle(Some(now + rule.steps[step].settle));
            } else if is_over {
                life.do_nothing(now);
            }
        }
        if outcome == Outcome::NoEffect {
            self.count_useless(now, flat, out);
        }
    }

    /// It was taken, and there is nothing to wait for.
    fn gave_nothing(&self, index: usize, step: usize) -> bool {
        let memory = &self.steps[self.plan.flat_step(index, step)];
        let tells = self.plan.rules()[index].steps[step].class == Class::Notify;
        let failed = memory.view.outcome.is_some_and(|outcome| !worked(outcome));
        step < self.lives[index].taken() && (tells || memory.view.skipped.is_some() || failed)
    }
}

const fn worked(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Applied | Outcome::Already)
}

/// After how long at least something that leaves nothing in force is tried again; `None` where that is useless.
const fn retry_of(outcome: Outcome) -> Option<Duration> {
    match outcome {
        Outcome::Unreachable | Outcome::TimedOut | Outcome::EpochChanged | Outcome::Expired => Some(Duration::ZERO),
        Outcome::Refused | Outcome::Overridden => Some(REFUSED_PAUSE),
        Outcome::Applied | Outcome::Already | Outcome::NoEffect | Outcome::Unsupported => None,
    }
}

/// Told once for each thing that somebody else set, not at each reading.
fn tell_theirs(action: &mut Action, report: &Report, out: &mut Decisions) {
    if let Some(found) = action.note_theirs(&report.theirs) {
        let mitigation = action.mitigation().clone();
        out.events.push(Event::Interfered { id: report.id, mitigation, found });
    }
}
