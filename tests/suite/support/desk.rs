//! Gives commands to the workers and waits for their reports, as the loop does.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use node_guardian::clock;
use node_guardian::config::settings::Control;
use node_guardian::control::Control as Opened;
use node_guardian::control::target::Target;
use node_guardian::control::worker::{Opener, Workers};
use node_guardian::events::Log;
use node_guardian::inbox::{self, Inbox, Message};
use node_guardian::journal::{Change, Entry, Journal, JournalError, Record};
use node_guardian::policy::gives::Gives;
use node_guardian::policy::mitigation::{ActionId, Amount, Answered, Command, Lease, Mitigation, Report, Verb};
use node_guardian::policy::moment::Moment;
use node_guardian::status::ControlView;

use super::eventually;

/// A journal in memory that the test can look into, and break.
#[derive(Clone, Default)]
pub struct Ledger {
    pub entries: Arc<Mutex<Vec<Entry>>>,
    pub broken: Arc<AtomicBool>,
    /// Nothing can be closed.
    pub stuck: Arc<AtomicBool>,
    /// The disk does not answer.
    pub hangs: Arc<AtomicBool>,
    /// It takes so many milliseconds for each answer.
    pub slow: Arc<AtomicU64>,
}

impl Ledger {
    fn hang(&self) {
        std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::SeqCst)));
        while self.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Notebook {
    own: Vec<Entry>,
    ledger: Ledger,
}

/// Longer than any honest answer takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// While some rule wants it.
pub fn renew() -> Lease {
    Lease::Renew { valid_until: clock::now().unwrap() + PATIENCE }
}

pub struct Desk {
    workers: Option<Workers>,
    inbox: Inbox,
    pub ledger: Ledger,
    views: Vec<ControlView>,
    waiting: Vec<Report>,
    gives: Option<Gives>,
    /// What the loop was told of the journal.
    pub failures: Vec<String>,
    /// What the policy says to those who ask before something that cannot be taken back.
    pub wants: bool,
    /// How often they did.
    asked: usize,
}

impl Desk {
    pub fn new(controls: &[(&str, Target)]) -> Self {
        Self::resume(Ledger::default(), controls)
    }

    /// After a crash: the entries are those that the crashed one left.
    pub fn resume(ledger: Ledger, controls: &[(&str, Target)]) -> Self {
        let (door, inbox) = inbox::open().unwrap();
        let own = ledger.entries.lock().unwrap().clone();
        let record = Notebook { own, ledger: ledger.clone() };
        let workers = Workers::start(record, settings(controls), door).unwrap();
        Self {
            workers: Some(workers),
            inbox,
            ledger,
            views: Vec::new(),
            waiting: Vec::new(),
            gives: None,
            failures: Vec::new(),
            wants: true,
            asked: 0,
        }
    }

    /// With the journal that the daemon uses; its ledger stays empty.
    pub fn on_disk(folder: &Path, controls: &[(&str, Target)]) -> Self {
        Self::on_disk_with(folder, controls, Box::new(Opened::new))
    }

    /// The same, with something between the workers and the services.
    pub fn on_disk_with(folder: &Path, controls: &[(&str, Target)], open: Opener) -> Self {
        let (door, inbox) = inbox::open().unwrap();
        // A server that another thread starts this very moment holds the lock until it has become one.
        let journal = eventually("the journal is free", || Journal::open(folder).ok()).journal;
        let workers = Workers::start_with(journal, settings(controls), door, open).unwrap();
        Self {
            workers: Some(workers),
            inbox,
            ledger: Ledger::default(),
            views: Vec::new(),
            waiting: Vec::new(),
            gives: None,
            failures: Vec::new(),
            wants: true,
            asked: 0,
        }
    }

    /// As the loop does with the events that it has told until now.
    pub fn reconfigure_after(&self, last_event: u64, controls: &[(&str, Target)]) {
        assert!(self.workers.as_ref().unwrap().reconfigure(settings(controls), last_event));
    }

    pub fn reconfigure(&self, controls: &[(&str, Target)]) {
        self.reconfigure_after(0, controls);
    }

    /// What webhooks are to tell.
    pub fn tell(&self, log: &Arc<Log>) {
        assert!(self.workers.as_ref().unwrap().tell(Arc::clone(log)));
    }

