//! The journal where it may not be had: not at start, or not any more. Opening it waits for nobody's disk, it is tried again
//! with growing pauses, and what it holds is handed over once it is there. Never says that anything is recorded that is not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::{Change, Entry, Journal, JournalError, Opened, Peeked, Record};
use crate::clock;
use crate::control::standing;
use crate::keeper::orders::{self, Now};
use crate::policy::action::pause_after;
use crate::policy::guardian::Inherited;
use crate::policy::mitigation::ActionId;
use crate::policy::moment::Moment;
use crate::policy::orders::Orders;

/// A busy disk takes a second; one that is slower than this is not waited for any longer.
const OPENED_WITHIN: Duration = Duration::from_secs(5);
/// Where something is owed that can be read, that is undone before the disk has taken anything.
const OPENED_WITHIN_IF_OWED: Duration = Duration::from_secs(1);
/// While the first try still waits for its disk.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A guardian that was killed holds its lock until the kernel is done with it: that is worth a moment's patience.
const FREE_WITHIN: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);
/// One look at a name. What is written to a directory that is gone helps no later start.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What was before: in force or may be, and ordered.
#[derive(Debug, Default)]
pub struct Before {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Greater than every id that is known to have been given.
    pub next_id: ActionId,
    /// None where they could not be read.
    pub orders: Orders,
    /// What a crash cost; told once to the operator.
    pub damage: Option<String>,
    /// Why nobody knows what was ordered.
    pub unread_orders: Option<String>,
}

#[derive(Debug)]
pub struct Late {
    directory: PathBuf,
    journal: Result<Journal, Missing>,
    /// What is known of it while there is none.
    entries: Vec<Entry>,
    /// Why it could not be written when that was last tried.
    failing: Option<String>,
    /// What a journal that was opened meanwhile holds.
    found: Option<Before>,
    /// When to look whether it still is where it was.
    look: Instant,
}

#[derive(Debug)]
struct Missing {
    why: String,
    tries: u32,
    due: Instant,
    /// The first try, where it takes so long.
    first: Option<Receiver<Told>>,
}

/// By the first try, in this order.
enum Told {
    Seen(Seen),
    Done(Box<First>),
}

/// What can be read without writing, which is enough to undo.
struct Seen {
    peeked: Peeked,
    orders: Result<Orders, String>,
}

struct First {
    opened: Result<Opened, JournalError>,
    peeked: Option<Peeked>,
    orders: Result<Orders, String>,
}

impl Late {
    /// Opens it if that can be done in a few seconds. Where it cannot, what it says is known as far as it can be read.
    ///
    /// # Errors
    /// When another guardian holds it: there is one guardian per state directory.
    pub fn open(directory: &Path) -> Result<(Self, Before), JournalError> {
        let (found, first) = mpsc::channel();
        let place = directory.to_owned();
        let look = move || First::look(&place, &found);
        let thread = std::thread::Builder::new().name("opening".to_owned()).spawn(look);
        thread.map(drop).map_err(|error| JournalError::io("open", directory, error))?;
        Self::wait_for(directory, first)
    }

    fn wait_for(directory: &Path, first: Receiver<Told>) -> Result<(Self, Before), JournalError> {
        let (began, mut patience, mut seen) = (Instant::now(), OPENED_WITHIN, None);
        loop {
            match first.recv_timeout(patience.saturating_sub(began.elapsed())) {
                Ok(Told::Seen(found)) => {
                    if !found.peeked.entries.is_empty() {
                        patience = began.elapsed() + OPENED_WITHIN_IF_OWED;
                    }
                    seen = Some(found);
                }
                Ok(Told::Done(found)) => return Self::begun(directory, *found),
                Err(RecvTimeoutError::Timeout) => {
                    let why = silent(directory, began.elapsed());
                    return Ok(knowing(Self::without(directory, why, Some(first)), seen));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "its opening ended unexpectedly".to_owned();
                    return Ok(knowing(Self::without(directory, why, None), seen));
                }
            }
        }
    }

