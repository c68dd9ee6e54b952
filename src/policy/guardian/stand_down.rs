//! Standing down where nothing helps. When a ladder is at its end and the gap stays, what costs users is given back as a
//! test: costliest first, by halves. If the metric gets worse the step returns at once and has its credit. What stopped
//! or slowed the trouble has its credit already and is never given back; neither is anything while the resource runs out.

use std::sync::Arc;
use std::time::Duration;

use super::super::condition::Operand;
use super::super::event::{Event, Mode, Skip, UndoReason};
use super::super::mitigation::{Amount, Class, Knob, Lasting, Verb};
use super::super::moment::Moment;
use super::super::plan::Plan;
use super::super::rule::{Cost, Step};
use super::super::severity::Severity;
use super::super::unit::Unit;
use super::super::verdict::Verdict;
use super::super::view::{Phase as Place, State};
use super::pressing::Growth;
use super::recovery::halved;
use super::{Decisions, Guardian};

/// While the resource is used up within this time, nothing is given back.
const TOO_SOON: f64 = 300.0;
/// The first pause before a ladder that helped nothing is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// A try after the first is over sooner: users have been refused in vain for a whole `stand_down` before.
const RETRY_SHARE: u32 = 4;
/// The quick trend has forgotten what was before by then: three of its half-lives.
const SHOWS_AFTER: Duration = Duration::from_secs(6);
/// So long a step is believed that was given back and had to return; it doubles. Chance looks like that, too.
const FIRST_BELIEF: Duration = Duration::from_secs(600);
/// Of the way from the threshold to the end of the metric: what counts as worse during a test, and what as a new trouble
/// after it. Below, it is what the metric does anyway.
const WORSE: f64 = 0.1;
const MUCH_WORSE: f64 = 0.25;
/// So many spreads of the readings are no noise.
const SPREADS: f64 = 4.0;

#[derive(Clone, Debug, Default)]
pub struct Stand {
    phase: Phase,
    /// Since when the ladder is climbed: from the firing, or from its last try.
    since: Moment,
    /// When the ladder came to its end.
    exhausted: Option<Moment>,
    /// Since when it goes no further, because its condition no longer holds, but is not clear either.
    rests: Option<Moment>,
    /// Since when it is known that nothing helps; kept through tries until a step does.
    down_since: Option<Moment>,
    tries: u32,
    /// How fast the metric got worse when the ladder began, where it did.
    onset: Option<Growth>,
    /// The ladder stopped or slowed that: until then nothing is given back into it.
    holds_until: Option<Moment>,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Climbing,
    /// What costs users goes back: from this reading of the metric on, and not before `next`.
    Testing {
        from: Option<Mark>,
        next: Moment,
        given_back: Vec<GivenBack>,
    },
    Down {
        from: Option<Mark>,
        until: Moment,
    },
}

/// What a metric read. A condition has several, and another one may hold later: only the same one is compared.
#[derive(Clone, Debug)]
struct Mark {
    operand: Arc<Operand>,
    threshold: f64,
    /// +1 where high is bad, -1 where low is.
    sign: f64,
    value: f64,
    /// Whether the condition held then.
    held: bool,
}

/// As it was before the test.
#[derive(Clone, Debug)]
struct GivenBack {
    flat: usize,
    knob: Knob,
    amount: Amount,
}

impl Stand {
    #[must_use]
    pub fn since(now: Moment, onset: Growth) -> Self {
        Self { since: now, onset: Some(onset), ..Self::default() }
    }

    /// The ladder has other steps now. What is known to be useless stays known until one helps.
    #[must_use]
    pub fn begun_anew(&self, now: Moment) -> Self {
        Self { down_since: self.down_since, tries: self.tries, ..Self::since(now, Growth::default()) }
    }

    pub fn exhausted(&mut self, now: Moment) {
        self.exhausted = Some(now);
    }

    /// Nobody watched for so long: that time has shown nothing.
    pub fn skip(&mut self, unseen: Duration) {
        self.since = self.since + unseen;
        self.exhausted = self.exhausted.map(|at| at + unseen);
        self.rests = self.rests.map(|at| at + unseen);
    }

    /// A step measurably helped: nothing is known to be useless any more.
    pub fn helped(&mut self) {
        self.down_since = None;
    }

    /// As it goes on under another plan, in which these flat steps have become those.
    #[must_use]
    pub fn moved(&self, steps: &[Option<usize>], plan: &Plan) -> Self {
        let mut stand = self.clone();
        if let Phase::Testing { given_back, .. } = &mut stand.phase {
            given_back.retain_mut(|given| steps[given.flat].is_some_and(|flat| given.moves_to(flat, plan)));
        }
        stand
    }