    pub fn apply(&mut self, id: u64, control: &str, verb: Verb, amount: Amount) -> Report {
        self.order(id, control, verb, amount);
        self.report(id, Answered::Apply)
    }

    /// Without waiting for the report.
    pub fn order(&self, id: u64, control: &str, verb: Verb, amount: Amount) {
        self.order_until(clock::now().unwrap() + PATIENCE, id, Mitigation { control: control.into(), verb, amount });
    }

    /// As if it had waited for long.
    pub fn order_too_late(&self, id: u64, control: &str, verb: Verb, amount: Amount) {
        let earlier = clock::now().unwrap() - Duration::from_millis(100);
        self.order_until(earlier, id, Mitigation { control: control.into(), verb, amount });
    }

    fn order_until(&self, valid_until: Moment, id: u64, mitigation: Mitigation) {
        let class = mitigation.verb.class();
        self.send(Command::Apply { id: ActionId(id), mitigation, rule: "test".into(), class, valid_until });
    }

    pub fn verify(&mut self, id: u64) -> Report {
        self.check(id, renew())
    }

    /// While nobody wants it.
    pub fn let_lapse(&mut self, id: u64) -> Report {
        self.check(id, Lease::LetLapse)
    }

    pub fn order_verify(&self, id: u64, lease: Lease) {
        self.send(Command::Verify { id: ActionId(id), lease });
    }

    pub fn order_revert(&self, id: u64) {
        self.send(Command::Undo { id: ActionId(id) });
    }

    fn check(&mut self, id: u64, lease: Lease) -> Report {
        self.order_verify(id, lease);
        self.report(id, Answered::Verify)
    }

    pub fn undo(&mut self, id: u64) -> Report {
        self.order_revert(id);
        self.report(id, Answered::Undo)
    }

    pub fn report(&mut self, id: u64, answered: Answered) -> Report {
        let mine = |report: &Report| report.id == ActionId(id) && report.answered == answered;
        loop {
            if let Some(at) = self.waiting.iter().position(mine) {
                return self.waiting.remove(at);
            }
            self.listen();
        }
    }

    /// Wants it until the first time that somebody asks, and no longer.
    pub fn change_its_mind_once_asked(&mut self) {
        let before = self.asked;
        while self.asked == before {
            self.listen();
        }
        self.wants = false;
    }

    /// The next one, of whatever command.
    pub fn any_report(&mut self) -> Report {
        while self.waiting.is_empty() {
            self.listen();
        }
        self.waiting.remove(0)
    }

    /// `None` as soon as there is nobody any more who could answer.
    pub fn report_unless(&mut self, id: u64, answered: Answered, gone: &dyn Fn() -> bool) -> Option<Report> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.hear(Duration::from_millis(2));
            let mine = |report: &Report| report.id == ActionId(id) && report.answered == answered;
            if let Some(at) = self.waiting.iter().position(mine) {
                return Some(self.waiting.remove(at));
            }
            if gone() {
                return None;
            }
        }
        panic!("neither an answer nor an end; so far {:?}, {:?}", self.views, self.waiting);
    }

    /// What the workers think of a control now, once it is this.
    pub fn view(&mut self, control: &str, state: &str) -> ControlView {
        assert!(self.workers.as_ref().unwrap().probe_all());
        let until = Instant::now() + PATIENCE;
        loop {
            let view = self.views.iter().rev().find(|view| &*view.name == control);
            if let Some(view) = view.filter(|view| view.state.name() == state) {
                return view.clone();
            }
            // They go on telling what they think, which may never be this.
            assert!(Instant::now() < until, "{control} is not {state}, but {view:?}");
            self.listen();
        }
    }

    /// What was told of controls until now.
    pub fn forget_views(&mut self) {
        self.views.clear();
    }

    /// Each state of this control that was told since.
    pub fn views_of(&self, control: &str) -> Vec<&'static str> {
        self.views.iter().filter(|view| &*view.name == control).map(|view| view.state.name()).collect()
    }

    /// What a control has to give now.
    pub fn gives(&mut self, control: &str) -> Gives {
        self.gives = None;
        assert!(self.workers.as_ref().unwrap().ask_gives(control.into()));
        loop {
            if let Some(gives) = self.gives.take() {
                return gives;
            }
            self.listen();
        }
    }

    /// What they think of it from now on.
    pub fn next_view(&mut self, control: &str) -> ControlView {
        self.views.clear();
        assert!(self.workers.as_ref().unwrap().probe_all());
        loop {
            if let Some(view) = self.views.iter().find(|view| &*view.name == control) {
                return view.clone();
            }
            self.listen();
        }
    }

    /// Once the journal has all that it can have.
    pub fn journaled(&self) -> Vec<Entry> {
        let workers = self.workers.as_ref().unwrap();
        let refuses = || self.ledger.stuck.load(Ordering::SeqCst) || self.ledger.hangs.load(Ordering::SeqCst);
        eventually("all is recorded", || (workers.unrecorded() == 0 || refuses()).then_some(()));
        self.ledger.entries.lock().unwrap().clone()
    }

    /// Once the disk has answered, whatever it was asked since.
    pub fn until_recorded(&self) {
        let entries = || self.ledger.entries.lock().unwrap().len();
        eventually("the disk answers", || (entries() > 0).then_some(()));
    }

    /// Once something waits for the disk.
    pub fn until_recording(&self) {
        let workers = self.workers.as_ref().unwrap();
        eventually("a change waits for its record", || (workers.unrecorded() > 0).then_some(()));
    }

    /// Whether there is somebody to take commands.
    pub fn acts(&self) -> bool {
        self.workers.as_ref().unwrap().probe_all()
    }

    pub fn ended_well(mut self) -> bool {
        self.workers.take().unwrap().stop()
    }

    pub fn stop(mut self) -> Ledger {
        assert!(self.workers.take().unwrap().stop());
        self.ledger.clone()
    }

    fn send(&self, command: Command) {
        assert!(self.workers.as_ref().unwrap().send(command));
    }

    fn listen(&mut self) {
        let until = Instant::now() + PATIENCE;
        while !self.hear(Duration::from_millis(100)) {
            assert!(Instant::now() < until, "the workers say nothing; so far {:?}, {:?}", self.views, self.waiting);
        }
    }
}

