//! The journal where it may not be had: not at start, or not any more. Opening it waits for nobody's disk, it is tried again
//! with growing pauses, and what it holds is handed over once it is there. Never says that anything is recorded that is not.

use std::fmt::Debug;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::failing::Failing;
use super::former::{Carried, Former};
use super::state::State;
use super::{Before, Change, Entry, FILES, Journal, JournalError, Opened, Peeked, Record, Written, leads_to};
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

/// Knows where the state was when this configuration was used last. Answers in about a second, whatever its disk does.
pub trait Whereabouts: Send + Sync + Debug {
    /// `None` where nothing is noted. Whether it is there still is another question.
    ///
    /// # Errors
    /// When that cannot be told.
    fn former(&self) -> Result<Option<PathBuf>, String>;

    /// All of it is in this directory now.
    fn moved(&self, former: Option<&Path>, directory: &Path);

    /// How somebody gives up what is in the former one.
    fn way_out(&self) -> String;
}

#[derive(Debug)]
pub struct Late {
    directory: PathBuf,
    whereabouts: Arc<dyn Whereabouts>,
    journal: Result<Journal, Missing>,
    /// What is known of it while there is none.
    entries: Vec<Entry>,
    /// Why it could not be written when that was last tried; until something was.
    failing: Option<Failing>,
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
    /// This one is asked now.
    Asks(PathBuf),
    Seen(Box<Seen>),
    Done(Box<First>),
}

/// What can be read without writing, which is enough to undo.
struct Seen {
    peeked: Option<Peeked>,
    ordered: Ordered,
}

/// What is known of the orders, and why that is not all.
#[derive(Default)]
struct Ordered {
    orders: Orders,
    unread: Option<String>,
}

struct First {
    opened: Result<(Opened, Ordered), JournalError>,
    /// Where it could not be opened.
    seen: Option<Seen>,
}

impl Late {
    /// Opens it if that can be done in a few seconds. Where it cannot, what it says is known as far as it can be read.
    ///
    /// # Errors
    /// When another guardian holds it: there is one guardian per state directory.
    pub fn open(directory: &Path, whereabouts: Arc<dyn Whereabouts>) -> Result<(Self, Before), JournalError> {
        let (found, first) = mpsc::channel();
        let (place, known) = (directory.to_owned(), Arc::clone(&whereabouts));
        let look = move || First::look(&place, &*known, &found);
        let thread = std::thread::Builder::new().name("opening".to_owned()).spawn(look);
        thread.map(drop).map_err(|error| JournalError::io("open", directory, error))?;
        Self::wait_for(directory, whereabouts, first)
    }

    fn wait_for(
        directory: &Path,
        whereabouts: Arc<dyn Whereabouts>,
        first: Receiver<Told>,
    ) -> Result<(Self, Before), JournalError> {
        let (began, mut patience, mut seen, mut asked) = (Instant::now(), OPENED_WITHIN, None, directory.to_owned());
        loop {
            match first.recv_timeout(patience.saturating_sub(began.elapsed())) {
                Ok(Told::Asks(directory)) => asked = directory,
                Ok(Told::Seen(found)) => {
                    if found.peeked.as_ref().is_some_and(|peeked| !peeked.entries.is_empty()) {
                        patience = began.elapsed() + OPENED_WITHIN_IF_OWED;
                    }
                    seen = Some(*found);
                }
                Ok(Told::Done(found)) => return Self::begun(directory, whereabouts, *found),
                Err(RecvTimeoutError::Timeout) => {
                    let why = silent(&asked, began.elapsed());
                    return Ok(knowing(Self::without(directory, whereabouts, why, Some(first)), seen));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let why = "its opening ended unexpectedly".to_owned();
                    return Ok(knowing(Self::without(directory, whereabouts, why, None), seen));
                }
            }
        }
    }

    fn begun(
        directory: &Path,
        whereabouts: Arc<dyn Whereabouts>,
        found: First,
    ) -> Result<(Self, Before), JournalError> {
        match found.opened {
            Ok((opened, ordered)) => {
                let before = before(&opened, ordered);
                Ok((Self::of(directory, whereabouts, Ok(opened.journal)), before))
            }
            Err(held @ JournalError::Held { .. }) => Err(held),
            Err(error) => Ok(knowing(Self::without(directory, whereabouts, error.to_string(), None), found.seen)),
        }
    }

    fn without(
        directory: &Path,
        whereabouts: Arc<dyn Whereabouts>,
        why: String,
        first: Option<Receiver<Told>>,
    ) -> (Self, Before) {
        let unread_orders = Some(why.clone());
        let missing = Missing { why, tries: 1, due: Instant::now() + pause_after(0), first };
        let late = Self::of(directory, whereabouts, Err(missing));
        // Nobody knows which ids it has given, but fewer than one a second.
        let next_id = ActionId(clock::unix_ms() / 1000);
        (late, Before { next_id, unread_orders, ..Before::default() })
    }

