//! The one door into the policy: `step` takes what happened and answers what is to be done. It owns the rules' lives,
//! what is wanted (claims) and what is in force (ledger), and brings the second to the first, tick after tick.

mod aim;
mod answers;
mod change;
pub mod drill;
mod judge;
mod ladder;
mod reconcile;
mod recovery;
mod show;
mod still_wanted;

use std::sync::Arc;
use std::time::Duration;

use super::event::{Event, Mode, UndoReason};
use super::ledger::{Action, Ledger};
use super::life::{Life, Turn};
use super::metric::Metric;
use super::mitigation::{ActionId, Command, Lasting, Level, Mitigation, Report};
use super::mode::{NodeMode, Relapse};
use super::moment::Moment;
use super::orders::{Hold, Orders, Pause};
use super::plan::Plan;
use super::program::Program;
use super::proportion::Lull;
use super::rule::{Rule, Severity};
use super::sample::Sample;
use super::slots::{Reading, Slots};
use super::view::{Phase, State, StepView, Verdict};

/// A pending rule that has longer to go than this is timed well enough by the calm pace.
const SOON: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    Sampled(&'a Sample),
    Reported(Report),
    /// An operator wants these undone now; all of them where none is named.
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
    /// The daemon is to end: everything is undone at once.
    Stopping,
}

/// What is to be done and told. Kept by the caller and emptied by it, so that a calm tick allocates nothing.
#[derive(Debug, Default)]
pub struct Decisions {
    pub commands: Vec<Command>,
    pub events: Vec<Event>,
}

impl Decisions {
    pub fn clear(&mut self) {
        self.commands.clear();
        self.events.clear();
    }
}

/// A mitigation that the journal says may be in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Inherited {
    pub id: ActionId,
    pub mitigation: Mitigation,
    pub rule: Arc<str>,
}

#[derive(Debug)]
pub struct Guardian {
    plan: Arc<Plan>,
    slots: Slots,
    /// In the order of the plan's rules.
    lives: Vec<Life>,
    /// In the order of the plan's flat steps.
    steps: Vec<StepMemory>,
    /// Every lasting step that some rule wants, oldest first: recovery takes them from the end.
    claims: Vec<Claim>,
    ledger: Ledger,
    blocks: Vec<Block>,
    mode: NodeMode,
    next_undo: Moment,
    stopping: bool,
    orders: Orders,
    stack: Vec<Verdict>,
    memory_total: Option<f64>,
}

/// One rule's wish for one knob.
#[derive(Clone, Debug)]
struct Claim {
    /// `None`: nobody wants it any more (the rule is gone, or it is from before a restart); it is only undone.
    rule: Option<usize>,
    step: Option<usize>,
    mitigation: Mitigation,
    lull: Option<Lull>,
}

impl Claim {
    const fn new(rule: usize, flat: usize, mitigation: Mitigation) -> Self {
        Self { rule: Some(rule), step: Some(flat), mitigation, lull: None }
    }
}

/// A knob that is not touched for now.
#[derive(Clone, Debug)]
struct Block {
    knob: Mitigation,
    until: Moment,
    tries: u32,
    /// Somebody else set it: it stays theirs until no rule wants it any more.
    theirs: bool,
    /// That much was so before us: only more than that is worth another try.
    already: bool,
}

impl Block {
    fn holds(&self, now: Moment, wish: &Mitigation) -> bool {
        let is_more = self.already && wish.amount.is_stronger_than(self.knob.amount);
        self.knob.same_knob(wish) && (self.theirs || now < self.until && !is_more)
    }
}