    fn begun(directory: &Path, found: First) -> Result<(Self, Before), JournalError> {
        let (orders, unread_orders) = found.orders();
        match found.opened {
            Ok(opened) => {
                let before = Before { orders, unread_orders, ..before(&opened) };
                Ok((Self::of(directory, Ok(opened.journal)), before))
            }
            Err(held @ JournalError::Held { .. }) => Err(held),
            Err(error) => {
                // Without a directory, that there are no orders in it says nothing.
                let unread_orders = unread_orders.or_else(|| (!directory.is_dir()).then(|| error.to_string()));
                let (mut late, mut before) = Self::without(directory, error.to_string(), None);
                if let Some(peeked) = found.peeked {
                    late.entries.clone_from(&peeked.entries);
                    before = Before { entries: peeked.entries, next_id: peeked.next_id, ..before };
                }
                Ok((late, Before { orders, unread_orders, ..before }))
            }
        }
    }

    fn without(directory: &Path, why: String, first: Option<Receiver<Told>>) -> (Self, Before) {
        let unread_orders = Some(why.clone());
        let missing = Missing { why, tries: 1, due: Instant::now() + pause_after(0), first };
        let late = Self::of(directory, Err(missing));
        // Nobody knows which ids it has given, but fewer than one a second.
        let next_id = ActionId(clock::unix_ms() / 1000);
        (late, Before { next_id, unread_orders, ..Before::default() })
    }

    fn of(directory: &Path, journal: Result<Journal, Missing>) -> Self {
        let (directory, look) = (directory.to_owned(), Instant::now() + LOOK_EVERY);
        Self { directory, journal, entries: Vec::new(), failing: None, found: None, look }
    }

    /// Where the path leads elsewhere, what is in force is written down there, for the next start to find.
    fn stay_in_place(&mut self) {
        self.look = Instant::now() + LOOK_EVERY;
        let Some(moved) = self.journal.as_ref().ok().filter(|journal| !journal.is_in_place()) else { return };
        self.entries = moved.entries().to_vec();
        self.failing = None;
        let why = format!("{} is not where it was: moved, removed or mounted over", self.directory.display());
        // Its lock goes with it.
        self.journal = Err(Missing { why: why.clone(), tries: 0, due: Instant::now(), first: None });
        self.found = self.reopen().map(|before| Before { damage: Some(why), ..before });
    }

    fn reopen(&mut self) -> Option<Before> {
        let Err(missing) = &mut self.journal else { return None };
        let found = missing.first_found(&self.directory)?;
        let (orders, unread_orders) = found.orders();
        match found.opened.and_then(|opened| carry_over(opened, &self.entries)) {
            Ok(opened) => {
                let before = Before { orders, unread_orders, ..before(&opened) };
                *self = Self::of(&self.directory, Ok(opened.journal));
                Some(before)
            }
            Err(error) => {
                missing.why = error.to_string();
                missing.postpone();
                None
            }
        }
    }
}

/// What is in force already, where this journal knows nothing of its own by that number.
fn carry_over(mut opened: Opened, known: &[Entry]) -> Result<Opened, JournalError> {
    let is_new = |entry: &&Entry| opened.journal.entries().iter().all(|own| own.id != entry.id);
    let new = known.iter().filter(is_new).map(|entry| Change::Write(Box::new(entry.clone())));
    let new: Vec<_> = new.collect();
    opened.journal.commit(&new)?;
    Ok(opened)
}

impl Record for Late {
    fn commit(&mut self, changes: &[Change]) -> Result<(), JournalError> {
        self.stay_in_place();
        match &mut self.journal {
            Ok(journal) => {
                let outcome = journal.commit(changes);
                match &outcome {
                    Ok(()) => self.failing = None,
                    Err(error @ JournalError::Io { .. }) => self.failing = Some(error.to_string()),
                    // What cannot be written for its own sake says nothing about the disk.
                    Err(_) => {}
                }
                outcome
            }
            Err(missing) => Err(JournalError::Absent { why: missing.why.clone() }),
        }
    }

    fn entries(&self) -> &[Entry] {
        match &self.journal {
            Ok(journal) => journal.entries(),
            Err(_) => &self.entries,
        }
    }

    fn is_missing(&self) -> bool {
        self.journal.is_err()
    }

