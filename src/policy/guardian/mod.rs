//! The one way into the policy: `step` takes what happened and answers what is to be done. It only wires: what rules want
//! is in `Demands`, what stands in `InForce`, what an operator said in `Orders`, when to try again in `Retries`.

mod aim;
mod answers;
pub(crate) mod drill;
mod judge;
mod ladder;
mod look;
mod operator;
mod pressing;
mod reconcile;
mod recovery;
mod reload;
mod revisit;
mod show;
mod stand_down;
mod still_wanted;

use std::sync::Arc;
use std::time::Duration;

use super::action::Action;
pub use super::action::Inherited;
use super::demand::{Demand, Demands};
use super::event::{Event, Mode, ModeReason};
use super::gives::Gives;
use super::in_force::InForce;
use super::life::Life;
use super::metric::Family;
use super::mitigation::{ActionId, Command, Knob, Lasting, Mitigation, Report};
use super::mode::NodeMode;
use super::moment::Moment;
use super::orders::{Hold, Orders};
use super::plan::Plan;
use super::program::{Program, Stack};
use super::reading::Reading;
use super::retries::Retries;
use super::rule::{Asked, Rule};
use super::sample::Sample;
use super::services::Services;
use super::severity::Severity;
use super::slots::Slots;
use super::troubles::Troubles;
use super::view::{State, StepView};
use stand_down::Stand;

