//! The operator's hand: undo, forget, pause, resume, and the daemon's own end. What an operator undid stays undone until it
//! is given back, by `resume` or after its rules were quiet for a while; the mode, and what rules see, stay true meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::super::action::Action;
use super::super::event::{Event, Skip, UndoReason};
use super::super::life::Life;
use super::super::losses::Standing;
use super::super::mitigation::{ActionId, Command, Knob, Mitigation};
use super::super::moment::Moment;
use super::super::orders::{Hold, Orders, Pause, QUIET_FOR, Undone, Wanted};
use super::super::plan::Plan;
use super::super::quiet::Quiet;
use super::super::rule::Rule;
use super::super::verdict::Verdict;
use super::super::view::{Phase, State};
use super::{Decisions, Guardian};

impl Guardian {
    /// Takes these back, or everything. What is on its way and cannot be taken back is not done any more.
    pub(super) fn undo(&mut self, now: Moment, ids: &[ActionId], by: &Arc<str>, out: &mut Decisions) {
        for at in 0..self.in_force.all().len() {
            let action = self.in_force.get_mut(at);
            if !ids.is_empty() && !ids.contains(&action.id()) {
                continue;
            }
            action.let_go(UndoReason::Operator);
            action.hurry(now);
            let (id, knob, mitigation) = (action.id(), action.knob().clone(), action.mitigation().clone());
            let undone = undone(now, action, by);
            self.orders.note(undone);
            out.events.push(Event::UndoneByOperator { id, mitigation, by: Arc::clone(by) });
            self.drop_wishes(&knob);
        }
    }

    /// Nobody wants this knob now; the steps that did are passed over.
    fn drop_wishes(&mut self, knob: &Knob) {
        for flat in 0..self.plan.step_count() {
            let (index, step) = self.plan.owner_of(flat);
            let is_taken = self.lives[index].state() == State::Firing && step < self.lives[index].taken();
            if is_taken && self.plan.knob(&self.plan.rules()[index].steps[step].mitigation) == *knob {
                self.steps[flat].view.skipped = Some(Skip::Operator);
            }
        }
        self.demands.drop_knob(knob);
        self.retries.forget(knob);
        self.orders.drop_theirs(knob);
    }

    /// Ends debts that cannot be paid: what was changed stays as it is.
    pub(super) fn forget(&mut self, now: Moment, ids: &[ActionId], by: &Arc<str>, out: &mut Decisions) {
        let is_named = |action: &&Action| ids.is_empty() || ids.contains(&action.id());
        let is_debt = |action: &&Action| matches!(action.phase(), Phase::Owed | Phase::InDoubt);
        let given_up: Vec<ActionId> =
            self.in_force.all().iter().filter(is_named).filter(is_debt).map(|action| action.id()).collect();
        for id in given_up {
            if let Some(action) = self.give_up(id, out) {
                self.orders.forget(id);
                // It stays as it is: a rule would take that for the value to begin with.
                self.orders.note(undone(now, &action, by));
                self.drop_wishes(action.knob());
                out.events.push(Event::Forgotten { id, mitigation: action.mitigation().clone(), by: Arc::clone(by) });
            }
        }
    }

    fn give_up(&mut self, id: ActionId, out: &mut Decisions) -> Option<Action> {
        let action = self.in_force.remove(id)?;
        self.demands.drop_orphans(action.knob());
        out.commands.push(Command::Forget { id });
        Some(action)
    }

    /// What an operator had ordered before a restart, where nothing newer was ordered since. A debt that was given up may
    /// have stayed in the journal; of one that is not there any more nothing need be known, and its number may be another's
    /// where the journal was lost.
    pub fn restore_orders(&mut self, now: Moment, mut orders: Orders, out: &mut Decisions) {
        orders.begin_anew(|id| self.give_up(*id, out).is_some());
        let moved = self.plan.moved(orders.controls());
        orders.follow(&moved);
        let was_paused = self.orders.is_paused();
        self.orders.join(orders);
        self.orders_unread = false;
        let undoes = self.orders.is_paused() && !self.orders.holds();
        // Read at start it finds nothing that was done since; read later it may.
        if undoes && !was_paused && !self.demands.is_empty() {
            self.stand_back(now);
        }
    }