#[derive(Clone, Debug, Default)]
struct StepMemory {
    view: StepView,
    /// Times in a row that it did nothing.
    idle: u32,
    /// Times that its breaker opened since it last had an effect.
    opened: u32,
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
            slots: Slots::new(plan.operands(), plan.watched()),
            lives: vec![Life::new(now); plan.rules().len()],
            steps: vec![StepMemory::default(); plan.step_count()],
            claims: Vec::new(),
            ledger: Ledger::new(next_id),
            blocks: Vec::new(),
            mode: NodeMode::new(now, &plan.policy.emergency),
            next_undo: now + plan.policy.emergency.undo_interval,
            stopping: false,
            orders: Orders::default(),
            stack: Vec::new(),
            memory_total: None,
            plan,
        };
        for found in inherited {
            guardian.inherit(now, found, out);
        }
        if !guardian.ledger.is_empty() {
            guardian.turn_mode(Mode::Recovering, now, "found in force at start", out);
        }
        guardian.keep_within_level();
        guardian
    }

    pub fn step(&mut self, now: Moment, input: Input<'_>, out: &mut Decisions) {
        match input {
            Input::Sampled(sample) => self.look(now, sample, out),
            Input::Reported(report) => self.answer(now, report, out),
            Input::Undo { ids, .. } => self.undo(now, ids, out),
            Input::Forget { .. } => {}
            Input::Pause { until, hold, by } => self.orders.pause = Some(Pause { since: now, until, hold, by }),
            Input::Resume { ids, .. } => {
                self.orders.pause.take_if(|_| ids.is_empty());
                self.orders.resume(ids);
            }
            Input::Drill(mitigation) => self.drill(now, mitigation, out),
            Input::Usable(control) => self.control_is_usable(now, control),
            Input::Stopping => self.stop(),
        }
        if !self.is_calm() {
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
        self.mode.mode
    }

    #[must_use]
    pub const fn orders(&self) -> &Orders {
        &self.orders
    }

    /// What an operator asked for before a restart.
    pub fn restore_orders(&mut self, orders: Orders) {
        self.orders = orders;
    }

    /// Nothing is in force, on its way, or owed.
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.ledger.is_empty()
    }

    /// How many lasting mitigations are in force, on their way or in doubt.
    #[must_use]
    pub fn in_force(&self) -> usize {
        let lasting = |action: &&Action| action.mitigation.verb.lasting() == Lasting::InForce;
        self.ledger.all().iter().filter(lasting).count()
    }

    /// Some rule is about to fire, or something is under way that should be followed closely. A rule that has minutes to
    /// go is not urgent.
    #[must_use]
    pub fn is_alert(&self) -> bool {
        let urgent = |(life, rule): (&Life, &Rule)| {
            life.settles.is_some()
                || life.state == State::Pending && rule.severity > Severity::Info && rule.hold_for <= SOON
        };
        self.mode.mode == Mode::Emergency
            || self.ledger.all().iter().any(|action| action.waiting)
            || self.lives.iter().zip(self.plan.rules()).any(urgent)
    }

    pub(super) fn readings(&self) -> &[Reading] {
        self.slots.readings()
    }

    pub(super) fn state_of(&self, rule: usize) -> State {
        self.lives[rule].state
    }

    pub(super) const fn memory_total(&self) -> Option<f64> {
        self.memory_total
    }

    fn is_calm(&self) -> bool {
        self.mode.mode == Mode::Normal
            && self.ledger.is_empty()
            && self.claims.is_empty()
            && self.lives.iter().all(|life| life.state != State::Undoing)
    }

    fn look(&mut self, now: Moment, sample: &Sample, out: &mut Decisions) {
        self.slots.refresh(sample);
        self.memory_total = total_of(sample);
        let plan = Arc::clone(&self.plan);
        self.mode.pass(now, &plan.policy.emergency);
        if plan.policy.level == Level::Disabled || self.stopping {
            return;
        }
        for rule in 0..self.lives.len() {
            self.evaluate(now, rule, out);
        }
        for rule in 0..self.lives.len() {
            if self.lives[rule].state == State::Firing {
                self.aim_again(now, rule);
                self.climb(now, rule, out);
            }
        }
    }

    fn evaluate(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let readings = self.slots.readings();
        let programs = &self.plan.programs()[index];
        let life = &mut self.lives[index];
        life.when = programs.when.evaluate(readings, &mut self.stack);
        if life.when == Verdict::False && life.state == State::Quiet {
            life.rest(now);
            return;
        }
        life.clear = match &programs.clear {
            Some(clear) => clear.evaluate(readings, &mut self.stack),
            None => opposite(life.when),
        };
        let turn = self.lives[index].advance(now, &self.plan.rules()[index], self.plan.programs()[index].patience);
        if turn == Turn::Cleared {
            self.judge(now, index, out);
        }
        self.tell_turn(now, index, turn, out);
    }

    fn tell_turn(&mut self, now: Moment, index: usize, turn: Turn, out: &mut Decisions) {
        if turn == Turn::None {
            return;
        }
        let plan = Arc::clone(&self.plan);
        let rule = Arc::clone(&plan.rules()[index].name);
        let programs = &plan.programs()[index];
        let reasons = |wanted| plan.reasons(&programs.when, self.slots.readings(), wanted);
        out.events.push(match turn {
            Turn::None => return,
            Turn::Pending => {
                Event::Pending { rule, hold_for: plan.rules()[index].hold_for, because: reasons(Verdict::True) }
            }
            Turn::Relented => Event::Relented { rule },
            Turn::Fired => {
                Event::Fired { rule, severity: plan.rules()[index].severity, because: reasons(Verdict::True) }
            }
            Turn::Relapsed => {
                Event::Relapsed { rule, severity: plan.rules()[index].severity, because: reasons(Verdict::True) }
            }
            Turn::Cleared => Event::Cleared {
                rule,
                because: match &programs.clear {
                    Some(clear) => plan.reasons(clear, self.slots.readings(), Verdict::True),
                    None => format!("no longer {}", reasons(Verdict::False)),
                },
            },
            Turn::Quiet => Event::Quiet { rule },
            Turn::Blind => Event::Blind { rule, missing: plan.missing(self.awaited(index), self.slots.readings()) },
            Turn::Sees => Event::Sees { rule },
        });
        match turn {
            Turn::Fired => self.fired(now, index, Relapse::No, out),
            Turn::Relapsed => {
                self.reclaim(now, index);
                self.fired(now, index, Relapse::Yes, out);
            }
            Turn::None | Turn::Pending | Turn::Relented | Turn::Cleared | Turn::Quiet | Turn::Blind | Turn::Sees => {}
        }
    }

    /// The condition that the rule's state waits for.
    fn awaited(&self, index: usize) -> &Program {
        let programs = &self.plan.programs()[index];
        let clears = (self.lives[index].state == State::Firing).then_some(programs.clear.as_ref()).flatten();
        clears.unwrap_or(&programs.when)
    }

    fn fired(&mut self, now: Moment, index: usize, relapse: Relapse, out: &mut Decisions) {
        let rule = &self.plan.rules()[index];
        if rule.severity != Severity::Emergency || rule.dry_run {
            return;
        }
        let why = format!("rule {}", rule.name);
        let emergency = self.plan.policy.emergency;
        let from = self.mode.mode;
        self.mode.alarm(now, relapse, &emergency);
        if from != Mode::Emergency {
            out.events.push(Event::Mode { from, to: Mode::Emergency, why });
        }
    }

    fn turn_mode(&mut self, to: Mode, now: Moment, why: &str, out: &mut Decisions) {
        let from = self.mode.mode;
        self.mode.enter(to, now);
        out.events.push(Event::Mode { from, to, why: why.to_owned() });
    }

    fn inherit(&mut self, now: Moment, found: Inherited, out: &mut Decisions) {
        out.events.push(Event::Inherited { id: found.id, mitigation: found.mitigation.clone() });
        self.claims.push(Claim { rule: None, step: None, mitigation: found.mitigation.clone(), lull: None });
        self.ledger.add(Action {
            id: found.id,
            mitigation: found.mitigation,
            before: None,
            rule: found.rule,
            step: None,
            goes_on: false,
            phase: Phase::InDoubt,
            since: now,
            waiting: false,
            due: now,
            tries: 0,
            eased: None,
            why: UndoReason::Orphaned,
            detail: Arc::from("found in the journal"),
            theirs: None,
        });
    }
}

fn opposite(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::True => Verdict::False,
        Verdict::False => Verdict::True,
        Verdict::Unknown => Verdict::Unknown,
    }
}

/// The vocabulary has no total of its own: it follows from the share and the bytes that are available.
fn total_of(sample: &Sample) -> Option<f64> {
    let percent = sample.get(Metric::MemoryAvailablePercent).filter(|percent| *percent > 0.0)?;
    Some(sample.get(Metric::MemoryAvailableBytes)? * 100.0 / percent)
}
