//! Runs commands: one task per control on one thread of their own, so that a hanging Redis delays neither HAProxy nor the
//! loop. Keeps the order that nothing may break: capture, write the undo durably, apply, read back, report; and nothing
//! leaves the journal before it is verified gone. Never decides what to do.

mod acting;
mod answer;
mod asked;
mod clash;
mod records;
mod shared;
mod task;
mod twins;
mod undos;
mod wish;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{JoinError, JoinSet, LocalSet};

use super::target::{Named, Target};
use super::told;
use super::webhook::delivery::Receiver;
use super::webhook::post;
use super::{Control, Probe};
use crate::events::Log;
use crate::heartbeat::{Alive, Heartbeat};
use crate::inbox::{Door, Message};
use crate::journal::{Before, News, Record, Writer};
use crate::policy::mitigation::{Answered, Command, Outcome, Report};
use crate::privilege;
use crate::status::BlindSpot;
pub use records::RECORDED_WITHIN;
use records::Records;
use shared::Shared;
use task::Task;
use twins::Twins;
use undos::Undos;

/// Deep enough for a debug build; only touched pages count.
const STACK_BYTES: usize = 512 << 10;

/// A little longer than the last try of the webhooks.
const FAREWELL: Duration = Duration::from_millis(1500);

/// For the journal to take what is queued for it. What it does not take is found in force by the next start, which looks
/// and finds it gone.
const LAST_RECORDS: Duration = Duration::from_secs(1);

/// The thread shows this often that it goes on.
const BEAT_EVERY: Duration = Duration::from_secs(2);

/// What there is to say about an action that the journal does not know (any more).
const NOTHING: &str = "nothing of it is in force";

/// Makes a control of a target.
pub type Opener = Box<dyn Fn(&Target) -> Control + Send>;

/// The thread that acts, and the one that remembers. Dropping it without `stop` leaves them to end with the process.
pub struct Workers {
    orders: UnboundedSender<Order>,
    thread: JoinHandle<()>,
    writer: Writer,
    heartbeat: Arc<Heartbeat>,
}

/// Of the two threads.
pub(crate) struct Heartbeats {
    pub controls: Arc<Heartbeat>,
    pub journal: Arc<Heartbeat>,
}

enum Order {
    Run(Command),
    Tell(Arc<Log>),
    /// With the number of the last event that a webhook which is new by it is not told of.
    Reconfigure(Vec<Named>, u64),
    ProbeAll,
    Numbers(Arc<str>),
    Gives(Arc<str>),
    /// The journal can be had, and holds this.
    Adopt(Box<Before>),
    /// There is no journal any more.
    Lose(String),
    Stop,
}

impl Workers {
    /// Probes every control at once. Read the journal's entries before handing it over.
    ///
    /// # Errors
    /// When the system gives no thread or descriptor.
    pub fn start<R: Record + Send + 'static>(record: R, controls: Vec<Named>, door: Door) -> io::Result<Self> {
        Self::start_with(record, controls, door, Box::new(Control::new))
    }

    /// The same, where something stands between the workers and the services.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with<R: Record + Send + 'static>(
        record: R,
        controls: Vec<Named>,
        door: Door,
        open: Opener,
    ) -> io::Result<Self> {
        let (orders, queue) = unbounded_channel();
        let entries = record.entries().to_vec();
        let missing = record.trouble().filter(|_| record.is_missing()).map(ToOwned::to_owned);
        let (news, crew) = (door.clone(), orders.clone());
        let writer = Writer::start(record, Box::new(move |told| pass_on(told, &news, &crew)))?;
        let (journal, heartbeat) = (writer.handle(), Heartbeat::new());
        let alive = Arc::clone(&heartbeat);
        heartbeat.beat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("controls".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                // Else it waits for its turn behind what it should relieve. Where refused, the loop tells it.
                let _refused = privilege::schedule_in_real_time(privilege::Urgency::Acting);
                let alive = Alive(alive);
                let crew = Crew {
                    shared: Rc::new(Shared::new(Records::new(entries, missing, journal), door, open)),
                    tasks: HashMap::new(),
                    running: JoinSet::new(),
                };
                let local = LocalSet::new();
                local.spawn_local(beat(Arc::clone(&alive.0), crew.shared.door.clone()));
                local.block_on(&runtime, crew.lead(controls, queue));
                // A name that is being looked up would be waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self { orders, thread, writer, heartbeat })
    }

    /// False when the thread has ended.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        self.orders.send(Order::Run(command)).is_ok()
    }

    #[must_use]
    pub fn reconfigure(&self, controls: Vec<Named>, last_event: u64) -> bool {
        self.orders.send(Order::Reconfigure(controls, last_event)).is_ok()
    }

    /// How many changes the journal's disk has not taken yet.
    #[must_use]
    pub fn unrecorded(&self) -> usize {
        self.writer.unrecorded()
    }

    #[must_use]
    pub(crate) fn heartbeats(&self) -> Heartbeats {
        Heartbeats { controls: Arc::clone(&self.heartbeat), journal: self.writer.heartbeat() }
    }

    /// What webhooks tell: everything in this log, and what comes to it.
    #[must_use]
    pub fn tell(&self, log: Arc<Log>) -> bool {
        self.orders.send(Order::Tell(log)).is_ok()
    }

    #[must_use]
    pub fn probe_all(&self) -> bool {
        self.orders.send(Order::ProbeAll).is_ok()
    }

    /// Asks a control for its numbers: the inbox gets them, in any case.
    #[must_use]
    pub(crate) fn ask_numbers(&self, control: Arc<str>) -> bool {
        self.orders.send(Order::Numbers(control)).is_ok()
    }

    /// Asks a control what it has to give: the inbox gets it, in any case.
    #[must_use]
    pub fn ask_gives(&self, control: Arc<str>) -> bool {
        self.orders.send(Order::Gives(control)).is_ok()
    }

    /// Ends at once what is under way, which stays in the journal, and waits for the threads. Webhooks get a second for
    /// what they have not told, the journal one for what is queued for it. False when one panicked.
    #[must_use]
    pub fn stop(self) -> bool {
        // A thread that has ended needs no order to end.
        self.orders.send(Order::Stop).ok();
        let acted_well = self.thread.join().is_ok();
        self.writer.stop(LAST_RECORDS) && acted_well
    }

    /// The same without waiting for a thread that is stuck: it ends with the process.
    pub(crate) fn say_goodbye(self) {
        // A thread that has ended needs no order to end.
        self.orders.send(Order::Stop).ok();
        let until = Instant::now() + FAREWELL;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        // A panic ends the process where it happens.
        let _ended_well = self.writer.stop(LAST_RECORDS);
    }
}

