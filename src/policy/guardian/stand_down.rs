//! Standing down where nothing helps. When a ladder is at its end and the gap stays, what costs users is given back as a
//! test: costliest first, by halves. If the metric gets worse than it gets by itself (`worse.rs`) the step
//! returns at once and has its credit. What stopped or slowed a growth that had gone on for long has its credit
//! already (`evidence.rs`); and nothing is given back while the resource runs out.

mod by_itself;
mod evidence;
mod kept;
mod worse;

use std::sync::Arc;
use std::time::Duration;

use super::super::effect::Effect;
use super::super::event::{Event, Mode, Skip, Uncleared, UndoReason};
use super::super::mitigation::{Amount, Class, Knob, Lasting};
use super::super::moment::Moment;
use super::super::plan::Plan;
use super::super::severity::Severity;
use super::super::stood_down::LONGEST_PAUSE;
use super::super::verdict::Verdict;
use super::super::view::Phase as Place;
use super::pressing::Growth;
use super::recovery::halved;
use super::{Decisions, Guardian};
use by_itself::{ByItself, Gauge};
use evidence::Held;
use worse::{Mark, Worse};

/// The first pause before a ladder that helped nothing is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
/// A try after the first is over sooner: users have been refused in vain for a whole `stand_down` before.
const RETRY_SHARE: u32 = 4;
/// So long a step is believed that was given back and had to return; it doubles. Chance looks like that, too.
const FIRST_BELIEF: Duration = Duration::from_secs(600);
const LONGEST_BELIEF: Duration = Duration::from_secs(24 * 3600);

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
    /// Tries in a row that began before their time, because it got worse.
    hasty_tries: u32,
    /// How fast the metric had got worse for long when the ladder began, where it did; until it is known whether the
    /// ladder held that.
    onset: Option<Growth>,
    /// It was looked whether that ended at once.
    has_looked: bool,
    /// The ladder stopped or slowed that.
    held: Option<Held>,
    /// By how much what got worse without a step did so. It is believed for that.
    fell: Option<(Gauge, f64)>,
    /// Since when nobody can tell whether its condition holds.
    unjudged: Option<Moment>,
    /// Since when everything is in force that the ladder has, and has settled.
    steady: Option<Moment>,
    by_itself: ByItself,
    /// What costs users was given back, and nobody missed it.
    has_tested: bool,
    /// It stood down before a restart: what costs nobody is still to be taken.
    resumed: bool,
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

/// As it was before the test.
#[derive(Clone, Debug)]
struct GivenBack {
    flat: usize,
    knob: Knob,
    amount: Amount,
}

impl Stand {
    #[must_use]
    pub fn since(now: Moment, onset: Option<Growth>) -> Self {
        Self { since: now, onset, ..Self::default() }
    }

    /// The ladder has other steps now. What is known to be useless stays known until one helps.
    #[must_use]
    pub fn begun_anew(&self, now: Moment) -> Self {
        let Self { down_since, tries, has_tested, .. } = *self;
        Self { down_since, tries, has_tested, ..Self::since(now, None) }
    }

    pub fn exhausted(&mut self, now: Moment) {
        self.exhausted = Some(now);
    }

    /// Nobody watched for so long: that time has shown nothing.
    pub fn skip(&mut self, unseen: Duration) {
        self.since = self.since + unseen;
        self.exhausted = self.exhausted.map(|at| at + unseen);
        self.rests = self.rests.map(|at| at + unseen);
        self.unjudged = self.unjudged.map(|at| at + unseen);
        self.unsettle();
    }

    fn unsettle(&mut self) {
        self.steady = None;
        self.by_itself.interrupt();
    }

    /// There is another step in force than there was.
    pub fn has_more(&mut self) {
        self.by_itself.forget();
    }

    /// A growth that had gone on for long ended with the ladder, and whether that was its doing is being tested.
    #[must_use]
    pub const fn held_a_growth(&self) -> bool {
        self.held.is_some()
    }

    #[must_use]
    pub const fn by_itself(&self) -> &ByItself {
        &self.by_itself
    }

    /// From when on the ladder has how long, if it came to its end or to rest `at` this moment. What made a try come before
    /// its time is a new trouble; one that comes back is given twice as long each time, until it is seen while everything
    /// is in force.
    fn patience(&self, at: Moment, whole: Duration) -> (Moment, Duration) {
        if self.tries > 0 && self.hasty_tries == 0 {
            return (at, whole / RETRY_SHARE);
        }
        let longer = 1 << self.hasty_tries.saturating_sub(1).min(8);
        (self.since, whole.saturating_mul(longer).min(whole.max(LONGEST_PAUSE)))
    }