    fn of(directory: &Path, whereabouts: Arc<dyn Whereabouts>, journal: Result<Journal, Missing>) -> Self {
        let (directory, look) = (directory.to_owned(), Instant::now() + LOOK_EVERY);
        Self { directory, whereabouts, journal, entries: Vec::new(), failing: None, found: None, look }
    }

    /// Where the path leads elsewhere, what is in force is written down there, for the next start to find.
    fn stay_in_place(&mut self) {
        self.look = Instant::now() + LOOK_EVERY;
        let Some(moved) = self.journal.as_ref().ok().filter(|journal| !journal.is_in_place()) else { return };
        self.entries = moved.entries().to_vec();
        self.failing = None;
        let why = format!("{} is not where it was: moved, removed, cut off or mounted over", self.directory.display());
        // Its lock goes with it.
        self.journal = Err(Missing { why: why.clone(), tries: 0, due: Instant::now(), first: None });
        self.found = self.reopen().map(|before| Before { damage: Some(why), ..before });
    }

    /// A disk that did not take the last record is asked again, so that it is known when it does.
    fn prove(&mut self) {
        let (Ok(journal), Some(failing)) = (&mut self.journal, self.failing.take_if(|failing| failing.is_due())) else {
            return;
        };
        self.failing = journal.prove().err().map(|error| Failing::again(Some(failing), &error));
    }

