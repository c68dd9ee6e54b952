//! The journal's own thread: a slow, hung or full disk delays only tasks that wait for a record. One sync serves all
//! waiting changes. Only the newest change of an action counts, so the queue is bounded by the actions in force. A
//! record without a waiting task is tried again until it is written.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Before, Change, Entry, Journal, JournalError};
use crate::heartbeat::{Alive, Heartbeat};
use crate::policy::mitigation::ActionId;
use crate::privilege;

/// Deep enough for a debug build; only touched pages count.
const STACK_BYTES: usize = 128 << 10;

/// A disk that refused is asked again this often, and with each new change.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// While the thread is to end, this is short enough to look whether it has.
const POLL: Duration = Duration::from_millis(2);

/// What makes changes durable.
pub trait Record {
    /// All of these, in this order, durable when it returns.
    ///
    /// # Errors
    /// When they could not be made durable: none of them counts.
    fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError>;

    /// What is in force or may be, oldest first.
    fn entries(&self) -> &[Entry];

    /// There is nothing to write to, so whoever asks for it need not wait.
    fn is_missing(&self) -> bool {
        false
    }

    /// Why nothing can be made durable at present.
    fn trouble(&self) -> Option<&str> {
        None
    }

    /// When to try again to have what is missing; `None`: nothing is.
    fn due(&self) -> Option<Instant> {
        None
    }

    /// What it holds, where it can be had now.
    fn try_again(&mut self) -> Option<Before> {
        None
    }
}

impl Record for Journal {
    fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        Journal::commit(self, changes).map(drop)
    }

    fn entries(&self) -> &[Entry] {
        Journal::entries(self)
    }
}

/// What happens to the journal itself.
#[derive(Debug)]
pub enum News {
    /// A change that nobody waits for could not be recorded.
    Unrecorded(String),
    /// Nothing can be recorded, and why.
    Trouble { why: String, missing: bool },
    /// It can be had now, and holds this.
    Found(Box<Before>),
    /// It can be written again.
    Works,
}

pub type Tell = Box<dyn Fn(News) + Send>;

/// Owns the thread. Dropping it without `stop` leaves it to end with the process.
pub struct Writer {
    handle: Handle,
    thread: JoinHandle<()>,
}

/// The way to the thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
    /// How many changes are not durable yet.
    unrecorded: AtomicUsize,
    /// For how many milliseconds the disk kept the last of them waiting.
    took: AtomicU64,
    heartbeat: Arc<Heartbeat>,
}

#[derive(Default)]
struct Queue {
    /// At most one of each action.
    waiting: Vec<Waiting>,
    /// So many are on their way to the disk.
    taken: usize,
    ends: bool,
    /// Nobody takes anything any more.
    gone: bool,
}

struct Waiting {
    change: Change,
    /// Who waits for it; `None`: it is tried until it is recorded.
    durable: Option<oneshot::Sender<Result<(), String>>>,
    /// That it could not be recorded has been told.
    told: bool,
}

impl Writer {
    /// # Errors
    /// When the system gives no thread.
    pub fn start(record: impl Record + Send + 'static, tell: Tell) -> io::Result<Self> {
        let heartbeat = Heartbeat::new();
        let handle = Handle(Arc::new(Shared {
            queue: Mutex::default(),
            more: Condvar::new(),
            unrecorded: AtomicUsize::new(0),
            took: AtomicU64::new(0),
            heartbeat,
        }));
        let mine = handle.clone();
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).stack_size(STACK_BYTES).spawn(move || {
                // What acts waits for it. Where refused, the loop tells it.
                let _refused = privilege::schedule_in_real_time(privilege::Urgency::Acting);
                mine.serve(record, &tell);
            })?;
        Ok(Self { handle, thread })
    }

    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    #[must_use]
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.handle.0.heartbeat)
    }

    /// How many changes are not durable yet.
    #[must_use]
    pub fn unrecorded(&self) -> usize {
        self.handle.0.unrecorded.load(Ordering::Acquire)
    }

    /// What waits is tried once more. A disk that takes longer than this keeps its thread, which ends with the process.
    /// False when the thread panicked.
    #[must_use]
    pub fn stop(self, within: Duration) -> bool {
        self.handle.queue().ends = true;
        self.handle.0.more.notify_all();
        let until = Instant::now() + within;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(POLL);
        }
        !self.thread.is_finished() || self.thread.join().is_ok()
    }
}

impl Handle {
    /// Answered when it is durable, or with the reason why it is not; then it is forgotten.
    pub fn record(&self, change: Change) -> oneshot::Receiver<Result<(), String>> {
        let (durable, answer) = oneshot::channel();
        self.push(Waiting { change, durable: Some(durable), told: false });
        answer
    }