    /// A step measurably helped: nothing is known to be useless any more.
    pub fn helped(&mut self) {
        if !self.resumed {
            self.down_since = None;
        }
    }

    /// It stands down since before a restart, and takes only what costs nobody.
    #[must_use]
    pub const fn is_resumed(&self) -> bool {
        self.resumed
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

    /// Since when nobody can tell whether the condition of the firing rule holds.
    #[must_use]
    pub const fn unjudged_since(&self) -> Option<Moment> {
        self.unjudged
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
        let mut firing = (0..self.lives.len()).filter(|index| self.alarms(*index)).peekable();
        let all_down = firing.peek().is_some() && firing.all(|index| self.stands[index].down_since.is_some());
        self.mode.mode() == Mode::Emergency && is_real && !all_down
    }

    pub(super) fn watch_stand(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        self.note_sight(now, index);
        let unjudged = self.stands[index].unjudged;
        if unjudged.is_some_and(|since| now.since(since) < self.plan.policy.emergency.stand_down) {
            return;
        }
        self.note_rest(now, index);
        if unjudged.is_none() {
            self.note_by_itself(now, index);
        }
        match std::mem::take(&mut self.stands[index].phase) {
            Phase::Climbing => self.while_climbing(now, index, out),
            Phase::Testing { from, next, given_back } => self.while_testing(now, index, (from, next, given_back), out),
            Phase::Down { from, until } => self.while_down(now, index, (from, until), out),
        }
    }

    fn note_sight(&mut self, now: Moment, index: usize) {
        let is_unknown = self.lives[index].when() == Verdict::Unknown;
        let stand = &mut self.stands[index];
        stand.unjudged = is_unknown.then(|| stand.unjudged.unwrap_or(now));
    }

    /// What nobody has been able to judge for a whole `stand_down` is no reason to climb either.
    fn note_rest(&mut self, now: Moment, index: usize) {
        let life = &self.lives[index];
        let rests = life.when() != Verdict::True && life.clear() != Verdict::True;
        let since = self.stands[index].rests.filter(|_| rests);
        self.stands[index].rests = since.or(rests.then_some(now));
    }

    /// At its end, or between its condition and what clears it: there a ladder that was not climbed to its end would hold
    /// what it has taken for as long as that lasts.
    fn while_climbing(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let stand = &self.stands[index];
        let whole = self.plan.policy.emergency.stand_down;
        let rested = || stand.rests.filter(|at| now.since(*at) >= whole / RETRY_SHARE);
        let Some(at) = stand.exhausted.or_else(rested) else { return };
        let (since, patience) = stand.patience(at, whole);
        let unsettled = self.is_unsettled(now, index);
        let unjudged = self.stands[index].unjudged.is_some();
        let is_over = now.since(since) >= patience && !unsettled;
        if unjudged {
            self.stands[index].onset = None;
        } else if !unsettled {
            self.note_hold(now, index, is_over);
        }
        let gives_back = self.costing(index).next().is_some();
        // Whether it holds a growth must be known before.
        let is_over = is_over && self.stands[index].onset.is_none();
        if !is_over || !self.may_give_back(now, index) || !gives_back && !self.is_helpless(index) {
            return;
        }
        if self.stands[index].down_since.is_none() && gives_back {
            let rule = Arc::clone(&self.plan.rules()[index].name);
            let after = self.stands[index].unjudged.map_or(now.since(since), |unjudged| now.since(unjudged));
            let why = if unjudged { Uncleared::Unjudged } else { Uncleared::Stays };
            out.events.push(Event::StandingDown { rule, after, why });
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
        let holds = self.stands[index].held.is_some_and(|held| held.holds(now));
        !awaits_or_helps && !holds && !self.runs_out(index)
    }

    fn while_testing(
        &mut self,
        now: Moment,
        index: usize,
        test: (Option<Mark>, Moment, Vec<GivenBack>),
        out: &mut Decisions,
    ) {
        let (from, next, mut given_back) = test;
        // Where the test began unseen, it is compared with what is seen first.
        let from = from.or_else(|| self.metric_of(index));
        if let Some(worse) = self.worse_in_test(index, from.as_ref()) {
            return self.take_again(now, index, given_back, worse, out);
        }
        if now < next {
            self.stands[index].phase = Phase::Testing { from, next, given_back };
            return;
        }
        if self.give_back_rung(now, index, &mut given_back) {
            let next = now + self.look_at_half(index);
            self.stands[index].phase = Phase::Testing { from, next, given_back };
            return;
        }
        let rule = Arc::clone(&self.plan.rules()[index].name);
        if self.stands[index].unjudged.is_some() {
            let stand = &mut self.stands[index];
            stand.down_since = stand.down_since.or(Some(now));
            stand.phase = Phase::Down { from: None, until: now };
            out.events.push(Event::StoodDown { rule, retry_in: Duration::ZERO });
            return;
        }
        // That was the better measurement: whatever it may have looked like when the step was taken.
        for given in &given_back {
            self.steps[given.flat].view.effect = Some(Effect::NotDistinguishable);
        }
        let from = self.metric_of(index);
        let stand = &mut self.stands[index];
        stand.held = None;
        stand.has_tested |= !given_back.is_empty();
        let retry_in = pause(stand.tries);
        stand.tries += 1;
        stand.down_since = stand.down_since.or(Some(now));
        stand.phase = Phase::Down { from, until: now + retry_in };
        out.events.push(Event::StoodDown { rule, retry_in });
    }

    /// Gives back half of what the costliest rung withholds, or the rest of it. False where nothing that costs users is
    /// left.
    fn give_back_rung(&mut self, now: Moment, index: usize, given_back: &mut Vec<GivenBack>) -> bool {
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let Some(costliest) = self.costing(index).max() else { return false };
        for step in rule.rung(plan.owner_of(costliest).1) {
            let flat = plan.flat_step(index, step);
            if rule.steps[step].costs_users() {
                self.give_back(now, (index, flat), &plan.knob(&rule.steps[step].mitigation), given_back);
            }
        }
        true
    }

    /// The steps of this rule that are in force and cost users. What could not be done yet costs nobody.
    fn costing(&self, index: usize) -> impl Iterator<Item = usize> {
        let demanded = self.demands.all().iter().filter(move |demand| demand.rule == Some(index));
        let there = demanded.filter(|demand| self.in_force.at(&demand.knob).is_some());
        there.filter_map(|demand| demand.step).filter(|flat| self.step_of(*flat).costs_users())
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
                    let unjudged = self.stands[index].unjudged.is_some();
                    let why = if unjudged { UndoReason::Unjudged } else { UndoReason::StoodDown };
                    self.in_force.get_mut(at).let_go(why);
                }
            }
        }
    }

    /// It got worse without: everything that was given back returns, and is believed to help for a while.
    fn take_again(&mut self, now: Moment, index: usize, given_back: Vec<GivenBack>, worse: Worse, out: &mut Decisions) {
        let Worse { gauge, by, because } = worse;
        let plan = Arc::clone(&self.plan);
        let rule = &plan.rules()[index];
        let held = self.stands[index].held;
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
            let first = if held.is_some() { evidence::FIRST_HOLD } else { FIRST_BELIEF };
            let believed = first.saturating_mul(1 << run.returned.min(8)).min(LONGEST_BELIEF);
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
        let mut by_itself = std::mem::take(&mut self.stands[index].by_itself);
        by_itself.interrupt();
        // A growth that is seen again is told by its pace.
        let fell = Some((gauge, by)).filter(|_| held.is_none());
        self.stands[index] = Stand { since: now, exhausted: Some(now), held, fell, by_itself, ..Stand::default() };
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
        let (because, hasty_tries) = match self.much_worse(index, from.as_ref()) {
            Some(worse) => (worse.because, self.stands[index].hasty_tries + 1),
            None if now >= until && self.lives[index].when() == Verdict::True => {
                (if from.is_some() { "its pause is over" } else { "its condition holds" }.to_owned(), 0)
            }
            None => {
                self.stands[index].phase = Phase::Down { from, until };
                return;
            }
        };
        let onset = self.long_growth(index);
        let stand = &mut self.stands[index];
        (stand.since, stand.exhausted, stand.onset, stand.has_looked) = (now, None, onset, false);
        (stand.hasty_tries, stand.resumed) = (hasty_tries, false);
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
}

/// Before the next try, after so many.
fn pause(tries: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << tries.min(8)).min(LONGEST_PAUSE)
}