/// A pending rule that has longer to go than this is timed well enough by the calm pace.
const SOON: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    Sampled(&'a Sample),
    Reported(Report),
    /// An operator wants these undone now; all of them where none is named. Their knobs are the operator's then.
    Undo {
        ids: &'a [ActionId],
        by: Arc<str>,
    },
    /// An operator gives up what is owed: what was changed stays as it is.
    Forget {
        ids: &'a [ActionId],
        by: Arc<str>,
    },
    /// An operator wants no new actions for a while.
    Pause {
        until: Moment,
        hold: Hold,
        by: Arc<str>,
    },
    /// An operator ends a pause and gives undone knobs back; all of it where none is named.
    Resume {
        ids: &'a [ActionId],
        by: Arc<str>,
    },
    /// Put this in force for a moment, to see that it can be undone.
    Drill(&'a Mitigation),
    /// A control that could not be used can be used again.
    Usable(&'a str),
    /// What a control's service has to give, as just read.
    Gives {
        control: &'a Arc<str>,
        gives: Gives,
    },
    /// The journal could not be had until now, and says that these may be in force.
    Found {
        inherited: Vec<Inherited>,
        next_id: ActionId,
    },
    /// The daemon is to end: everything is undone at once.
    Stopping,
}

/// What is to be done and told. Kept by the caller and emptied by it, so that a calm tick allocates nothing.
#[derive(Debug, Default)]
pub struct Decisions {
    pub commands: Vec<Command>,
    pub events: Vec<Event>,
    /// How long before the sample something crossed the threshold that made a rule pending or fire.
    pub crossed: Option<Duration>,
}

impl Decisions {
    pub fn clear(&mut self) {
        self.crossed = None;
        self.commands.clear();
        self.events.clear();
    }
}

#[derive(Debug)]
pub struct Guardian {
    plan: Arc<Plan>,
    slots: Slots,
    /// In the order of the plan's rules.
    lives: Vec<Life>,
    /// In the order of the plan's flat steps.
    steps: Vec<StepMemory>,
    /// In the order of the plan's rules.
    stands: Vec<Stand>,
    demands: Demands,
    in_force: InForce,
    retries: Retries,
    orders: Orders,
    /// Those of before a restart could not be read.
    orders_unread: bool,
    mode: NodeMode,
    next_undo: Moment,
    /// The rules were evaluated: before that nobody knows what they want.
    has_looked: bool,
    stopping: bool,
    stack: Stack,
    memory_total: Option<f64>,
    services: Services,
    troubles: Troubles,
}

/// What is known of one step of one rule.
#[derive(Clone, Debug, Default)]
struct StepMemory {
    view: StepView,
    /// Times in a row that it did nothing.
    idle: u32,
    /// Times that its breaker opened since it last had an effect.
    opened: u32,
    run: Run,
}

/// What happened to a step since its rule fired.
#[derive(Clone, Debug, Default)]
struct Run {
    taken_at: Option<Moment>,
    /// What is over when it is done was done.
    done: bool,
    /// Times in a row that it could not be done, and when it is tried again.
    tries: u32,
    retry_at: Option<Moment>,
    /// That it has not answered was told.
    overdue: bool,
    /// It was given back as a test, and it got worse: until when that is believed, and how often it was so.
    needed: Option<Moment>,
    returned: u32,
}

impl StepMemory {
    /// Its rule fires anew.
    fn begin(&mut self) {
        self.run = Run::default();
    }
}

impl Guardian {
    /// What the journal holds is read back first, and then undone like any step that no rule wants.
    pub fn new(
        now: Moment,
        plan: Arc<Plan>,
        inherited: Vec<Inherited>,
        next_id: ActionId,
        out: &mut Decisions,
    ) -> Self {
        let mut guardian = Self {
            slots: Slots::new(&plan),
            lives: vec![Life::new(now); plan.rules().len()],
            steps: vec![StepMemory::default(); plan.step_count()],
            stands: vec![Stand::default(); plan.rules().len()],
            demands: Demands::default(),
            in_force: InForce::new(next_id),
            retries: Retries::default(),
            orders: Orders::default(),
            orders_unread: false,
            mode: NodeMode::new(now, &plan.policy.emergency),
            next_undo: now + plan.policy.emergency.undo_interval,
            has_looked: false,
            stopping: false,
            stack: Vec::new(),
            memory_total: None,
            services: Services::default(),
            troubles: Troubles::of_each(plan.rules().len()),
            plan,
        };
        guardian.services.expect(&guardian.plan.policy);
        guardian.find(now, inherited, next_id, out);
        guardian.keep_within_level();
        guardian
    }

    fn find(&mut self, now: Moment, inherited: Vec<Inherited>, next_id: ActionId, out: &mut Decisions) {
        self.in_force.raise(next_id);
        let any = !inherited.is_empty();
        for found in inherited {
            self.inherit(now, found, out);
        }
        if any && self.mode() == Mode::Normal {
            self.turn_mode(Mode::Recovering, now, ModeReason::FoundAtStart, out);
        }
    }

    pub fn step(&mut self, now: Moment, input: Input<'_>, out: &mut Decisions) {
        match input {
            Input::Sampled(sample) => self.look(now, sample, out),
            Input::Reported(report) => self.answer(now, report, out),
            Input::Undo { ids, by } => self.undo(now, ids, &by, out),
            Input::Forget { ids, by } => self.forget(now, ids, &by, out),
            Input::Pause { until, hold, by } => self.pause(now, until, hold, by, out),
            Input::Resume { ids, by } => self.resume(ids, &by, out),
            Input::Drill(mitigation) => self.drill(now, mitigation, out),
            Input::Usable(control) => self.control_is_usable(now, control),
            Input::Gives { control, gives } => self.services.note(control, gives),
            Input::Found { inherited, next_id } => self.find(now, inherited, next_id, out),
            Input::Stopping => self.stop(),
        }
        if !self.is_calm() && (self.has_looked || self.stopping) {
            self.leave_emergency(now, out);
            self.recover(now, out);
            self.reconcile(now, out);
            self.leave_recovery(now, out);
        }
    }

    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode.mode()
    }

    /// Nothing is in force, on its way, or owed.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.in_force.is_empty()
    }

    /// How many lasting mitigations are in force, on their way or in doubt.
    #[must_use]
    pub fn in_force(&self) -> usize {
        let lasting = |action: &&Action| action.mitigation().verb.lasting() == Lasting::InForce;
        self.in_force.all().iter().filter(lasting).count()
    }

    /// Some rule is about to fire, or something is under way that should be followed closely. A rule that has minutes to
    /// go is not urgent.
    #[must_use]
    pub(crate) fn is_alert(&self) -> bool {
        let urgent = |(life, rule): (&Life, &Rule)| {
            life.settles().is_some()
                || life.state() == State::Pending && rule.severity > Severity::Info && rule.hold_for <= SOON
        };
        self.mode.mode() == Mode::Emergency
            || self.in_force.all().iter().any(|action| action.is_waiting())
            || self.lives.iter().zip(self.plan.rules()).any(urgent)
    }

    /// Some rule may want a step soon that nobody wrote by name, or wants one. One without such steps, as the hint that a
    /// quiet node gives all day, asks nobody for anything.
    #[must_use]
    pub fn is_concerned(&self) -> bool {
        let wants = |rule: &Rule| rule.steps.iter().any(|step| step.asked == Asked::ByLadder);
        let mut lives = self.lives.iter().zip(self.plan.rules());
        lives.any(|(life, rule)| matches!(life.state(), State::Pending | State::Firing) && wants(rule))
    }

    /// Some rule that asks about this family is about to fire or fires: its readings are to be as fresh as the loop's own.
    #[must_use]
    pub fn follows(&self, family: Family) -> bool {
        let asks =
            |when: &Program| when.comparisons().any(|of| self.plan.operands()[of.slot].metric.family() == family);
        let mut lives = self.lives.iter().zip(self.plan.programs());
        lives.any(|(life, programs)| matches!(life.state(), State::Pending | State::Firing) && asks(&programs.when))
    }

    #[must_use]
    pub const fn orders(&self) -> &Orders {
        &self.orders
    }

    pub(super) fn readings(&self) -> &[Reading] {
        self.slots.readings()
    }

    pub(super) fn state_of(&self, rule: usize) -> State {
        self.lives[rule].state()
    }

    pub(super) const fn memory_total(&self) -> Option<f64> {
        self.memory_total
    }

    fn is_calm(&self) -> bool {
        self.mode.mode() == Mode::Normal
            && self.in_force.is_empty()
            && self.demands.is_empty()
            && self.lives.iter().all(|life| life.state() != State::Undoing)
    }

    fn turn_mode(&mut self, to: Mode, now: Moment, why: ModeReason, out: &mut Decisions) {
        let from = self.mode.mode();
        self.mode.enter(to, now);
        out.events.push(Event::Mode { from, to, why });
    }

    fn inherit(&mut self, now: Moment, found: Inherited, out: &mut Decisions) {
        let knob = Knob { target: Arc::clone(&found.target), verb: found.mitigation.verb };
        out.events.push(Event::Inherited { id: found.id, mitigation: found.mitigation.clone() });
        self.demands.add(Demand::inherited(knob.clone(), found.mitigation.clone()));
        self.in_force.add(Action::inherited(found, knob, now));
    }

    fn step_is_once(&self, flat: usize) -> bool {
        let (rule, step) = self.plan.owner_of(flat);
        self.plan.rules()[rule].steps[step].mitigation.verb.lasting() == Lasting::Once
    }
}