/// The crew hears first of a journal that comes or goes: what it says of an action comes after that.
fn pass_on(news: News, door: &Door, crew: &UnboundedSender<Order>) {
    let message = match news {
        News::Found(before) => {
            // A crew that has ended needs no news; nor does a loop.
            crew.send(Order::Adopt(before)).ok();
            return;
        }
        News::Unrecorded(why) => Message::JournalFailed(why),
        News::Works => Message::JournalWorks,
        News::Trouble { why, missing } => {
            if missing {
                crew.send(Order::Lose(why.clone())).ok();
            }
            Message::JournalTrouble(why)
        }
    };
    let _heard = door.tell(message);
}

/// Probes each control once, in turn: for `check --live`.
///
/// # Errors
/// When the system gives no descriptor.
pub(crate) fn probe_once(controls: &[Named]) -> io::Result<Vec<(Arc<str>, Probe)>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let (mut probes, mut twins) = (Vec::with_capacity(controls.len()), Twins::default());
        for control in controls {
            let mut opened = Control::new(&control.target);
            let Probe { outcome, detail } = opened.probe().await;
            if outcome == Outcome::Applied {
                twins.saw(&control.name, &control.target, opened.names().await);
            }
            let detail = told::told(&detail, &control.target.secrets());
            probes.push((Arc::clone(&control.name), Probe { outcome, detail }));
        }
        for (name, probe) in &mut probes {
            if let Err(twin) = twins.is_free(name) {
                *probe = Probe::failed(twin);
            }
        }
        probes
    }))
}

/// While the runtime goes round, timers come; one task that blocks the thread stops them all.
async fn beat(heartbeat: Arc<Heartbeat>, door: Door) {
    loop {
        heartbeat.beat();
        if let Some(BlindSpot { what, why }) = privilege::overrun::told() {
            // A loop that has ended needs no news.
            let _heard = door.tell(Message::Lacking { what, why: Some(why) });
        }
        tokio::time::sleep(BEAT_EVERY).await;
    }
}

/// Hands commands to the tasks.
struct Crew {
    shared: Rc<Shared>,
    tasks: HashMap<Arc<str>, Desk>,
    running: JoinSet<()>,
}

/// Of one task: what it is given.
struct Desk {
    jobs: UnboundedSender<Job>,
    undos: Rc<Undos>,
}

enum Job {
    Run(Command),
    Configure(Option<Box<Target>>),
    Probe,
    Numbers,
    Gives,
}