    /// Recorded as soon as the disk takes it.
    pub fn note(&self, change: Change) {
        self.push(Waiting { change, durable: None, told: false });
    }

    /// How long the disk took the last time that it answered.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.0.took.load(Ordering::Acquire))
    }

    #[must_use]
    pub fn heartbeat(&self) -> &Heartbeat {
        &self.0.heartbeat
    }

    fn push(&self, waiting: Waiting) {
        let mut queue = self.queue();
        if !queue.gone {
            queue.waiting.retain(|other| other.change.id() != waiting.change.id());
            queue.waiting.push(waiting);
            self.0.count(&queue);
            self.0.more.notify_all();
        }
    }

    fn serve(&self, mut record: impl Record, tell: &Tell) {
        let _gone = Gone(self);
        let _alive = Alive(Arc::clone(&self.0.heartbeat));
        let mut told = record.trouble().map(ToOwned::to_owned);
        while let Some(batch) = self.next(record.due()) {
            self.0.heartbeat.wait();
            let began = Instant::now();
            let failed = commit(&mut record, batch);
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.0.took.store(took, Ordering::Release);
            let found = record.due().filter(|due| *due <= Instant::now()).and_then(|_| record.try_again());
            self.0.heartbeat.beat();
            self.try_again(failed, tell);
            tell_change(&record, found, &mut told, tell);
            let mut queue = self.queue();
            queue.taken = 0;
            self.0.count(&queue);
        }
    }

    /// Everything that waits, or nothing when something else is due; `None` when it is to end. What failed before waits for
    /// its time, or for company.
    fn next(&self, due: Option<Instant>) -> Option<Vec<Waiting>> {
        self.0.heartbeat.idle();
        let mut queue = self.queue();
        let again = Instant::now() + TRY_AGAIN;
        loop {
            let is_time = due.is_some_and(|due| Instant::now() >= due) && !queue.ends;
            let is_due = Instant::now() >= again || queue.ends || queue.waiting.iter().any(|waiting| !waiting.told);
            if is_due && !queue.waiting.is_empty() || is_time {
                self.0.heartbeat.beat();
                queue.taken = queue.waiting.len();
                return Some(std::mem::take(&mut queue.waiting));
            }
            if queue.ends {
                return None;
            }
            let next = [Some(again).filter(|_| !queue.waiting.is_empty()), due].into_iter().flatten().min();
            queue = match next {
                None => self.0.more.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let left = next.saturating_duration_since(Instant::now());
                    self.0.more.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Those that somebody waited for are answered, and forgotten.
    fn try_again(&self, failed: Vec<(Waiting, String)>, tell: &Tell) {
        for (mut waiting, why) in failed {
            if let Some(durable) = waiting.durable.take() {
                // Who gave up has said what is to be recorded instead.
                durable.send(Err(why)).ok();
                continue;
            }
            if !waiting.told {
                tell(News::Unrecorded(complaint(&waiting.change, &why)));
            }
            waiting.told = true;
            let mut queue = self.queue();
            let id = waiting.change.id();
            if !queue.ends && queue.waiting.iter().all(|newer| newer.change.id() != id) {
                queue.waiting.insert(0, waiting);
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn count(&self, queue: &Queue) {
        self.unrecorded.store(queue.waiting.len() + queue.taken, Ordering::Release);
    }
}

/// However the thread ends, nobody waits for it in vain.
struct Gone<'a>(&'a Handle);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.gone = true;
        queue.waiting.clear();
    }
}

/// What was told is told again only where it is different.
fn tell_change(record: &impl Record, found: Option<Before>, told: &mut Option<String>, tell: &Tell) {
    if let Some(found) = found {
        *told = None;
        tell(News::Found(Box::new(found)));
    }
    match (record.trouble(), &told) {
        (None, None) => {}
        (Some(why), Some(known)) if why == known => {}
        (Some(why), _) => {
            *told = Some(why.to_owned());
            tell(News::Trouble { why: why.to_owned(), missing: record.is_missing() });
        }
        (None, Some(_)) => {
            *told = None;
            tell(News::Works);
        }
    }
}

/// What could not be recorded, and why. One that cannot be must not cost the others.
fn commit(record: &mut impl Record, batch: Vec<Waiting>) -> Vec<(Waiting, String)> {
    let changes: Vec<Change> = batch.iter().map(|waiting| waiting.change.clone()).collect();
    if record.commit(&changes).is_ok() {
        batch.into_iter().for_each(acknowledge);
        return Vec::new();
    }
    let alone = |waiting: Waiting| match record.commit(std::slice::from_ref(&waiting.change)) {
        Ok(()) => {
            acknowledge(waiting);
            None
        }
        Err(why) => Some((waiting, why.to_string())),
    };
    batch.into_iter().filter_map(alone).collect()
}

fn acknowledge(waiting: Waiting) {
    if let Some(durable) = waiting.durable {
        // Who gave up has said what is to be recorded instead.
        durable.send(Ok(())).ok();
    }
}

fn complaint(change: &Change, why: &str) -> String {
    let (what, ActionId(id)) = match change {
        Change::Close(id) => ("the end", *id),
        Change::Write(entry) => ("the renewal", entry.id),
    };
    format!("{what} of action {id} could not be recorded, which is tried again: {why}")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Says what it was to commit, and waits for what comes of it: the ids that cannot be recorded.
    struct Disk {
        committed: mpsc::Sender<Vec<Change>>,
        refused: mpsc::Receiver<Vec<u64>>,
    }

    impl Record for Disk {
        fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
            self.committed.send(changes.to_vec()).ok();
            let refused = self.refused.recv().unwrap_or_default();
            match changes.iter().any(|change| refused.contains(&change.id().0)) {
                true => Err(JournalError::Absent { why: "full".into() }),
                false => Ok(()),
            }
        }

        fn entries(&self) -> &[Entry] {
            &[]
        }
    }

    struct Desk {
        writer: Writer,
        handle: Handle,
        committed: mpsc::Receiver<Vec<Change>>,
        refuse: mpsc::Sender<Vec<u64>>,
        complaints: mpsc::Receiver<String>,
    }

    impl Desk {
        fn new() -> Self {
            let ((committed, seen), (refuse, refused)) = (mpsc::channel(), mpsc::channel());
            let (complaint, complaints) = mpsc::channel();
            let tell = Box::new(move |news| {
                let News::Unrecorded(why) = news else { panic!("{news:?}") };
                complaint.send(why).unwrap();
            });
            let writer = Writer::start(Disk { committed, refused }, tell).unwrap();
            Self { handle: writer.handle(), writer, committed: seen, refuse, complaints }
        }

        /// The ids of the next commit, which refuses these.
        fn commit(&self, refused: &[u64]) -> Vec<u64> {
            let ids = self.committed.recv().unwrap().iter().map(|change| change.id().0).collect();
            self.refuse.send(refused.to_vec()).unwrap();
            ids
        }
    }

    fn close(id: u64) -> Change {
        Change::Close(ActionId(id))
    }

    #[test]
    fn one_sync_serves_all_that_wait_and_of_each_action_the_newest() {
        let desk = Desk::new();
        desk.handle.note(close(1));
        // The disk has it; meanwhile others come.
        let first = desk.committed.recv().unwrap();
        let two = desk.handle.record(close(2));
        let given_up = desk.handle.record(close(3));
        desk.handle.note(close(4));
        desk.handle.note(close(3));
        assert_eq!((first.len(), desk.writer.unrecorded()), (1, 4));
        desk.refuse.send(Vec::new()).unwrap();
        assert_eq!(desk.commit(&[]), [2, 4, 3]);
        assert_eq!(two.blocking_recv(), Ok(Ok(())));
        assert!(given_up.blocking_recv().is_err(), "who asked has said something else since");
        assert!(desk.writer.stop(Duration::from_secs(20)));
    }

    #[test]
    fn what_cannot_be_recorded_costs_no_other_and_is_tried_again_where_nobody_waits() {
        let desk = Desk::new();
        desk.handle.note(close(1));
        let first = desk.committed.recv().unwrap();
        desk.handle.note(close(2));
        let three = desk.handle.record(close(3));
        let four = desk.handle.record(close(4));
        desk.refuse.send(Vec::new()).unwrap();
        assert_eq!((first.len(), desk.commit(&[2, 3])), (1, vec![2, 3, 4]));
        assert_eq!([desk.commit(&[2]), desk.commit(&[3]), desk.commit(&[])], [[2], [3], [4]]);
        assert_eq!(three.blocking_recv(), Ok(Err("there is no journal: full".to_owned())));
        assert_eq!(four.blocking_recv(), Ok(Ok(())));
        assert!(desk.complaints.recv().unwrap().starts_with("the end of action 2 could not be recorded"));
        desk.handle.note(close(5));
        assert_eq!(desk.commit(&[2]), [2, 5], "with the next one");
        assert_eq!([desk.commit(&[2]), desk.commit(&[])], [[2], [5]]);
        assert_eq!(desk.commit(&[]), [2], "or after a while");
        assert!(desk.writer.stop(Duration::from_secs(20)));
        assert_eq!(desk.complaints.try_iter().count(), 0, "told once");
    }

    #[test]
    fn an_end_writes_what_waits_and_leaves_a_disk_that_takes_too_long() {
        let desk = Desk::new();
        desk.handle.note(close(1));
        let first = desk.committed.recv().unwrap();
        let began = Instant::now();
        assert!(desk.writer.stop(Duration::from_millis(50)) && first.len() == 1);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