    fn trouble(&self) -> Option<&str> {
        match &self.journal {
            Ok(_) => self.failing.as_deref(),
            Err(missing) => Some(&missing.why),
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.journal {
            Ok(_) if self.found.is_some() => Some(Instant::now()),
            Ok(_) => Some(self.look),
            Err(missing) => Some(missing.due),
        }
    }

    fn try_again(&mut self) -> Option<Before> {
        match &self.journal {
            Ok(_) if self.found.is_none() => self.stay_in_place(),
            Ok(_) => {}
            Err(_) => self.found = self.reopen(),
        }
        self.found.take()
    }
}

impl Missing {
    fn postpone(&mut self) {
        self.due = Instant::now() + pause_after(self.tries);
        self.tries = self.tries.saturating_add(1);
    }

    /// `None`: the first try still waits for its disk, and a second one would, too.
    fn first_found(&mut self, directory: &Path) -> Option<First> {
        let first = self.first.take();
        match first.as_ref().map(Receiver::try_recv) {
            Some(Ok(Told::Done(found))) => Some(*found),
            Some(Ok(Told::Seen(_)) | Err(TryRecvError::Empty)) => {
                self.first = first;
                self.due = Instant::now() + LOOK_AGAIN;
                None
            }
            Some(Err(TryRecvError::Disconnected)) | None => Some(First::glance(directory)),
        }
    }
}

impl First {
    /// With the patience of a start: first what can be read, then all of it. Whoever waits for it may have given up.
    fn look(directory: &Path, tell: &Sender<Told>) {
        let until = Instant::now() + FREE_WITHIN;
        // Where there is no directory yet, nothing says that nothing is owed.
        let peeked = patiently(until, || Journal::look(directory)).ok().filter(|_| directory.is_dir());
        if let Some(peeked) = peeked {
            tell.send(Told::Seen(Seen { peeked, orders: read_orders(directory) })).ok();
        }
        let opened = patiently(until, || Journal::open(directory));
        let peeked = if opened.is_ok() { None } else { Journal::look(directory).ok() };
        tell.send(Told::Done(Box::new(Self { opened, peeked, orders: read_orders(directory) }))).ok();
    }

    fn glance(directory: &Path) -> Self {
        Self { opened: Journal::open(directory), peeked: None, orders: read_orders(directory) }
    }

    fn orders(&self) -> (Orders, Option<String>) {
        match &self.orders {
            Ok(orders) => (orders.clone(), None),
            Err(why) => (Orders::default(), Some(why.clone())),
        }
    }
}

fn patiently<T>(until: Instant, take: impl Fn() -> Result<T, JournalError>) -> Result<T, JournalError> {
    loop {
        match take() {
            Err(JournalError::Held { .. } | JournalError::Ending { .. }) if Instant::now() < until => {
                std::thread::sleep(POLL);
            }
            taken => return taken,
        }
    }
}

/// With what could be read of it.
fn knowing((mut late, before): (Late, Before), seen: Option<Seen>) -> (Late, Before) {
    let Some(Seen { peeked, orders }) = seen else { return (late, before) };
    late.entries.clone_from(&peeked.entries);
    let (orders, unread_orders) = orders.map_or_else(|why| (Orders::default(), Some(why)), |orders| (orders, None));
    let Peeked { entries, next_id } = peeked;
    (late, Before { entries, next_id, orders, unread_orders, ..before })
}

fn before(opened: &Opened) -> Before {
    let (entries, next_id) = (opened.journal.entries().to_vec(), opened.journal.next_id());
    Before { entries, next_id, damage: opened.damage.clone(), ..Before::default() }
}

/// What the policy is to know of an entry.
#[must_use]
pub fn inherited(entry: &Entry) -> Inherited {
    Inherited {
        id: entry.id,
        mitigation: entry.mitigation.clone(),
        rule: Arc::clone(&entry.rule),
        target: entry.target.identity().into(),
        changed: standing::moved(&entry.undo.changes).into(),
        age: Duration::from_millis(clock::unix_ms().saturating_sub(entry.since_unix_ms)),
    }
}

/// What an operator ordered before a restart.
fn read_orders(directory: &Path) -> Result<Orders, String> {
    let now = Now { moment: clock::now().unwrap_or(Moment::ORIGIN), unix_ms: clock::unix_ms() };
    orders::read(directory, now).map_err(|error| error.to_string())
}

fn silent(directory: &Path, since: Duration) -> String {
    let (seconds, directory) = (since.as_secs(), directory.display());
    format!("the disk of {directory} has not answered for {seconds} s; look at `dmesg`, or set another state_directory")
}
