//! The way back: last in, first out, one step per interval, halving instead of jumping; then the rules cool and the
//! node is normal again.

use std::sync::Arc;

use super::super::demand::{Demand, WayBack};
use super::super::event::{Event, Mode, ModeReason};
use super::super::mitigation::{Amount, Knob, Verb};
use super::super::moment::Moment;
use super::super::rule::Step;
use super::super::severity::Severity;
use super::super::view::{Phase, State};
use super::{Decisions, Guardian};

impl Guardian {
    pub(super) fn recover(&mut self, now: Moment, out: &mut Decisions) {
        self.drop_inherited();
        let undoing = self.in_force.all().iter().any(|action| action.phase() == Phase::Undoing && action.is_waiting());
        while now >= self.next_undo && !undoing {
            let Some(at) = self.last_undoable(now) else { break };
            if self.take_back(now, at) {
                self.next_undo = now + self.plan.policy.emergency.undo_interval;
            }
        }
        self.cool_rules(now, out);
    }

    /// What a restart left behind goes back whole and at once, but for what some rule of an emergency may climb to again.
    fn drop_inherited(&mut self) {
        let is_inherited = |demand: &Demand| demand.rule.is_none() && demand.way_back == WayBack::Whole;
        for at in (0..self.demands.count()).rev() {
            let demand = self.demands.get(at);
            let stays = self.mode.mode() == Mode::Emergency && self.may_be_wanted(&demand.knob);
            if is_inherited(demand) && !stays {
                self.demands.remove(at);
            }
        }
    }

    /// Emergency ends when nothing alarms any more and the hold is over.
    pub(super) fn leave_emergency(&mut self, now: Moment, out: &mut Decisions) {
        if self.mode.mode() == Mode::Emergency && !self.is_alarmed() && !self.mode.holds(now) {
            self.turn_mode(Mode::Recovering, now, ModeReason::Cleared, out);
        }
    }

    /// It fires, and makes the node an emergency.
    pub(super) fn alarms(&self, rule: usize) -> bool {
        self.lives[rule].state() == State::Firing && self.plan.rules()[rule].is_alarm()
    }

    pub(super) fn is_alarmed(&self) -> bool {
        (0..self.lives.len()).any(|rule| self.alarms(rule))
    }

    pub(super) fn leave_recovery(&mut self, now: Moment, out: &mut Decisions) {
        // An undo that a target will not take is owed, alarmed and tried again, but the node is not recovering by it.
        // What some rule wants, although nothing is an emergency, is no part of the recovery either.
        let is_wanted = |knob: &Knob| {
            let fires = |rule: usize| self.lives[rule].state() == State::Firing;
            self.demands.on(knob).any(|at| self.demands.get(at).rule.is_some_and(fires))
        };
        let is_owed = |action: &super::Action| action.phase() == Phase::Owed;
        let in_force = self.in_force.all();
        let is_settled = in_force.iter().all(|action| is_owed(action) || is_wanted(action.knob()));
        let is_undoing = self.lives.iter().any(|life| life.state() == State::Undoing);
        let is_left_over = self.demands.all().iter().any(|demand| demand.rule.is_none());
        if self.mode.mode() != Mode::Recovering || !is_settled || is_undoing || is_left_over {
            return;
        }
        let owed = in_force.iter().filter(|action| is_owed(action)).count();
        let why = ModeReason::Recovered { in_force: in_force.len() - owed, owed };
        self.turn_mode(Mode::Normal, now, why, out);
    }

    fn last_undoable(&self, now: Moment) -> Option<usize> {
        self.demands.all().iter().rposition(|demand| match demand.rule {
            None => self.mode.mode() != Mode::Emergency || !self.may_be_wanted(&demand.knob),
            Some(rule) => self.lives[rule].state() == State::Undoing && !self.is_held(now, rule),
        })
    }

    /// While an emergency lasts, what a restart or a changed rule left behind stays, if some rule may climb to it again.
    fn may_be_wanted(&self, knob: &Knob) -> bool {
        self.plan.rules().iter().zip(&self.stands).filter(|(rule, _)| !rule.dry_run).any(|(rule, stand)| {
            let may = |step: &&Step| !(stand.is_resumed() && step.costs_users());
            rule.steps.iter().filter(may).any(|step| self.plan.knob(&step.mitigation) == *knob)
        })
    }

    /// The hold keeps what emergency rules put in force.
    pub(super) fn is_held(&self, now: Moment, rule: usize) -> bool {
        self.mode.holds(now) && self.plan.rules()[rule].severity == Severity::Emergency
    }

    /// Takes back one demand, or half of what it withholds. True where that changes what is in force.
    fn take_back(&mut self, now: Moment, at: usize) -> bool {
        let knob = self.demands.get(at).knob.clone();
        let before = self.wanted_amount(now, &knob);
        if let Some(amount) = self.half_way_back(now, at) {
            // Where the last such step has not landed yet, this only waits for it.
            self.demands.set_amount(at, amount);
            return true;
        }
        let in_force = self.in_force.at(&knob).is_some();
        self.demands.remove(at);
        self.never_tighten(now, &knob);
        in_force && before != self.wanted_amount(now, &knob)
    }

