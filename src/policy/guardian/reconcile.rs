//! Bringing what is in force to what is wanted, knob by knob: never by chasing changes, always by comparing levels. One
//! command at a time per action; what failed is tried again with growing pauses; what somebody else set stays theirs.

use super::super::action::Action;
use super::super::demand::{Demand, WayBack};
use super::super::event::Event;
use super::super::mitigation::{Amount, Class, Command, Knob, Lease, Mitigation};
use super::super::moment::Moment;
use super::super::requester::Requester;
use super::super::rule::Step;
use super::super::view::{Phase, State};
use super::recovery::halved;
use super::still_wanted::LASTING_WITHIN;
use super::{Decisions, Guardian};

impl Guardian {
    /// On readings of before the guardian was stopped nothing is given and nothing renewed: what nobody wants goes back.
    pub(super) fn reconcile(&mut self, now: Moment, out: &mut Decisions) {
        if self.slots.are_stale(now) {
            return self.let_go_of_unwanted(now, out);
        }
        for at in 0..self.in_force.all().len() {
            self.reconcile_action(now, at, out);
        }
        for demand in 0..self.demands.count() {
            self.satisfy(now, demand, out);
        }
    }

    fn let_go_of_unwanted(&mut self, now: Moment, out: &mut Decisions) {
        for at in 0..self.in_force.all().len() {
            if self.wanted(now, self.in_force.all()[at].knob()).is_none() {
                self.reconcile_action(now, at, out);
            }
        }
    }

    /// On one knob the highest priority wins, then the strongest, then the oldest. What a rule only still holds because
    /// it is being undone comes after what some rule wants; orphans come last.
    pub(super) fn wanted(&self, now: Moment, knob: &Knob) -> Option<usize> {
        let mut best: Option<usize> = None;
        for at in self.demands.on(knob) {
            let wins = best.is_none_or(|best| {
                let (mine, theirs) = (self.rank(now, at), self.rank(now, best));
                let amount = |at: usize| self.demands.get(at).mitigation.amount;
                mine > theirs || mine == theirs && amount(at).is_stronger_than(amount(best))
            });
            if wins {
                best = Some(at);
            }
        }
        best
    }

    fn rank(&self, now: Moment, demand: usize) -> Option<(bool, i32)> {
        let rule = self.demands.get(demand).rule?;
        Some((self.is_wanted_still(now, demand), self.plan.rules()[rule].priority))
    }

    /// Its rule fires, or is held: it is not only being let go of.
    pub(super) fn is_wanted_still(&self, now: Moment, demand: usize) -> bool {
        let wants = |rule: usize| self.lives[rule].state() == State::Firing || self.is_held(now, rule);
        self.demands.get(demand).rule.is_some_and(wants)
    }

    pub(super) fn is_blocked(&self, now: Moment, knob: &Knob, amount: Amount) -> bool {
        self.orders.is_undone(knob) || self.orders.is_theirs(knob) || self.retries.must_wait(now, knob, amount)
    }

    /// Forgets what is known of knobs that no rule wants: what is somebody else's is theirs until then. A rule that fires
    /// may want all of its ladder, also after a pause, or while it gives something back as a test; so may one soon whose
    /// condition holds already.
    pub(super) fn forget_idle_knobs(&mut self) {
        let (demands, plan, lives) = (&self.demands, &self.plan, &self.lives);
        let firing = plan.rules().iter().zip(lives).filter(|(_, life)| life.state() == State::Firing || life.holds());
        let steps: Vec<&Step> = firing.flat_map(|(rule, _)| &rule.steps).collect();
        let may_be_wanted = |knob: &Knob| steps.iter().any(|step| plan.knob(&step.mitigation) == *knob);
        let is_wanted = |knob: &Knob| demands.is_claimed(knob) || may_be_wanted(knob);
        self.retries.keep(is_wanted);
        self.orders.keep_theirs(is_wanted);
    }

    /// What loses something waits until nothing else does.
    fn must_wait_to_lose(&self, demand: usize) -> bool {
        let step = self.demands.get(demand).step;
        step.is_some_and(|flat| self.step_of(flat).class >= Class::Lossy) && self.loses_already()
    }

    /// A control that could not be used can be again: what is wanted of it need not wait any longer.
    pub(super) fn control_is_usable(&mut self, now: Moment, control: &str) {
        let target = self.plan.target_of(control);
        self.retries.usable(&target);
        self.in_force.usable(now, &target);
        for memory in self.steps.iter_mut().filter(|memory| memory.run.retry_at.is_some()) {
            memory.run.retry_at = Some(now);
        }
    }

    fn reconcile_action(&mut self, now: Moment, at: usize, out: &mut Decisions) {
        let action = &self.in_force.all()[at];
        if action.is_waiting() && (action.phase() != Phase::Applying || action.is_once()) {
            return;
        }
        let wanted = self.wanted(now, action.knob());
        if action.is_waiting() {
            // What waits for the disk is not begun then, and what stands meanwhile is not held up by it. What a drill does
            // nobody ever wanted.
            if wanted.is_none() && !action.rule().is_drill() {
                self.begin_undo(now, at, out);
            }
            return;
        }
        let adjusts = wanted.filter(|demand| self.demands.get(*demand).rule.is_some());
        // What a rule wants is renewed, unless that comes too late.
        let valid_until = now + LASTING_WITHIN;
        let lease = match adjusts {
            Some(demand) if self.may_be_given(demand) => Lease::Renew { valid_until },
            Some(_) => Lease::Keep { valid_until },
            None => Lease::LetLapse,
        };
        let is_due = now >= action.due();
        match (action.phase(), wanted) {
            (Phase::InForce, None) => self.begin_undo(now, at, out),
            (Phase::InForce, Some(wanted)) => match self.adjustable(now, action, wanted) {
                Some(demand) => self.adjust(now, at, demand, out),
                None if is_due => self.verify(at, lease, out),
                None => {}
            },
            (Phase::Owed, _) if is_due => {
                match adjusts.filter(|demand| self.may_go_on(*demand) && self.may_be_given(*demand)) {
                    Some(demand) => self.adjust(now, at, demand, out),
                    None => self.begin_undo(now, at, out),
                }
            }
            (Phase::InDoubt, None) if is_due => self.begin_undo(now, at, out),
            (Phase::InDoubt, Some(_)) if is_due => self.verify(at, lease, out),
            (Phase::Owed | Phase::InDoubt | Phase::Applying | Phase::Undoing, _) => {}
        }
    }

