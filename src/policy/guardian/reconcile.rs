//! Bringing what is in force to what is wanted, knob by knob: never by chasing changes, always by comparing levels. One
//! command at a time per action; what failed is tried again with growing pauses; what somebody else set stays theirs.

use std::sync::Arc;

use super::super::event::{Event, UndoReason};
use super::super::ledger::{Action, VERIFY_EVERY, pause_after};
use super::super::mitigation::{Amount, Command, Lease, Mitigation};
use super::super::moment::Moment;
use super::super::view::{Phase, State};
use super::drill::DRILL;
use super::recovery::halved;
use super::still_wanted::LASTING_WITHIN;
use super::{Block, Decisions, Guardian};

impl Guardian {
    pub(super) fn reconcile(&mut self, now: Moment, out: &mut Decisions) {
        for at in 0..self.ledger.all().len() {
            self.reconcile_action(now, at, out);
        }
        for claim in 0..self.claims.len() {
            self.satisfy(now, claim, out);
        }
    }

    /// On one knob the highest priority wins, then the strongest, then the oldest. What a rule only still holds because
    /// it is being undone comes after what some rule wants; orphans come last.
    pub(super) fn wanted(&self, now: Moment, knob: &Mitigation) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (at, claim) in self.claims.iter().enumerate() {
            if !claim.mitigation.same_knob(knob) {
                continue;
            }
            let wins = best.is_none_or(|best| {
                let (mine, theirs) = (self.rank(now, at), self.rank(now, best));
                let stronger = claim.mitigation.amount.is_stronger_than(self.claims[best].mitigation.amount);
                mine > theirs || mine == theirs && stronger
            });
            if wins {
                best = Some(at);
            }
        }
        best
    }

    fn rank(&self, now: Moment, claim: usize) -> Option<(bool, i32)> {
        let rule = self.claims[claim].rule?;
        Some((self.is_wanted_still(now, claim), self.plan.rules()[rule].priority))
    }

    /// Its rule fires, or is held: it is not only being let go of.
    pub(super) fn is_wanted_still(&self, now: Moment, claim: usize) -> bool {
        let wants = |rule: usize| self.lives[rule].state == State::Firing || self.is_held(now, rule);
        self.claims[claim].rule.is_some_and(wants)
    }

    pub(super) fn is_blocked(&self, now: Moment, wish: &Mitigation) -> bool {
        self.blocks.iter().any(|block| block.holds(now, wish))
    }

    /// Leaves a knob alone for a growing while.
    pub(super) fn block(&mut self, now: Moment, knob: &Mitigation, least: std::time::Duration) {
        let at = self.block_of(knob);
        let block = &mut self.blocks[at];
        block.until = now + pause_after(block.tries).max(least);
        block.tries += 1;
        block.already = false;
    }

    /// There is nothing to do as strongly as that: a small limit is not lowered by a tenth of it.
    pub(super) fn block_as_already(&mut self, now: Moment, wish: &Mitigation, least: std::time::Duration) {
        self.block(now, wish, least);
        let at = self.block_of(wish);
        self.blocks[at].knob.amount = wish.amount;
        self.blocks[at].already = true;
    }

    pub(super) fn block_as_theirs(&mut self, knob: &Mitigation) {
        let at = self.block_of(knob);
        self.blocks[at].theirs = true;
    }

    fn block_of(&mut self, knob: &Mitigation) -> usize {
        self.blocks.iter().position(|block| block.knob.same_knob(knob)).unwrap_or_else(|| {
            self.blocks.push(Block {
                knob: knob.clone(),
                until: Moment::ORIGIN,
                tries: 0,
                theirs: false,
                already: false,
            });
            self.blocks.len() - 1
        })
    }

    pub(super) fn unblock(&mut self, knob: &Mitigation) {
        self.blocks.retain(|block| block.theirs || !block.knob.same_knob(knob));
    }

    /// Forgets the blocks of knobs that no rule wants: what is theirs is theirs until then.
    pub(super) fn drop_idle_blocks(&mut self) {
        let claims = &self.claims;
        let wanted =
            |knob: &Mitigation| claims.iter().any(|claim| claim.rule.is_some() && claim.mitigation.same_knob(knob));
        self.blocks.retain(|block| wanted(&block.knob));
    }

    /// A control that could not be used can be again: what is wanted of it need not wait any longer.
    pub(super) fn control_is_usable(&mut self, now: Moment, control: &str) {
        self.blocks.retain(|block| block.theirs || *block.knob.control != *control);
        for action in self.ledger.all_mut() {
            if *action.mitigation.control == *control && !action.waiting && action.phase != Phase::InForce {
                action.due = now;
            }
        }
    }

    fn reconcile_action(&mut self, now: Moment, at: usize, out: &mut Decisions) {
        let action = &self.ledger.all()[at];
        if action.waiting {
            return;
        }
        let wanted = self.wanted(now, &action.mitigation);
        let adjusts = wanted.filter(|claim| self.claims[*claim].rule.is_some());
        let is_due = now >= action.due;
        match (action.phase, wanted) {
            (Phase::InForce, None) => self.begin_undo(now, at, out),
            (Phase::InForce, Some(_)) => {
                // What a drill has done already is done once more, so that it is the rule's from then on.
                let is_drilled = *action.rule == *DRILL;
                let differs = |claim: &usize| is_drilled || self.claims[*claim].mitigation != action.mitigation;
                let different = adjusts.filter(differs);
                let possible = different.filter(|claim| {
                    !self.is_blocked(now, &action.mitigation)
                        && self.may_ease(now, action, &self.claims[*claim].mitigation)
                });
                match possible {
                    Some(claim) => self.adjust(now, at, claim, out),
                    None if is_due => self.verify(at, lease(now, adjusts), out),
                    None => {}
                }
            }
            (Phase::Owed, _) if is_due => match adjusts {
                Some(claim) => self.adjust(now, at, claim, out),
                None => self.begin_undo(now, at, out),
            },
            (Phase::InDoubt, None) if is_due => self.begin_undo(now, at, out),
            (Phase::InDoubt, Some(_)) if is_due => {
                self.verify(at, lease(now, adjusts), out);
            }
            (Phase::Owed | Phase::InDoubt | Phase::Applying | Phase::Undoing, _) => {}
        }
    }

    fn verify(&mut self, at: usize, lease: Lease, out: &mut Decisions) {
        let action = &mut self.ledger.all_mut()[at];
        action.waiting = true;
        out.commands.push(Command::Verify { id: action.id, lease });
    }

    fn begin_undo(&mut self, now: Moment, at: usize, out: &mut Decisions) {
        let action = &mut self.ledger.all_mut()[at];
        action.waiting = true;
        if action.phase != Phase::Owed {
            action.enter(Phase::Undoing, now);
            out.events.push(Event::Undoing { id: action.id, mitigation: action.mitigation.clone(), why: action.why });
        }
        out.commands.push(Command::Undo { id: action.id });
    }

    fn adjust(&mut self, now: Moment, at: usize, claim: usize, out: &mut Decisions) {
        let claim = &self.claims[claim];
        let mut mitigation = claim.mitigation.clone();
        let (rule, step) = (self.rule_name(claim.rule), claim.step);
        mitigation.amount = eased(&self.ledger.all()[at].mitigation, mitigation.amount);
        let action = &mut self.ledger.all_mut()[at];
        if action.mitigation.amount.is_stronger_than(mitigation.amount) {
            action.eased = Some(now);
        }
        action.before = Some(std::mem::replace(&mut action.mitigation, mitigation.clone()));
        action.rule = rule.unwrap_or_else(|| Arc::clone(&action.rule));
        action.goes_on = step.is_some() && action.step == step;
        action.step = step;
        action.why = UndoReason::Recovered;
        action.waiting = true;
        action.enter(Phase::Applying, now);
        let (id, rule) = (action.id, Arc::clone(&action.rule));
        let class = self.class_of(at);
        out.commands.push(Command::Apply { id, mitigation, rule, class, valid_until: now + LASTING_WITHIN });
    }

    /// Tightening is never held up; easing takes one step per undo interval.
    fn may_ease(&self, now: Moment, action: &Action, to: &Mitigation) -> bool {
        let eases = action.mitigation.amount.is_stronger_than(to.amount);
        let interval = self.plan.policy.emergency.undo_interval;
        !eases || action.eased.is_none_or(|eased| now >= eased + interval)
    }

    /// Applies what a rule wants on a knob where nothing is in force: not what it is only letting go of, which a restart
    /// or a control that could not be reached has ended already.
    fn satisfy(&mut self, now: Moment, claim: usize, out: &mut Decisions) {
        let knob = &self.claims[claim].mitigation;
        if !self.is_wanted_still(now, claim)
            || self.wanted(now, knob) != Some(claim)
            || self.ledger.on_knob(knob).is_some()
            || self.is_blocked(now, knob)
        {
            return;
        }
        let claim = self.claims[claim].clone();
        let Some(rule) = self.rule_name(claim.rule) else { return };
        let id = self.ledger.issue_id();
        self.ledger.add(Action {
            id,
            mitigation: claim.mitigation,
            before: None,
            rule,
            step: claim.step,
            goes_on: false,
            phase: Phase::Applying,
            since: now,
            waiting: true,
            due: now + VERIFY_EVERY,
            tries: 0,
            eased: None,
            why: UndoReason::Recovered,
            detail: Arc::from(""),
            theirs: None,
        });
        let last = self.ledger.all().len() - 1;
        let Action { mitigation, rule, .. } = self.ledger.all()[last].clone();
        let class = self.class_of(last);
        out.commands.push(Command::Apply { id, mitigation, rule, class, valid_until: now + LASTING_WITHIN });
    }

    fn rule_name(&self, rule: Option<usize>) -> Option<Arc<str>> {
        rule.map(|rule| Arc::clone(&self.plan.rules()[rule].name))
    }
}

/// What a rule wants is renewed, unless that comes too late.
fn lease(now: Moment, wanted: Option<usize>) -> Lease {
    wanted.map_or(Lease::LetLapse, |_| Lease::Renew { valid_until: now + LASTING_WITHIN })
}

/// Where a share is eased, it is eased by no more than recovery does at once.
fn eased(from: &Mitigation, to: Amount) -> Amount {
    match (halved(from.verb, from.amount), to) {
        (Some(Amount::Keep(most)), Amount::Keep(kept)) if kept > most => Amount::Keep(most),
        _ => to,
    }
}