    fn wanted_amount(&self, now: Moment, knob: &Knob) -> Option<Amount> {
        self.wanted(now, knob).map(|demand| self.demands.get(demand).mitigation.amount)
    }

    /// What a demand that nobody has any more is eased to, from what is in force, which may be less than what was
    /// wanted. `None` where it may go, or only makes way for an earlier step. What is in doubt, or what a server will not
    /// take half back of, is undone whole.
    fn half_way_back(&self, now: Moment, at: usize) -> Option<Amount> {
        let demand = self.demands.get(at);
        let mine = &demand.mitigation;
        let action = self.in_force.on(&demand.knob)?;
        let is_certain = matches!(action.phase(), Phase::InForce | Phase::Applying);
        let by_halves = demand.rule.is_some() || demand.way_back == WayBack::ByHalves;
        if !is_certain || !by_halves || self.is_blocked(now, &demand.knob, mine.amount) {
            return None;
        }
        let eased = halved(mine.verb, action.amount())?;
        for other in self.demands.on(&demand.knob).filter(|other| *other != at) {
            let theirs = self.demands.get(other).mitigation.amount;
            let is_stronger = mine.amount.is_stronger_than(theirs) && eased.is_stronger_than(theirs);
            if !is_stronger || self.is_wanted_still(now, other) {
                return None;
            }
        }
        Some(eased)
    }

    /// Where nobody wants the knob any more, letting go of one step must not bring a stronger one of another rule back.
    fn never_tighten(&mut self, now: Moment, knob: &Knob) {
        let Some(in_force) = self.in_force.on(knob).map(|action| action.amount()) else { return };
        if self.demands.on(knob).any(|at| self.is_wanted_still(now, at)) {
            return;
        }
        self.demands.weaken(knob, None, in_force);
    }

    fn cool_rules(&mut self, now: Moment, out: &mut Decisions) {
        for index in 0..self.lives.len() {
            if self.lives[index].state() != State::Undoing || self.is_held(now, index) {
                continue;
            }
            let rule = &self.plan.rules()[index];
            let demanded = self.demands.all().iter().any(|demand| demand.rule == Some(index));
            let under_way = self.in_force.all().iter().any(|action| {
                **action.rule() == *rule.name
                    && matches!(action.phase(), Phase::Applying | Phase::Undoing | Phase::InForce)
            });
            if demanded || under_way && !self.is_kept_by_others(now, index) {
                continue;
            }
            let (name, cooldown) = (Arc::clone(&rule.name), rule.cooldown);
            self.lives[index].cool(now, cooldown);
            out.events.push(Event::Cooling { rule: name, cooldown });
            self.forget_idle_knobs();
        }
    }

    /// Whether everything that still carries this rule's name is wanted by another rule.
    fn is_kept_by_others(&self, now: Moment, index: usize) -> bool {
        let name = &self.plan.rules()[index].name;
        self.in_force
            .all()
            .iter()
            .filter(|action| **action.rule() == **name)
            .all(|action| self.wanted(now, action.knob()).is_some())
    }
}

/// Less than this is let go of at once.
const LEAST_WITHHELD: f64 = 10.0;
/// What nothing is doubled to.
const LEAST_KEPT: f64 = 5.0;

/// Of a throttle or a shed: half of what is withheld, but at most twice of what is let through, so that no queue empties
/// in a burst. `None` where the rest may go at once.
pub(super) fn halved(verb: Verb, amount: Amount) -> Option<Amount> {
    let kept = amount.kept_percent().filter(|_| verb.is_eased())?;
    let eased = f64::midpoint(kept, 100.0).min((kept * 2.0).max(LEAST_KEPT)).round();
    (100.0 - eased > LEAST_WITHHELD).then_some(Amount::Keep(eased))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way_back(kept: f64) -> Vec<f64> {
        let next = |amount: &Amount| halved(Verb::Throttle, *amount);
        let way = std::iter::successors(Some(Amount::Keep(kept)), next);
        way.skip(1).filter_map(Amount::kept_percent).collect()
    }

    #[test]
    fn recovery_halves_instead_of_jumping() {
        assert_eq!(way_back(75.0), [88.0]);
        assert_eq!(way_back(50.0), [75.0, 88.0]);
        assert_eq!(way_back(20.0), [40.0, 70.0, 85.0]);
        assert_eq!(way_back(0.0), [5.0, 10.0, 20.0, 40.0, 70.0, 85.0]);
        assert_eq!(halved(Verb::Shed, Amount::Keep(90.0)), None);
        assert_eq!(halved(Verb::Shrink, Amount::Keep(20.0)), None);
        assert_eq!(halved(Verb::Throttle, Amount::Whole), None);
    }

    proptest! {
        #[test]
        fn the_way_back_never_doubles_twice_and_ends(kept in 0.0..100.0_f64) {
            let mut last = kept;
            let way = way_back(kept);
            prop_assert!(way.len() <= 7);
            for next in way {
                prop_assert!(next > last && next <= (2.0 * last).max(LEAST_KEPT) + 0.5);
                prop_assert!(100.0 - next >= (100.0 - last) / 2.0 - 0.5);
                last = next;
            }
        }
    }
}