    /// Nobody knows whether an operator had paused, so what cannot be undone is not done.
    pub const fn miss_orders(&mut self) {
        self.orders_unread = true;
    }

    /// The orders of before a restart are known, or an operator has said anew what is to be.
    pub const fn know_orders(&mut self) {
        self.orders_unread = false;
    }

    #[must_use]
    pub const fn misses_orders(&self) -> bool {
        self.orders_unread
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.demands.clear();
        self.in_force.let_go(UndoReason::Stopping, Moment::ORIGIN);
    }

    pub(super) fn pause(&mut self, now: Moment, until: Moment, hold: Hold, by: Arc<str>, out: &mut Decisions) {
        out.events.push(Event::Paused { lasts: until.since(now), hold, by: Arc::clone(&by) });
        self.orders.begin_pause(Pause { since: now, until, hold, by });
        if hold == Hold::Undo {
            self.stand_back(now);
        }
    }

    fn stand_back(&mut self, now: Moment) {
        self.demands.clear();
        self.in_force.let_go(UndoReason::Paused, now);
        self.climb_anew();
    }

    /// Ends a pause and gives everything back, or only the knobs of these actions.
    pub(super) fn resume(&mut self, ids: &[ActionId], by: &Arc<str>, out: &mut Decisions) {
        let pause = if ids.is_empty() { self.orders.resume_all() } else { None };
        if pause.is_some() {
            out.events.push(Event::Resumed { what: "the pause is over".to_owned(), by: Arc::clone(by) });
        }
        for mitigation in self.orders.resume(ids) {
            out.events.push(handed_back(&mitigation, Arc::clone(by)));
        }
        let is_open = self.steps.iter().any(|memory| memory.view.breaker_until.is_some());
        if ids.is_empty() && is_open {
            self.reset_breakers();
            out.events.push(Event::Resumed { what: "all breakers are closed".to_owned(), by: Arc::clone(by) });
        }
    }

    /// A pause whose time is over.
    pub(super) fn pass_pause(&mut self, now: Moment, out: &mut Decisions) {
        if self.orders.end_pause(now).is_some() {
            out.events.push(Event::Resumed { what: "the pause is over".to_owned(), by: "its time limit".into() });
        }
    }

    /// Knobs that are the rules' again, after all rules were evaluated.
    pub(super) fn pass_orders(&mut self, now: Moment, watched: Duration, out: &mut Decisions) {
        if self.orders.holds_nothing() {
            return;
        }
        let (plan, lives, readings, stack) = (&self.plan, &self.lives, self.slots.readings(), &mut self.stack);
        self.orders.judge_losses(now, |loss| {
            let index = plan.rule_named(&loss.rule)?;
            let is_clear = lives[index].state() != State::Firing && lives[index].when() == Verdict::False;
            let could = plan.rules().iter().filter(|rule| plan.has_knob(rule, &loss.knob));
            let longest = could.map(|rule| rule.cooldown).max().unwrap_or_default();
            Some(Standing { is_clear, cooldown: longest.max(plan.rules()[index].cooldown) })
        });
        let wishes = Wishes { now, plan, lives };
        let over = self.orders.hand_back(watched, |knob| wishes.of(knob, |index, _| unless_active(&lives[index])));
        out.events
            .extend(over.iter().map(|undone| handed_back(&undone.mitigation, "10 quiet minutes of its rules".into())));
        // What somebody else set is judged by the rules as they are now.
        self.orders.judge_theirs(watched, |knob| {
            wishes.of(knob, |index, rule| {
                wish(rule, &lives[index], || plan.programs()[index].is_clear(lives[index].when(), readings, stack))
            })
        });
    }