impl Crew {
    async fn lead(mut self, controls: Vec<Named>, mut orders: UnboundedReceiver<Order>) {
        self.configure(&controls, 0);
        let mut configured = controls;
        while let Some(order) = self.next(&mut orders).await {
            match order {
                Order::Run(command) => {
                    if !self.run(command) {
                        return;
                    }
                }
                Order::Tell(log) => self.shared.post.borrow_mut().read(log, &receivers(&configured), &mut self.running),
                Order::Reconfigure(controls, last_event) => {
                    self.configure(&controls, last_event);
                    configured = controls;
                }
                Order::ProbeAll => {
                    let names: Vec<_> = self.tasks.keys().cloned().collect();
                    for name in &names {
                        self.give(name, Job::Probe);
                    }
                }
                Order::Numbers(control) => {
                    self.give(&control, Job::Numbers);
                }
                Order::Gives(control) => {
                    self.give(&control, Job::Gives);
                }
                Order::Adopt(before) => self.adopt(*before, &configured),
                Order::Lose(why) => self.shared.records.lose(why),
                Order::Stop => {
                    let couriers = self.shared.post.borrow().couriers();
                    return post::last_try(couriers).await;
                }
            }
        }
    }

    /// A task that panics ends them all, as it ends the process where panics abort: nobody may wait for it in vain.
    async fn next(&mut self, orders: &mut UnboundedReceiver<Order>) -> Option<Order> {
        poll_fn(|context| {
            while let Poll::Ready(Some(ended)) = self.running.poll_join_next(context) {
                if let Some(Ok(panic)) = ended.err().map(JoinError::try_into_panic) {
                    resume_unwind(panic);
                }
            }
            orders.poll_recv(context)
        })
        .await
    }

    /// False when the loop has ended.
    fn run(&mut self, command: Command) -> bool {
        match self.shared.route(&command) {
            Some(name) => self.give(&name, Job::Run(command)),
            // It was parted with: nobody waits for an answer.
            None if matches!(command, Command::Forget { .. }) => {
                self.shared.records.close(command.id());
                true
            }
            // Nothing of it was ever written to a target, or it is verified gone.
            None => self.answer(&command, Outcome::Already, NOTHING),
        }
    }

    fn answer(&self, command: &Command, outcome: Outcome, detail: &str) -> bool {
        let answered = match command {
            Command::Apply { .. } => Answered::Apply,
            Command::Verify { .. } => Answered::Verify,
            Command::Undo { .. } | Command::Forget { .. } => Answered::Undo,
        };
        let (id, detail) = (command.id(), detail.into());
        let report = Report { id, answered, outcome, detail, took: Duration::ZERO, freed_bytes: None, theirs: None };
        self.shared.door.tell(Message::Report(report))
    }

    fn adopt(&self, before: Before, controls: &[Named]) {
        let entries = self.shared.records.adopt(before.entries);
        self.keep_code(controls);
        // A loop that has ended needs no news.
        let _heard = self.shared.door.tell(Message::JournalFound(Box::new(Before { entries, ..before })));
    }

    /// Of the kinds that are configured, or that something is owed at.
    fn keep_code(&self, controls: &[Named]) {
        let owed = self.shared.records.all();
        let targets = controls.iter().map(|control| &control.target).chain(owed.iter().map(|entry| &entry.target));
        let mut groups = Vec::new();
        for target in targets {
            groups.push(target.kind());
            groups.extend_from_slice(target.runs());
        }
        privilege::layout::keep(&groups);
    }

    fn configure(&mut self, controls: &[Named], last_event: u64) {
        self.keep_code(controls);
        self.shared.post.borrow_mut().configure(&receivers(controls), last_event, &mut self.running);
        let gone: Vec<_> =
            self.tasks.keys().filter(|name| controls.iter().all(|control| control.name != **name)).cloned().collect();
        for name in &gone {
            self.give(name, Job::Configure(None));
        }
        for control in controls {
            self.give(&control.name, Job::Configure(Some(Box::new(control.target.clone()))));
        }
    }

    /// False when the loop has ended.
    fn give(&mut self, name: &Arc<str>, job: Job) -> bool {
        let (shared, running) = (&self.shared, &mut self.running);
        let desk = self.tasks.entry(Arc::clone(name)).or_insert_with(|| {
            let ((jobs, queue), undos) = (unbounded_channel(), Rc::default());
            running.spawn_local(Task::new(Arc::clone(name), Rc::clone(shared), Rc::clone(&undos)).work(queue));
            Desk { jobs, undos }
        });
        if let Job::Run(Command::Undo { id }) = &job {
            desk.undos.add(*id);
        }
        let Err(SendError(job)) = desk.jobs.send(job) else { return true };
        self.tasks.remove(name);
        match job {
            Job::Run(command) => self.answer(&command, Outcome::Unreachable, "the task of this control has ended"),
            Job::Configure(_) | Job::Probe | Job::Numbers | Job::Gives => true,
        }
    }
}

/// The webhooks among them.
fn receivers(controls: &[Named]) -> Vec<Receiver> {
    let receiver = |Named { name, target }: &Named| {
        let Target::Webhook(target) = target else { return None };
        Some(Receiver { name: Arc::clone(name), target: target.clone() })
    };
    controls.iter().filter_map(receiver).collect()
}
