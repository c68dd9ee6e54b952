//! Climbing: one rung at a time, the next only if the last has answered, had its time to settle, and did not clear the
//! rule. How much time there is sets the pace (`pressing.rs`); what loses something is always taken alone.

use std::sync::Arc;
use std::time::Duration;

use super::super::action::Action;
use super::super::demand::Demand;
use super::super::event::{Event, Mode, Skip, StepKind};
use super::super::gives::Matters;
use super::super::losses::Loss;
use super::super::mitigation::{Amount, Class, Command, Knob, Lasting, Level, Mitigation, Outcome};
use super::super::moment::Moment;
use super::super::requester::Requester;
use super::super::rule::{Asked, Step};
use super::super::verdict::Verdict;
use super::super::view::{Phase, State, StepView};
use super::still_wanted::ONCE_WITHIN;
use super::{Decisions, Guardian};

/// What was done shows in the metric after so long at the earliest: some samples at the fast pace.
const LEAST_LOOK: Duration = Duration::from_millis(250);

impl Guardian {
    /// Takes as many steps as can be taken now: one rung, unless steps are skipped, in force already, or time is short.
    pub(super) fn climb(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let mut rungs = 0;
        loop {
            let plan = Arc::clone(&self.plan);
            let rule = &plan.rules()[index];
            let taken = self.lives[index].taken();
            if !rule.is_within_rung(taken) {
                if !self.rung_is_over(now, index, rungs, out) {
                    return;
                }
                rungs += u32::from(taken > 0);
            }
            if self.lives[index].when() != Verdict::True {
                return;
            }
            let Some(next) = rule.steps.get(taken) else { return self.exhaust(now, index, out) };
            if self.mode.mode() != Mode::Emergency
                && (self.is_outranked(now, index) || self.must_wait_for_others(now, index))
            {
                return;
            }
            if next.class >= Class::Lossy && self.loses_already() {
                return;
            }
            self.take_step(now, index, taken, out);
            self.lives[index].climb();
        }
    }

    fn exhaust(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        if self.lives[index].exhaust() {
            self.stands[index].exhausted(now);
            if self.lives[index].taken() > 0 {
                out.events.push(Event::Exhausted { rule: Arc::clone(&self.plan.rules()[index].name) });
            }
        }
    }

    /// The rung taken last has answered and settled, or there is no time for that.
    fn rung_is_over(&mut self, now: Moment, index: usize, rungs: u32, out: &mut Decisions) -> bool {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let Some(last) = self.lives[index].taken().checked_sub(1) else { return true };
        if self.only_asks(index, last) {
            return true;
        }
        // As many rungs in one look as would else have to settle in the time that is left; the next look sees what for.
        let hurries = rungs < self.rungs_in_time(index, rule.steps[last].settle);
        let next_loses = rule.steps.get(last + 1).is_some_and(|next| next.class >= Class::Lossy);
        if hurries && !next_loses {
            return true;
        }
        if self.awaits_answer(now, index, last, out) {
            return false;
        }
        let settles = self.lives[index].settles();
        if hurries && settles.is_some_and(|until| until.since(now) + LEAST_LOOK < rule.steps[last].settle) {
            return true;
        }
        if settles.is_some_and(|until| now < until) {
            return false;
        }
        self.judge(now, index, out);
        self.lives[index].settled();
        true
    }

    /// In an emergency what only asks never holds up what acts.
    fn only_asks(&self, index: usize, last: usize) -> bool {
        let rule = &self.plan.rules()[index];
        let is_urgent = rule.severity == super::Severity::Emergency;
        let asks = |step: usize| {
            let class = rule.steps[step].class;
            class == Class::Notify || is_urgent && class == Class::Lossless
        };
        rule.rung(last).all(asks)
    }

    /// Some step of this rung is still being done. What takes longer than its kind may is told, and waited for no more.
    fn awaits_answer(&mut self, now: Moment, index: usize, last: usize, out: &mut Decisions) -> bool {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let mut waits = false;
        for step in rule.rung(last) {
            let flat = plan.flat_step(index, step);
            let Some(asked_at) = self.in_force.awaits(flat) else { continue };
            let waited = now.since(asked_at);
            if waited < rule.steps[step].patience {
                waits = true;
            } else if !self.steps[flat].run.overdue {
                self.steps[flat].run.overdue = true;
                let mitigation = rule.steps[step].mitigation.clone();
                out.events.push(Event::Overdue { rule: Arc::clone(&rule.name), step, mitigation, waited });
            }
        }
        waits
    }

    /// Something that loses is being done: one at a time, over all rules.
    pub(super) fn loses_already(&self) -> bool {
        self.in_force.all().iter().any(|action| action.is_being_applied() && action.class() >= Class::Lossy)
    }

    pub(super) fn step_of(&self, flat: usize) -> &Step {
        let (rule, step) = self.plan.owner_of(flat);
        &self.plan.rules()[rule].steps[step]
    }