    /// Every rule that fires begins its ladder again.
    fn climb_anew(&mut self) {
        for index in 0..self.lives.len() {
            if self.lives[index].state() != State::Firing {
                continue;
            }
            self.lives[index].climb_from(0);
            for step in 0..self.plan.rules()[index].steps.len() {
                let memory = &mut self.steps[self.plan.flat_step(index, step)];
                // What loses something is not done twice in one firing.
                let done = memory.run.done;
                memory.begin();
                memory.run.done = done;
            }
        }
    }
}

/// What all rules that could want a knob want of it.
struct Wishes<'a> {
    now: Moment,
    plan: &'a Plan,
    lives: &'a [Life],
}

impl Wishes<'_> {
    /// `one` says it of a rule that is not blind.
    fn of(&self, knob: &Knob, mut one: impl FnMut(usize, &Rule) -> Wanted) -> Wanted {
        let wants = |rule: &Rule| self.plan.has_knob(rule, knob);
        let rules = || self.plan.rules().iter().enumerate().filter(|(_, rule)| wants(rule));
        let is_seen = rules().any(|(index, _)| self.lives[index].state() != State::Blind);
        let wishes = rules().map(|(index, rule)| match self.lives[index].blind_for(self.now) {
            Some(blind) if blind < patience(rule, is_seen) => Wanted::Unknown,
            Some(_) => Wanted::NotFor(Duration::ZERO),
            None => one(index, rule),
        });
        // A rule that is missing may be back with the next configuration.
        wishes.reduce(Wanted::or).unwrap_or(Wanted::NotFor(QUIET_FOR))
    }
}

/// A rule that may stay blind for ever holds nothing up for ever: it is waited for as if it cleared, and where no other rule
/// sees, for as long as anything is.
fn patience(rule: &Rule, is_seen: bool) -> Duration {
    if is_seen { rule.clear_for.min(QUIET_FOR) } else { QUIET_FOR }
}

/// One that is quiet or cools wants nothing.
fn unless_active(life: &Life) -> Wanted {
    match life.state() {
        State::Pending | State::Firing | State::Undoing => Wanted::Now,
        State::Quiet | State::Cooling | State::Blind if life.when() == Verdict::Unknown => Wanted::Unknown,
        State::Quiet | State::Cooling | State::Blind | State::NotApplicable => Wanted::NotFor(QUIET_FOR),
    }
}

/// What one rule wants of its knobs: one that has not fired yet may, unless it would clear now. A quiet one whose clear
/// condition nobody can see is waited for like one that is there no more.
fn wish(rule: &Rule, life: &Life, is_clear: impl FnOnce() -> Verdict) -> Wanted {
    match life.state() {
        State::Firing => Wanted::Now,
        State::Pending | State::Undoing => Wanted::Perhaps,
        State::NotApplicable => Wanted::NotFor(rule.clear_for),
        State::Quiet | State::Cooling | State::Blind if life.when() == Verdict::Unknown => Wanted::Unknown,
        State::Quiet | State::Cooling | State::Blind => match is_clear() {
            Verdict::True => Wanted::NotFor(rule.clear_for),
            Verdict::False => Wanted::Perhaps,
            Verdict::Unknown => Wanted::NotFor(QUIET_FOR),
        },
    }
}

fn undone(now: Moment, action: &Action, by: &Arc<str>) -> Undone {
    Undone {
        id: action.id(),
        knob: action.knob().clone(),
        mitigation: action.mitigation().clone(),
        since: now,
        by: Arc::clone(by),
        quiet: Quiet::default(),
    }
}

fn handed_back(mitigation: &Mitigation, by: Arc<str>) -> Event {
    Event::Resumed { what: format!("the rules control `{mitigation}` again"), by }
}