impl Desk {
    /// As the loop does, once it is kept whose it is.
    fn part(&self, id: ActionId) {
        self.send(Command::Forget { id });
        let is_gone = || self.ledger.entries.lock().unwrap().iter().all(|entry| entry.id != id);
        let refuses = || self.ledger.stuck.load(Ordering::SeqCst) || self.ledger.hangs.load(Ordering::SeqCst);
        eventually("the journal gives it up", || (is_gone() || refuses()).then_some(()));
    }

    /// Whether something came within this time.
    fn hear(&mut self, patience: Duration) -> bool {
        let mut bell = [PollFd::new(self.inbox.bell(), PollFlags::POLLIN)];
        poll(&mut bell, PollTimeout::try_from(patience).unwrap()).unwrap();
        self.inbox.hush();
        let mut heard = false;
        while let Some(message) = self.inbox.take() {
            heard = true;
            match message {
                Message::Report(report) => {
                    if report.is_parting() {
                        self.part(report.id);
                    }
                    self.waiting.push(report);
                }
                Message::Probed(view) => self.views.push(view),
                Message::Gives { gives, .. } => self.gives = Some(gives),
                Message::JournalFailed(why) => self.failures.push(why),
                Message::Ask { reply, .. } => {
                    self.asked += 1;
                    // They may have given up.
                    reply.send(self.wants).ok();
                }
                other => panic!("workers never say {other:?}"),
            }
        }
        heard
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            assert!(workers.stop() || std::thread::panicking());
        }
    }
}

impl Record for Notebook {
    fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        self.ledger.hang();
        let refused = |why: &str| Err(JournalError::Absent { why: why.into() });
        let mut after = self.own.clone();
        for change in changes {
            after.retain(|known| known.id != change.id());
            match change {
                Change::Write(_) if self.ledger.broken.load(Ordering::SeqCst) => {
                    return refused("No space left on device");
                }
                Change::Close(_) if self.ledger.stuck.load(Ordering::SeqCst) => return refused("Input/output error"),
                Change::Write(entry) => after.push((**entry).clone()),
                Change::Close(_) => {}
            }
        }
        self.own = after;
        self.ledger.entries.lock().unwrap().clone_from(&self.own);
        Ok(())
    }

    fn entries(&self) -> &[Entry] {
        &self.own
    }
}

fn settings(controls: &[(&str, Target)]) -> Vec<Control> {
    controls.iter().map(|(name, target)| Control { name: (*name).into(), target: target.clone() }).collect()
}