    /// A rule of higher priority has the knob of the next step, and less is in force than this rule has come to: climbing
    /// on would only pile up steps that nobody has seen the effect of.
    fn is_outranked(&self, now: Moment, index: usize) -> bool {
        let rule = &self.plan.rules()[index];
        let Some(next) = rule.steps.get(self.lives[index].taken()) else { return false };
        let knob = self.plan.knob(&next.mitigation);
        let Some(best) = self.wanted(now, &knob).map(|best| self.demands.get(best)) else { return false };
        let surpasses = |at: usize| {
            let mine = self.demands.get(at);
            mine.rule == Some(index) && mine.mitigation.amount.is_stronger_than(best.mitigation.amount)
        };
        self.is_in_force(&knob, best.mitigation.amount) && self.demands.on(&knob).any(surpasses)
    }

    /// Outside an emergency one rule acts at a time, so that each effect can be told apart. Nobody waits for a rule that
    /// is less important, or that only tells what it would do.
    fn must_wait_for_others(&self, now: Moment, index: usize) -> bool {
        let rules = self.plan.rules();
        let settling = |(other, life): (usize, &super::Life)| {
            other != index
                && life.state() == State::Firing
                && life.settles().is_some_and(|until| now < until)
                && !rules[other].dry_run
                && rules[other].priority >= rules[index].priority
        };
        self.lives.iter().enumerate().any(settling)
    }

    pub(super) fn take_step(&mut self, now: Moment, index: usize, step: usize, out: &mut Decisions) {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let flat = plan.flat_step(index, step);
        if self.steps[flat].run.done {
            return;
        }
        let mitigation = self.aimed(now, index, step);
        let knob = plan.knob(&mitigation);
        let StepView { effect, breaker_until, .. } = self.steps[flat].view;
        self.steps[flat].view = StepView { effect, breaker_until, ..StepView::default() };
        if let Some(why) = self.reason_to_skip(now, flat, &knob, mitigation.amount) {
            self.steps[flat].view.skipped = Some(why);
            if why == Skip::Unavailable {
                self.demand(now, index, flat, &knob, &mitigation);
            }
            out.events.push(Event::Skipped { rule: Arc::clone(&rule.name), step, mitigation, why });
            return;
        }
        self.steps[flat].run.taken_at = Some(now);
        self.steps[flat].run.retry_at = None;
        let lasts = mitigation.verb.lasting() == Lasting::InForce;
        let kind = match (rule.dry_run || plan.policy.dry_run, lasts) {
            (true, _) => StepKind::DryRun,
            (false, true) => self.demand(now, index, flat, &knob, &mitigation),
            (false, false) => StepKind::Act,
        };
        let told = Event::Step { rule: Arc::clone(&rule.name), step, mitigation: mitigation.clone(), id: None, kind };
        out.events.push(told);
        self.settle(now, index, step, kind);
        if kind == StepKind::Act && !lasts {
            self.do_once(now, flat, knob, mitigation, out);
        }
    }

    /// How long the step just taken may take to show its effect, and from where that is measured.
    fn settle(&mut self, now: Moment, index: usize, step: usize, kind: StepKind) {
        let plan = Arc::clone(&self.plan);
        let meant = &plan.rules()[index].steps[step];
        let mut since = now;
        if kind == StepKind::Shared {
            // What is in force already gets its time to show an effect, counted from when it came into force.
            since = self.in_force_since(&plan.knob(&meant.mitigation), meant.mitigation.amount).unwrap_or(now);
            self.steps[plan.flat_step(index, step)].view.outcome = Some(Outcome::Already);
        }
        let until = Some(since + meant.settle).filter(|until| now < *until);
        self.lives[index].settle(until);
        // What somebody is told moves no metric.
        if kind == StepKind::Act && meant.class > Class::Notify {
            let baseline = self.baseline(now, index, step);
            self.lives[index].measure(baseline);
        }
    }

    pub(super) fn reason_to_skip(&self, now: Moment, flat: usize, knob: &Knob, amount: Amount) -> Option<Skip> {
        let (index, step) = self.plan.owner_of(flat);
        let rule = &self.plan.rules()[index];
        let class = rule.steps[step].class;
        if !self.plan.policy.level.allows(class) {
            return Some(Skip::Level { needed: Level::needed_for(class) });
        }
        if self.orders.is_undone(knob) {
            return Some(Skip::Operator);
        }
        if self.stands[index].is_resumed() && rule.steps[step].costs_users() {
            return Some(Skip::StoodDown);
        }
        if class >= Class::Lossy && self.orders_unread {
            return Some(Skip::OrdersUnread);
        }
        let was_lost = || self.orders.losses().forbid(now, &rule.name, knob, rule.cooldown);
        if class >= Class::Lossy && (self.lives[index].is_cooling(now) || was_lost()) {
            return Some(Skip::Cooldown);
        }
        if self.cannot_help(index, &rule.steps[step]) {
            return Some(Skip::CannotHelp);
        }
        if self.breaker_is_open(now, flat) && !self.is_last_resort(index) {
            return Some(Skip::Breaker);
        }
        let dry_run = self.plan.policy.dry_run || rule.dry_run;
        if self.orders.is_theirs(knob) {
            return Some(Skip::Overridden);
        }
        (!dry_run && self.retries.must_wait(now, knob, amount)).then_some(Skip::Unavailable)
    }

