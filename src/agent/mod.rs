//! The loop: wait for the pace, a pressure trigger, an answer or a signal; sample, step, send the commands, publish.
//! It owns the policy, and it never waits for anything else: acting, telling and slow reading have threads of their own.

mod drill;
mod journal;
mod numbers;
mod orders;
mod partings;
mod publish;
mod relevance;
mod reload;
mod supervision;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock;
use crate::config::last_good::LastGood;
use crate::config::settings::Settings;
use crate::config::{Complaints, Loaded};
use crate::control::worker::Workers;
use crate::drill::{Drill, DrillView};
use crate::events::{Daemon, Event, Events};
use crate::host::kept::Scope;
use crate::host::sampler::Sampler;
use crate::host::trigger::Stall;
use crate::inbox::{Inbox, Message};
use crate::keeper::{Heard, KEPT_WITHIN, Keeper};
use crate::notify::Notifier;
use crate::pace::{Pace, Watch};
use crate::policy::event::Mode;
use crate::policy::guardian::{Decisions, Guardian, Input};
use crate::policy::metric::Metric;
use crate::policy::mitigation::Command;
use crate::policy::moment::Moment;
use crate::policy::orders::Orders;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;
use crate::status::{BlindSpot, Board, Configuration, ControlView};
use crate::telemetry::Timings;
pub(crate) use journal::{unread_orders, without_a_journal};
pub(crate) use orders::Earlier;
pub(crate) use wait::Waker;
use wait::Woken;

use numbers::Numbers;
use orders::Said;
use partings::Partings;
use relevance::{Need, Relevance};
use supervision::Supervision;

/// A stop waits this long for undos to be answered; what is still owed then stays in the journal for the next start.
/// Well within systemd's default `TimeoutStopSec=` of 90 s.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// A shell and `timeout` may send a stop to the process and to its group: that is one request, not two.
const HEARD_ONCE: Duration = Duration::from_millis(500);

/// So many, then the clock is looked at again: no flood of messages delays a tick.
const MESSAGES_AT_ONCE: u32 = 64;

/// What is younger than this answers whether something that cannot be taken back is wanted still. Memory is always read.
const FRESH: Duration = Duration::from_millis(100);

/// After the kernel told that tasks wait for memory, everything is watched closely for this long. Waiting for a disk or a
/// CPU is a busy node's daily life: it is worth one early look.
const ALERT_AFTER_STALL: Duration = Duration::from_secs(3);

/// Everything the loop is made of, put together by `cli::run`.
pub(crate) struct Parts {
    pub settings: Settings,
    /// What is guarded by, and what is wrong with the configuration that should be.
    pub configuration: Configuration,
    /// Kept once it has shown that it can be guarded by.
    pub last_good: Option<LastGood>,
    pub keeper: Keeper,
    /// Compiles the configuration anew, or says in full why not.
    pub reload: Box<dyn Fn() -> Result<Loaded, Complaints>>,
    /// Finds something to guard by in any case, as at start.
    pub settle: Box<dyn Fn() -> Loaded>,
    pub guardian: Guardian,
    pub first: Decisions,
    pub sampler: Sampler,
    pub waker: Waker,
    pub inbox: Inbox,
    pub workers: Workers,
    pub board: Arc<Board>,
    pub events: Events,
    pub notifier: Notifier,
    /// Privileges and triggers that were refused at start.
    pub blind_spots: Vec<BlindSpot>,
    /// What is known of the orders of before.
    pub earlier: Earlier,
    /// Why there is no journal.
    pub no_journal: Option<String>,
    pub started: Moment,
    /// Once set, a further request to stop ends the process at once.
    pub impatience: Arc<AtomicBool>,
}