    /// The demand that this action is to follow, where it differs from it and may be followed now.
    fn adjustable(&self, now: Moment, action: &Action, demand: usize) -> Option<usize> {
        let Demand { rule, mitigation: to, way_back, .. } = self.demands.get(demand);
        let is_theirs = rule.is_some() || *way_back == WayBack::ByHalves;
        // What a drill has done already is done once more, so that it is the rule's from then on.
        let differs = to.amount != action.amount() || action.rule().is_drill() && rule.is_some();
        let is_paused = self.orders.is_paused() && !action.amount().is_stronger_than(to.amount);
        let tightens = to.amount.is_stronger_than(action.amount());
        let may = is_theirs
            && differs
            && !action.is_unwatched()
            && !(tightens && (rule.is_none() || self.must_wait_to_lose(demand)))
            && !is_paused
            && !self.is_blocked(now, action.knob(), to.amount);
        (may && self.may_ease(now, action, to)).then_some(demand)
    }

    /// What is gone is given only for a condition that was seen to hold since anybody last did not look.
    fn may_be_given(&self, demand: usize) -> bool {
        self.demands.get(demand).rule.is_none_or(|rule| self.lives[rule].is_proven())
    }

    /// Whether what is owed may be wanted again instead.
    fn may_go_on(&self, demand: usize) -> bool {
        let knob = &self.demands.get(demand).knob;
        !self.orders.is_paused() && !self.orders.is_undone(knob) && !self.must_wait_to_lose(demand)
    }

    fn verify(&mut self, at: usize, lease: Lease, out: &mut Decisions) {
        let action = self.in_force.get_mut(at);
        action.verify();
        out.commands.push(Command::Verify { id: action.id(), lease });
    }

    fn begin_undo(&mut self, now: Moment, at: usize, out: &mut Decisions) {
        let action = self.in_force.get_mut(at);
        let id = action.id();
        if action.undo(now) {
            out.events.push(Event::Undoing { id, mitigation: action.mitigation().clone(), why: action.why() });
        }
        out.commands.push(Command::Undo { id });
    }

    fn adjust(&mut self, now: Moment, at: usize, demand: usize, out: &mut Decisions) {
        let Demand { rule, step, mitigation, .. } = self.demands.get(demand).clone();
        let rule = self.requester(rule);
        let action = self.in_force.get_mut(at);
        let amount = eased(action.mitigation(), mitigation.amount);
        let mitigation = Mitigation { amount, ..mitigation };
        action.adjust(now, mitigation.clone(), step, rule);
        let (id, rule) = (action.id(), action.rule().clone());
        let class = self.note_class(at);
        out.commands.push(Command::Apply { id, mitigation, rule, class, valid_until: now + LASTING_WITHIN });
    }

    fn note_class(&mut self, at: usize) -> Class {
        let class = self.class_of(at);
        self.in_force.get_mut(at).set_class(class);
        class
    }

    /// Tightening is never held up; easing takes one step per undo interval.
    fn may_ease(&self, now: Moment, action: &Action, to: &Mitigation) -> bool {
        let eases = action.amount().is_stronger_than(to.amount);
        let interval = self.plan.policy.emergency.undo_interval;
        !eases || action.eased().is_none_or(|eased| now >= eased + interval)
    }

    /// Applies what a rule wants on a knob where nothing is in force: not what it is only letting go of, which a restart
    /// or a control that could not be reached has ended already.
    fn satisfy(&mut self, now: Moment, at: usize, out: &mut Decisions) {
        let Demand { rule, step, knob, mitigation, .. } = self.demands.get(at);
        if self.orders.is_paused()
            || !self.is_wanted_still(now, at)
            || !self.may_be_given(at)
            || self.wanted(now, knob) != Some(at)
            || self.in_force.at(knob).is_some()
            || self.is_blocked(now, knob, mitigation.amount)
            || self.must_wait_to_lose(at)
        {
            return;
        }
        let Some(rule) = self.requester(*rule) else { return };
        let (step, knob, mitigation) = (*step, knob.clone(), mitigation.clone());
        let id = self.in_force.issue_id();
        let class = mitigation.verb.class();
        self.in_force.add(Action::new(id, knob, mitigation.clone(), rule.clone(), now).of_step(step, class));
        let class = self.note_class(self.in_force.all().len() - 1);
        out.commands.push(Command::Apply { id, mitigation, rule, class, valid_until: now + LASTING_WITHIN });
    }

    fn requester(&self, rule: Option<usize>) -> Option<Requester> {
        rule.map(|rule| Requester::rule(&self.plan.rules()[rule].name))
    }
}

/// Where a share is eased, it is eased by no more than recovery does at once.
fn eased(from: &Mitigation, to: Amount) -> Amount {
    match (halved(from.verb, from.amount), to) {
        (Some(Amount::Keep(most)), Amount::Keep(kept)) if kept > most => Amount::Keep(most),
        _ => to,
    }
}