    /// A step that names its control is taken as written; another only where the service has something to give, and stands
    /// before the port whose trouble it is.
    fn cannot_help(&self, rule: usize, step: &Step) -> bool {
        let chosen_for = step.resource.filter(|_| step.asked == Asked::ByLadder && step.class > Class::Notify);
        let ports = self.troubles.of(rule);
        let matters = |resource| self.services.matters(&step.mitigation.control, resource, ports);
        chosen_for.is_some_and(|resource| matches!(matters(resource), Matters::No(_)))
    }

    /// In an emergency a ladder that is exhausted takes what its breakers had left out: something is always left to do.
    fn is_last_resort(&self, index: usize) -> bool {
        self.plan.rules()[index].severity == super::Severity::Emergency && self.lives[index].is_exhausted()
    }

    /// Wants a lasting step; `Shared` where that changes nothing.
    fn demand(&mut self, now: Moment, index: usize, flat: usize, knob: &Knob, wish: &Mitigation) -> StepKind {
        let before = self.wanted(now, knob).map(|demand| self.demands.get(demand).mitigation.clone());
        let known =
            |demand: &Demand| demand.rule == Some(index) && (demand.mitigation == *wish || demand.step == Some(flat));
        if !self.demands.all().iter().any(known) {
            self.demands.add(Demand::of(index, flat, knob.clone(), wish.clone()));
        }
        // What a restart left behind is this rule's now: let go of by halves, with the rest of it.
        self.demands.drop_orphans(knob);
        self.hurry(now, knob);
        let after = self.wanted(now, knob).map(|demand| self.demands.get(demand).mitigation.clone());
        if before == after { StepKind::Shared } else { StepKind::Act }
    }

    /// After a relapse: everything that this firing had put in force is wanted again.
    pub(super) fn reclaim(&mut self, now: Moment, index: usize) {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        self.demands.drop_rule(index);
        self.stands[index] = super::Stand::since(now, self.long_growth(index));
        if rule.dry_run || plan.policy.dry_run || self.orders.is_paused() {
            return;
        }
        for (step, taken) in rule.steps.iter().enumerate().take(self.lives[index].taken()) {
            let flat = plan.flat_step(index, step);
            let knob = plan.knob(&taken.mitigation);
            let may = plan.policy.level.allows(taken.class) && !self.orders.is_undone(&knob);
            let was = matches!(self.steps[flat].view.skipped, None | Some(Skip::Unavailable));
            if taken.mitigation.verb.lasting() == Lasting::InForce && may && was {
                let mitigation = self.aimed(now, index, step);
                self.hurry(now, &knob);
                self.demands.add(Demand::of(index, flat, knob, mitigation));
                self.lives[index].settle_anew(now + taken.settle);
            }
        }
    }

    /// What is owed on a knob that is wanted again need not wait for its next try.
    pub(super) fn hurry(&mut self, now: Moment, knob: &Knob) {
        self.in_force.hurry(now, knob);
    }

    /// Something that is over when it is done.
    fn do_once(&mut self, now: Moment, flat: usize, knob: Knob, mitigation: Mitigation, out: &mut Decisions) {
        let name = Arc::clone(&self.plan.rules()[self.plan.owner_of(flat).0].name);
        let rule = Requester::rule(&name);
        let id = self.in_force.issue_id();
        let class = self.step_of(flat).class;
        let valid_until = now + ONCE_WITHIN;
        if class >= Class::Lossy {
            self.orders.note_loss(Loss::new(name, Arc::clone(&mitigation.control), knob.clone(), now));
        }
        let (wish, by) = (mitigation.clone(), rule.clone());
        out.commands.push(Command::Apply { id, mitigation: wish, rule: by, class, valid_until });
        self.in_force.add(Action::new(id, knob, mitigation, rule, now).of_step(Some(flat), class));
    }

    fn is_in_force(&self, knob: &Knob, amount: Amount) -> bool {
        let action = self.in_force.on(knob);
        action.is_some_and(|action| action.phase() == Phase::InForce && action.amount() == amount)
    }

    /// Since when this or more is in force.
    fn in_force_since(&self, knob: &Knob, amount: Amount) -> Option<Moment> {
        let action = self.in_force.on(knob)?;
        let enough = !amount.is_stronger_than(action.amount());
        (action.phase() == Phase::InForce && enough).then_some(action.since())
    }
}