pub(crate) struct Agent {
    parts: Parts,
    pace: Pace,
    timings: Timings,
    sample: Sample,
    out: Decisions,
    controls: Arc<Vec<ControlView>>,
    numbers: Numbers,
    relevance: Relevance,
    drill: Option<Drill>,
    drills: u64,
    drill_view: Arc<Option<DrillView>>,
    configuration: Arc<Configuration>,
    /// As they were handed over last, to be kept; and who waits for what was ordered since.
    orders: Orders,
    said: Said,
    keeper_is_slow: bool,
    heard: Vec<Heard>,
    partings: Partings,
    blind_spots: Arc<Vec<BlindSpot>>,
    /// The sampler's own list, to see when it changes.
    seen_blind_spots: Option<Arc<Vec<BlindSpot>>>,
    tick: u64,
    ticked_at: Moment,
    everything_at: Option<Moment>,
    tick_seconds: f64,
    alert_until: Moment,
    told: Option<(Mode, usize)>,
    stop_by: Option<Moment>,
    supervision: Supervision,
}

impl Agent {
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let out = std::mem::take(&mut parts.first);
        let plan = Plan::new(parts.settings.policy.clone());
        parts.sampler.expect(&plan);
        let mut supervision = Supervision::new(parts.workers.heartbeats(), &parts.settings.state_directory);
        supervision.note_journal(parts.no_journal.as_deref());
        let mut numbers = Numbers::default();
        numbers.expect(&plan, &parts.settings, parts.started);
        let mut relevance = Relevance::default();
        relevance.expect(&parts.settings);
        Self {
            pace: Pace::new(&parts.settings.sampling),
            timings: Timings::register(),
            sample: Sample::new(parts.started),
            out,
            controls: Arc::default(),
            numbers,
            relevance,
            drill: None,
            drills: 0,
            drill_view: Arc::default(),
            configuration: Arc::new(parts.configuration.clone()),
            orders: parts.guardian.orders().clone(),
            said: Said::default(),
            keeper_is_slow: false,
            heard: Vec::new(),
            partings: Partings::default(),
            blind_spots: Arc::default(),
            seen_blind_spots: None,
            tick: 0,
            ticked_at: parts.started,
            everything_at: None,
            tick_seconds: 0.0,
            alert_until: parts.started,
            told: None,
            stop_by: None,
            supervision,
            parts,
        }
    }

    /// Runs until a stop is done: everything undone, or its time over.
    ///
    /// # Errors
    /// When the kernel refuses the timer or the wait; nothing can be guarded then.
    pub(crate) fn run(mut self) -> nix::Result<()> {
        let mut due = self.parts.started;
        loop {
            self.parts.waker.arm(due)?;
            let woken = self.parts.waker.wait()?;
            let now = clock::now()?;
            // Only a look tells what rules want of what was found in force: whoever answers before it waits for it.
            if self.tick > 0 {
                self.read_messages(now);
            }
            if woken == Woken::Stalled(Stall::Memory) {
                self.alert_until = now + ALERT_AFTER_STALL;
            }
            if matches!(woken, Woken::Stalled(_)) {
                self.everything_at = None;
            }
            if now >= due || matches!(woken, Woken::Stalled(_)) {
                if woken == Woken::Timer {
                    self.timings.tick_lag.record(now.since(due).as_secs_f64());
                }
                self.tick(now);
            }
            if self.stop_by.is_some_and(|by| now + STOP_WITHIN >= by + HEARD_ONCE) {
                self.parts.impatience.store(true, Ordering::Relaxed);
            }
            if self.is_done(now) {
                self.tell_owed();
                self.parts.events.flush();
                self.keep_orders(now);
                self.parts.keeper.say_goodbye();
                for id in self.partings.kept(now) {
                    // As at every other end, a thread that has ended needs no word.
                    let _is_there = self.parts.workers.send(Command::Forget { id });
                }
                self.parts.workers.say_goodbye();
                return Ok(());
            }
            due = self.ticked_at + self.until_next(now);
        }
    }

    fn tick(&mut self, now: Moment) {
        let scope = self.scope(now);
        self.parts.sampler.sample(now, scope, &mut self.sample);
        self.sample.at = now;
        self.sample.set(Metric::GuardianTickSeconds, Some(self.tick_seconds));
        for (what, why) in self.parts.waker.mend(now) {
            self.note_lacking(what, why);
        }
        self.ask_numbers(now);
        self.ask_gives(now);
        let sampled = elapsed(now);
        self.timings.sample.record(sampled.as_secs_f64());
        self.parts.guardian.step(now, Input::Sampled(&self.sample), &mut self.out);
        self.perform(now);
        self.parts.sampler.hasten(self.pace.until_everything(self.watch(now)), &self.parts.guardian);
        self.go_on_drilling(now);
        self.tick += 1;
        self.ticked_at = now;
        self.supervise(now);
        self.publish();
        self.parts.events.flush();
        if self.supervision.hanging().is_none() {
            self.parts.notifier.tick(now);
        }
        self.tick_seconds = elapsed(now).as_secs_f64();
        if self.tick == 1 {
            self.parts.notifier.ready("guarding");
            self.keep_configuration();
        }
    }

    /// Between two ticks, because something that cannot be taken back hangs on it. Rates over less than this tell nothing.
    fn look_again(&mut self, now: Moment) {
        let is_fresh = self.everything_at.is_some_and(|at| now.since(at) < FRESH);
        if !is_fresh {
            self.everything_at = Some(now);
        }
        let scope = if is_fresh { Scope::Memory } else { Scope::Full };
        self.parts.sampler.sample(now, scope, &mut self.sample);
        self.sample.at = now;
        self.numbers.fill(now, &mut self.sample);
        self.parts.guardian.step(now, Input::Sampled(&self.sample), &mut self.out);
    }

    fn ask_gives(&mut self, now: Moment) {
        let need = if self.parts.guardian.is_concerned() { Need::Some } else { Need::None };
        for control in self.relevance.due(now, need) {
            if !self.parts.workers.ask_gives(control) {
                tracing::error!("the thread that acts has ended; restart node-guardian");
            }
        }
    }

    fn supervise(&mut self, now: Moment) {
        for event in self.supervision.look(now).into_iter().flatten() {
            self.parts.events.emit(clock::unix_ms(), Event::Daemon(event));
        }
        let slow = self.parts.keeper.waits_since(now).filter(|since| *since >= KEPT_WITHIN).is_some();
        if slow != std::mem::replace(&mut self.keeper_is_slow, slow) {
            self.note_keeper(slow.then(|| "its disk does not take it; look at `dmesg`".to_owned()));
        }
    }

    fn ask_numbers(&mut self, now: Moment) {
        self.numbers.fill(now, &mut self.sample);
        for control in self.numbers.due(now) {
            if !self.parts.workers.ask_numbers(control) {
                tracing::error!("the thread that acts has ended; restart node-guardian");
            }
        }
    }

    /// Everything is read at its own pace; ticks in between, when memory is near a limit, read memory alone.
    fn scope(&mut self, now: Moment) -> Scope {
        let every = self.pace.until_everything(self.watch(now));
        // A tick that comes a little early is a whole one all the same.
        let slack = every / 10;
        if self.everything_at.is_some_and(|at| now.since(at) + slack < every) {
            return Scope::Memory;
        }
        self.everything_at = Some(now);
        Scope::Full
    }

    fn watch(&self, now: Moment) -> Watch {
        let alert = self.parts.guardian.is_alert() || now < self.alert_until || self.stop_by.is_some();
        if alert { Watch::Alert } else { Watch::Calm }
    }

    fn until_next(&self, now: Moment) -> Duration {
        let pace = self.pace.until_next(self.watch(now), self.parts.guardian.soonest_crossing());
        self.parts.notifier.watchdog().map_or(pace, |fed| pace.min(fed))
    }

    /// Sends what was decided to those who do it and tell it.
    fn perform(&mut self, now: Moment) {
        for command in self.out.commands.drain(..) {
            if !self.parts.workers.send(command) {
                tracing::error!("the thread that acts has ended; restart node-guardian");
            }
        }
        if let Some(before) = self.out.crossed.take() {
            self.timings.detection.record((before + elapsed(self.sample.at)).as_secs_f64());
        }
        if self.out.events.is_empty() {
            return;
        }
        let unix_ms = clock::unix_ms();
        for event in self.out.events.drain(..) {
            if let Some(drill) = &mut self.drill {
                drill.note(&event);
            }
            self.parts.events.emit(unix_ms, Event::Policy(event));
        }
        self.tell_manager(now);
    }

    fn read_messages(&mut self, now: Moment) {
        self.parts.inbox.hush();
        let mut read = 0;
        while let Some(message) = self.parts.inbox.take() {
            read += 1;
            match message {
                Message::Report(report) => {
                    self.partings.note(&report);
                    self.parts.guardian.step(now, Input::Reported(report), &mut self.out);
                }
                Message::Probed(control) => self.note_control(now, control),
                Message::Numbers { control, numbers } => self.numbers.note(now, &control, &numbers),
                Message::Gives { control, gives } => {
                    self.relevance.note(&control);
                    self.parts.guardian.step(now, Input::Gives { control: &control, gives }, &mut self.out);
                }
                Message::JournalFailed(why) => {
                    self.parts.events.emit(clock::unix_ms(), Event::Daemon(Daemon::JournalFailed { why }));
                }
                Message::JournalTrouble(why) => self.journal_fails(now, why),
                Message::JournalFound(before) => self.journal_is_found(now, *before),
                Message::JournalWorks => self.journal_works(now, 0),
                Message::Lacking { what, why } => self.note_lacking(what, why),
                Message::Order { order, by, heard } => self.obey(now, order, by, heard),
                Message::Ask { id, reply } => {
                    self.look_again(now);
                    // Whoever asked may have given up: then it is not done.
                    reply.send(self.parts.guardian.still_wants(id)).ok();
                }
                Message::Record(event) => self.parts.events.emit(clock::unix_ms(), Event::Daemon(event)),
                Message::Drill(wanted) => self.drill(now, wanted),
                Message::Reload => self.reload(now),
                Message::Stop => self.stop(now),
                Message::Describe => self.describe(),
            }
            self.perform(now);
            self.go_on_drilling(now);
            if read == MESSAGES_AT_ONCE {
                self.parts.inbox.ring();
                break;
            }
        }
        if read > 0 {
            self.publish();
        }
    }

    fn note_control(&mut self, now: Moment, control: ControlView) {
        if !self.parts.settings.controls.iter().any(|known| known.name == control.name) {
            return;
        }
        let known = self.controls.iter().position(|known| known.name == control.name);
        let changed = known.is_none_or(|at| self.controls[at].state != control.state);
        let was_away = known.is_none_or(|at| self.controls[at].state.is_away());
        let controls = Arc::make_mut(&mut self.controls);
        if changed {
            let (name, state, detail) = (Arc::clone(&control.name), control.state, Arc::clone(&control.detail));
            if state.is_usable() && was_away {
                self.parts.guardian.step(now, Input::Usable(&name), &mut self.out);
            }
            self.parts.events.emit(clock::unix_ms(), Event::Daemon(Daemon::Control { name, state, detail }));
        }
        match known {
            Some(at) => controls[at] = control,
            None => {
                controls.push(control);
                controls.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            }
        }
    }

    fn stop(&mut self, now: Moment) {
        if self.stop_by.is_some() {
            return;
        }
        self.stop_by = Some(now + STOP_WITHIN);
        self.parts.notifier.stopping("undoing what is in force");
        let why = "asked to stop".to_owned();
        self.parts.events.emit(clock::unix_ms(), Event::Daemon(Daemon::Stopping { why }));
        self.parts.guardian.step(now, Input::Stopping, &mut self.out);
    }

    fn is_done(&self, now: Moment) -> bool {
        self.stop_by.is_some_and(|by| self.parts.guardian.owes_nothing() || now >= by)
    }
}

/// Since a moment that this loop took; nothing where the clock cannot be read, which `run` reports.
fn elapsed(since: Moment) -> Duration {
    clock::now().map_or(Duration::ZERO, |now| now.since(since))
}