    /// No step is taken: the test is under way, or it has shown that none helps.
    #[must_use]
    pub const fn gives_back(&self) -> bool {
        !matches!(self.phase, Phase::Climbing)
    }

    /// Since when nothing is known to help, if so.
    #[must_use]
    pub const fn down_since(&self) -> Option<Moment> {
        self.down_since
    }

    #[must_use]
    pub const fn retries_at(&self) -> Option<Moment> {
        match self.phase {
            Phase::Down { until, .. } => Some(until),
            Phase::Climbing | Phase::Testing { .. } => None,
        }
    }
}

impl GivenBack {
    /// False where it is not the same there.
    fn moves_to(&mut self, flat: usize, plan: &Plan) -> bool {
        let (rule, step) = plan.owner_of(flat);
        self.flat = flat;
        plan.knob(&plan.rules()[rule].steps[step].mitigation) == self.knob
    }
}

impl Guardian {
    /// Emergency rules fire, and none of them has stood down: whoever can should go elsewhere.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        let is_real = !self.orders.is_paused() && !self.plan.policy.dry_run;
        let alarms = |index: &usize| {
            let (rule, life) = (&self.plan.rules()[*index], &self.lives[*index]);
            life.state() == State::Firing && rule.severity == Severity::Emergency && !rule.dry_run
        };
        let mut firing = (0..self.lives.len()).filter(alarms).peekable();
        let all_down = firing.peek().is_some() && firing.all(|index| self.stands[index].down_since.is_some());
        self.mode.mode() == Mode::Emergency && is_real && !all_down
    }

    pub(super) fn watch_stand(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        if self.lives[index].when() == Verdict::Unknown {
            return;
        }
        self.note_rest(now, index);
        match std::mem::take(&mut self.stands[index].phase) {
            Phase::Climbing => self.while_climbing(now, index, out),
            Phase::Testing { from, next, given_back } => self.while_testing(now, index, (from, next, given_back), out),
            Phase::Down { from, until } => self.while_down(now, index, (from, until), out),
        }
    }

    fn note_rest(&mut self, now: Moment, index: usize) {
        let life = &self.lives[index];
        let rests = life.when() == Verdict::False && life.clear() != Verdict::True;
        let since = self.stands[index].rests.filter(|_| rests);
        self.stands[index].rests = since.or(rests.then_some(now));
    }

    /// At its end, or between its condition and what clears it: there a ladder that was not climbed to its end would hold
    /// what it has taken for as long as that lasts.
    fn while_climbing(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let stand = &self.stands[index];
        let whole = self.plan.policy.emergency.stand_down;
        let rested = || stand.rests.filter(|at| now.since(*at) >= whole / RETRY_SHARE);
        let (since, patience) = match (stand.tries, stand.exhausted.or_else(rested)) {
            (_, None) => return,
            (0, Some(_)) => (stand.since, whole),
            (_, Some(at)) => (at, whole / RETRY_SHARE),
        };
        let unsettled = self.lives[index].settles().is_some_and(|until| now < until);
        let is_over = now.since(since) >= patience && !unsettled;
        let has_shown = stand.exhausted.is_some_and(|at| now.since(at) >= SHOWS_AFTER) && !unsettled;
        if self.stands[index].onset.is_some_and(|onset| is_over || has_shown && !onset.is_slow()) {
            self.note_hold(now, index);
        }
        let gives_back = self.costing(index).next().is_some();
        if !is_over || !self.may_give_back(now, index) || !gives_back && !self.is_helpless(index) {
            return;
        }
        if self.stands[index].down_since.is_none() && gives_back {
            let rule = Arc::clone(&self.plan.rules()[index].name);
            out.events.push(Event::StandingDown { rule, after: now.since(since) });
        }
        let from = self.metric_of(index);
        self.stands[index].phase = Phase::Testing { from, next: now, given_back: Vec::new() };
        self.watch_stand(now, index, out);
    }

    /// An emergency in which nothing is in force, and nothing that could not be done yet is still to be tried.
    fn is_helpless(&self, index: usize) -> bool {
        let is_tried = self.demands.all().iter().all(|demand| demand.rule != Some(index));
        self.plan.rules()[index].severity == Severity::Emergency && is_tried
    }

    /// Nothing of it has its credit, nothing of it is on its way, and there is time to find out.
    fn may_give_back(&self, now: Moment, index: usize) -> bool {
        let plan = &self.plan;
        let mut steps = (0..plan.rules()[index].steps.len()).map(|step| plan.flat_step(index, step));
        let awaits_or_helps = steps.any(|flat| {
            let helps = self.steps[flat].run.needed.is_some_and(|until| now < until);
            self.in_force.awaits(flat).is_some() || helps && self.demands.of_step(flat).is_some()
        });
        let holds = self.stands[index].holds_until.is_some_and(|until| now < until);
        !awaits_or_helps && !holds && self.seconds_to_exhaustion(index).is_none_or(|left| left >= TOO_SOON)
    }

    /// The ladder is at its end and has settled. What got worse when it began and does not any more was held by it.
    fn note_hold(&mut self, now: Moment, index: usize) {
        let growth = self.growth(index);
        let stand = &mut self.stands[index];
        let is_slowed = stand.onset.take().and_then(|onset| onset.is_slowed(growth));
        stand.holds_until = is_slowed.filter(|slowed| *slowed).map(|_| now + LONGEST_PAUSE);
    }

    fn while_testing(
        &mut self,
        now: Moment,
        index: usize,
        test: (Option<Mark>, Moment, Vec<GivenBack>),
        out: &mut Decisions,
    ) {
        let (from, next, mut given_back) = test;
        if let Some(because) = self.got_worse(index, from.as_ref(), WORSE) {
            return self.take_again(now, index, given_back, because, out);
        }
        if now < next {
            self.stands[index].phase = Phase::Testing { from, next, given_back };
            return;
        }
        if self.give_back_rung(now, index, &mut given_back) {
            let next = now + self.plan.policy.emergency.undo_interval;
            self.stands[index].phase = Phase::Testing { from, next, given_back };
            return;
        }
        let from = self.metric_of(index);
        let stand = &mut self.stands[index];
        let retry_in = FIRST_PAUSE.saturating_mul(1 << stand.tries.min(8)).min(LONGEST_PAUSE);
        stand.tries += 1;
        stand.down_since = stand.down_since.or(Some(now));
        stand.phase = Phase::Down { from, until: now + retry_in };
        out.events.push(Event::StoodDown { rule: Arc::clone(&self.plan.rules()[index].name), retry_in });
    }

    /// Gives back half of what the costliest rung withholds, or the rest of it. False where nothing that costs users is
    /// left.
    fn give_back_rung(&mut self, now: Moment, index: usize, given_back: &mut Vec<GivenBack>) -> bool {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let Some(costliest) = self.costing(index).max() else { return false };
        for step in rule.rung(plan.owner_of(costliest).1) {
            let flat = plan.flat_step(index, step);
            if costs_users(&rule.steps[step]) {
                self.give_back(now, (index, flat), &plan.knob(&rule.steps[step].mitigation), given_back);
            }
        }
        true
    }

    /// The steps of this rule that are in force and cost users. What could not be done yet costs nobody.
    fn costing(&self, index: usize) -> impl Iterator<Item = usize> {
        let demanded = self.demands.all().iter().filter(move |demand| demand.rule == Some(index));
        let there = demanded.filter(|demand| self.in_force.at(&demand.knob).is_some());
        there.filter_map(|demand| demand.step).filter(|flat| costs_users(self.step_of(*flat)))
    }

    /// All that the rule wants of a knob goes back together: an earlier, gentler step would only take its place. Whole, as
    /// in recovery, where it is in doubt or a target will not take half of it back: that must not hold up the rest.
    fn give_back(&mut self, now: Moment, (index, flat): (usize, usize), knob: &Knob, given_back: &mut Vec<GivenBack>) {
        let Some(at) = self.demands.of_step(flat) else { return };
        let wish = self.demands.get(at).mitigation.clone();
        for demand in self.demands.all().iter().filter(|demand| demand.rule == Some(index) && demand.knob == *knob) {
            let Some(flat) = demand.step else { continue };
            if given_back.iter().all(|known| known.flat != flat) {
                given_back.push(GivenBack { flat, knob: knob.clone(), amount: demand.mitigation.amount });
            }
        }
        let action = self.in_force.on(knob);
        let in_force = action.map_or(wish.amount, |action| action.amount());
        let is_certain = action.is_none_or(|action| matches!(action.phase(), Place::InForce | Place::Applying));
        let eased = halved(wish.verb, in_force).filter(|eased| is_certain && !self.is_blocked(now, knob, *eased));
        match eased {
            Some(eased) => self.demands.weaken(knob, Some(index), eased),
            None => {
                self.demands.drop_wishes(index, knob);
                if let Some(at) = self.in_force.at(knob) {
                    self.in_force.get_mut(at).let_go(UndoReason::StoodDown);
                }
            }
        }
    }

    /// It got worse without: everything that was given back returns, and is believed to help for a while.
    fn take_again(
        &mut self,
        now: Moment,
        index: usize,
        given_back: Vec<GivenBack>,
        because: String,
        out: &mut Decisions,
    ) {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let is_done = !rule.dry_run && !plan.policy.dry_run;
        for given in given_back.into_iter().filter(|_| is_done) {
            let (_, step) = plan.owner_of(given.flat);
            let mut mitigation = rule.steps[step].mitigation.clone();
            mitigation.amount = given.amount;
            if let Some(why) = self.may_not_return(now, &given) {
                self.steps[given.flat].view.skipped = Some(why);
                continue;
            }
            let run = &mut self.steps[given.flat].run;
            let believed = FIRST_BELIEF.saturating_mul(1 << run.returned.min(8)).min(LONGEST_PAUSE);
            (run.needed, run.returned) = (Some(now + believed), run.returned + 1);
            match self.demands.of_step(given.flat) {
                Some(at) => self.demands.set_amount(at, given.amount),
                None => {
                    let demand = super::Demand::of(index, given.flat, given.knob.clone(), mitigation.clone());
                    self.demands.add(demand);
                }
            }
            self.hurry(now, &given.knob);
            let (rule, because) = (Arc::clone(&rule.name), because.clone());
            out.events.push(Event::TakenAgain { rule, step, mitigation, because });
        }
        self.stands[index] = Stand { exhausted: Some(now), onset: None, ..Stand::since(now, Growth::default()) };
    }

    /// What an operator, the level or a dry run forbids by now. What only cannot be done at present is wanted all the same.
    fn may_not_return(&self, now: Moment, given: &GivenBack) -> Option<Skip> {
        let why = self.reason_to_skip(now, given.flat, &given.knob, given.amount)?;
        (why != Skip::Unavailable).then_some(why)
    }

    fn while_down(&mut self, now: Moment, index: usize, (from, until): (Option<Mark>, Moment), out: &mut Decisions) {
        if self.costing(index).next().is_some() {
            // A target that could not be reached before can be now: that is worth its own test.
            self.stands[index].exhausted = Some(now);
            return;
        }
        let because = match self.got_worse(index, from.as_ref(), MUCH_WORSE) {
            Some(because) => because,
            None if now >= until => "its pause is over".to_owned(),
            None => {
                self.stands[index].phase = Phase::Down { from, until };
                return;
            }
        };
        let onset = self.growth(index);
        let stand = &mut self.stands[index];
        (stand.since, stand.exhausted, stand.onset) = (now, None, Some(onset));
        self.begin_again(index);
        out.events.push(Event::Retrying { rule: Arc::clone(&self.plan.rules()[index].name), because });
    }

    /// The ladder from its beginning. What loses something is not repeated in one firing.
    fn begin_again(&mut self, index: usize) {
        self.lives[index].climb_from(0);
        for step in 0..self.plan.rules()[index].steps.len() {
            let flat = self.plan.flat_step(index, step);
            let is_lossy = self.step_of(flat).class >= Class::Lossy;
            self.steps[flat].run.done |= is_lossy && self.steps[flat].run.taken_at.is_some();
            let keeps = is_lossy && self.steps[flat].run.done
                || self.step_of(flat).mitigation.verb.lasting() == Lasting::InForce
                    && self.demands.of_step(flat).is_some();
            if !keeps {
                self.steps[flat].begin();
            }
        }
    }

    /// Why the metric is worse now than it was, by more than it moves anyway; or the condition holds again, or the resource
    /// runs out.
    fn got_worse(&self, index: usize, from: Option<&Mark>, share: f64) -> Option<String> {
        let Mark { operand, threshold, sign, value, held } = from?;
        let slot = self.plan.operands().iter().position(|known| known == operand)?;
        let actual = self.slots.readings()[slot].known()?;
        let end = if *sign > 0.0 && operand.unit() == Unit::Percent { 100.0 } else { 0.0 };
        let span = (end - threshold).abs();
        let margin = (share * span).max(SPREADS * self.slots.spread(slot));
        let worse = if *held { sign * (actual - value) > margin } else { self.lives[index].when() == Verdict::True };
        let runs_out = self.seconds_to_exhaustion(index).is_some_and(|left| left < TOO_SOON);
        let words = || format!("{operand} {} → {}", operand.show(*value), operand.show(actual));
        (worse || runs_out).then(words)
    }

    fn metric_of(&self, index: usize) -> Option<Mark> {
        let (slot, threshold, sign) = self.subject(index)?;
        let value = self.slots.readings()[slot].known()?;
        let held = self.lives[index].when() == Verdict::True;
        Some(Mark { operand: Arc::clone(&self.plan.operands()[slot]), threshold, sign, value, held })
    }
}

/// What is given back first. What was declared sacrificial, and what frees memory, costs nobody.
fn costs_users(step: &Step) -> bool {
    let withholds = matches!(step.mitigation.verb, Verb::Throttle | Verb::Shed | Verb::Shrink | Verb::Drain);
    withholds && step.cost == Cost::Users
}