    fn reopen(&mut self) -> Option<Before> {
        let Err(missing) = &mut self.journal else { return None };
        let found = missing.first_found(&self.directory, &*self.whereabouts)?;
        let opened = found.opened.and_then(|(opened, orders)| Ok((carry_over(opened, &self.entries)?, orders)));
        match opened {
            Ok((opened, ordered)) => {
                let before = before(&opened, ordered);
                *self = Self::of(&self.directory, Arc::clone(&self.whereabouts), Ok(opened.journal));
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
                    Ok(Written::Durably) => self.failing = None,
                    // What has nothing to write says as little about the disk as what cannot be written for its own sake.
                    Ok(Written::Nothing) => {}
                    Err(error @ JournalError::Io { .. }) => {
                        self.failing = Some(Failing::again(self.failing.take(), error))
                    }
                    Err(_) => {}
                }
                outcome.map(drop)
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
            Ok(_) => self.failing.as_ref().map(Failing::why),
            Err(missing) => Some(&missing.why),
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.journal {
            Ok(_) if self.found.is_some() => Some(Instant::now()),
            Ok(_) => self.failing.iter().map(Failing::due).chain([self.look]).min(),
            Err(missing) => Some(missing.due),
        }
    }

    fn try_again(&mut self) -> Option<Before> {
        match &self.journal {
            Ok(_) if self.found.is_none() => {
                self.stay_in_place();
                self.prove();
            }
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
    fn first_found(&mut self, directory: &Path, whereabouts: &dyn Whereabouts) -> Option<First> {
        let first = self.first.take();
        match first.as_ref().map(Receiver::try_recv) {
            Some(Ok(Told::Done(found))) => Some(*found),
            Some(Ok(Told::Asks(_) | Told::Seen(_)) | Err(TryRecvError::Empty)) => {
                self.first = first;
                self.due = Instant::now() + LOOK_AGAIN;
                None
            }
            Some(Err(TryRecvError::Disconnected)) | None => Some(First::glance(directory, whereabouts)),
        }
    }
}

impl First {
    /// With the patience of a start: first what can be read, then all of it. Whoever waits for it may have given up.
    fn look(directory: &Path, whereabouts: &dyn Whereabouts, tell: &Sender<Told>) {
        let until = Instant::now() + FREE_WITHIN;
        let noted = whereabouts.former();
        // Where there is no directory yet, nothing says that nothing is owed.
        let own = patiently(until, || Journal::look_at_state(directory)).ok().filter(|_| directory.is_dir());
        if let Some(own) = &own {
            let is_all = noted.as_ref().is_ok_and(|noted| noted.as_deref().is_none_or(|noted| noted == directory));
            let unread = (!is_all).then(|| "orders in the former directory are not read yet".to_owned());
            tell.send(Told::Seen(Box::new(Seen::of(Some(own), directory, unread)))).ok();
        }
        if let Ok(Some(noted)) = &noted {
            tell.send(Told::Asks(noted.clone())).ok();
        }
        let former = former(directory, noted);
        if let Ok(Some(former)) = &former {
            if let Ok(held) = patiently(until, || Former::open(former)) {
                tell.send(Told::Seen(Box::new(Seen::with(
                    &held,
                    own.as_ref(),
                    directory,
                    silent(directory, Duration::ZERO),
                ))))
                .ok();
            }
            tell.send(Told::Asks(directory.to_owned())).ok();
        }
        tell.send(Told::Done(Box::new(Self::taken(directory, whereabouts, former, until)))).ok();
    }

    fn glance(directory: &Path, whereabouts: &dyn Whereabouts) -> Self {
        Self::taken(directory, whereabouts, former(directory, whereabouts.former()), Instant::now())
    }

    /// What was before comes with it, or it is not opened: else a value of our own would count as the one of before.
    fn taken(
        directory: &Path,
        whereabouts: &dyn Whereabouts,
        former: Result<Option<PathBuf>, JournalError>,
        until: Instant,
    ) -> Self {
        let (former, opened) = match former {
            Err(error) => (None, Err(error)),
            Ok(None) => {
                let opened = patiently(until, || Journal::open(directory));
                (None, opened.map(|opened| (opened, Ordered::of(directory))))
            }
            Ok(Some(former)) => {
                let opened = taken_over(directory, &former, until);
                (Some(former), opened)
            }
        };
        let error = match opened {
            Ok(opened) => {
                whereabouts.moved(former.as_deref(), directory);
                return Self { opened: Ok(opened), seen: None };
            }
            Err(JournalError::Former { directory, why }) => {
                JournalError::Former { directory, why: format!("{why}; {}", whereabouts.way_out()) }
            }
            Err(error) => error,
        };
        let (own, why) = (Journal::look_at_state(directory).ok(), error.to_string());
        let seen = match former.as_deref().map(Former::open) {
            Some(Ok(held)) => Seen::with(&held, own.as_ref(), directory, why),
            Some(Err(_)) => Seen::of(own.as_ref(), directory, Some(why)),
            // Without a directory, that there are no orders in it says nothing.
            None => {
                let is_known =
                    directory.is_dir() && !matches!(error, JournalError::Absent { .. } | JournalError::Former { .. });
                Seen::of(own.as_ref(), directory, (!is_known).then_some(why))
            }
        };
        Self { opened: Err(error), seen: Some(seen) }
    }
}

fn taken_over(directory: &Path, former: &Path, until: Instant) -> Result<(Opened, Ordered), JournalError> {
    let left = |error: JournalError| JournalError::Former { directory: former.to_owned(), why: error.to_string() };
    let held = patiently(until, || Former::open(former)).map_err(left)?;
    let mut opened = patiently(until, || Journal::open(directory))?;
    let Carried { orders, unread_orders, damage, .. } = held.carry_to(&mut opened.journal).map_err(left)?;
    let damage: Vec<String> = damage.into_iter().chain(opened.damage.take()).collect();
    opened.damage = (!damage.is_empty()).then(|| damage.join("; "));
    Ok((opened, Ordered { orders, unread: unread_orders }))
}

/// Where the state of before is, if that is there, and not here.
fn former(directory: &Path, noted: Result<Option<PathBuf>, String>) -> Result<Option<PathBuf>, JournalError> {
    let noted = match noted {
        Ok(Some(noted)) if noted != directory => noted,
        Ok(_) => return Ok(None),
        // Most likely what is here was used last.
        Err(_) if directory.join(FILES[0]).exists() => return Ok(None),
        Err(why) => {
            let why = format!("the state directory before the last start is unknown: {why}");
            return Err(JournalError::Absent { why });
        }
    };
    match File::open(&noted) {
        Ok(found) => Ok(Some(noted).filter(|_| !leads_to(directory, &found))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(JournalError::Former { directory: noted, why: error.to_string() }),
    }
}

impl Seen {
    fn of(own: Option<&State>, directory: &Path, unread: Option<String>) -> Self {
        let mut ordered = Ordered::of(directory);
        ordered.unread = unread.or(ordered.unread);
        let peeked = own.map(|own| Peeked { entries: own.entries.clone(), next_id: own.next_id });
        Self { peeked, ordered }
    }

    /// Before it is written down here, this is not to be written over.
    fn with(held: &Former, own: Option<&State>, directory: &Path, why: String) -> Self {
        let none = State::default();
        let Carried { state, orders, .. } = held.joined_to(own.unwrap_or(&none), &Ordered::of(directory).orders);
        let peeked = Some(Peeked { entries: state.entries, next_id: state.next_id });
        Self { peeked, ordered: Ordered { orders, unread: Some(why) } }
    }
}

impl Ordered {
    fn of(directory: &Path) -> Self {
        match read_orders(directory) {
            Ok(orders) => Self { orders, unread: None },
            Err(why) => Self { unread: Some(why), ..Self::default() },
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
    let Some(Seen { peeked, ordered: Ordered { orders, unread } }) = seen else { return (late, before) };
    let before = Before { orders, unread_orders: unread, ..before };
    let Some(Peeked { entries, next_id }) = peeked else { return (late, before) };
    late.entries.clone_from(&entries);
    (late, Before { entries, next_id, ..before })
}

fn before(opened: &Opened, Ordered { orders, unread }: Ordered) -> Before {
    let (entries, next_id) = (opened.journal.entries().to_vec(), opened.journal.next_id());
    Before { entries, next_id, orders, damage: opened.damage.clone(), unread_orders: unread }
}

/// What the policy is to know of an entry.
#[must_use]
pub fn inherited(entry: &Entry) -> Inherited {
    Inherited {
        id: entry.id,
        mitigation: entry.mitigation.clone(),
        rule: entry.rule.clone(),
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
