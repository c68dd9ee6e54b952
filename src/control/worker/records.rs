//! What is in force or may be, as the tasks know it, and the way to make that durable. What is read here never waits for
//! a disk; nor does an end, a renewal or a way back. Only what would change a target waits for its record, and not for long.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::sleep;

use super::clash;
use super::undos::Undos;
use crate::clock;
use crate::control::failure::Failure;
use crate::heartbeat::Sign;
use crate::journal::{Change, Entry, Handle};
use crate::policy::mitigation::ActionId;
use crate::policy::moment::Moment;

/// A sync takes some milliseconds, on a busy disk some hundred. What the disk has not taken by then is not done, so that
/// the control is free for what needs no disk; unless the disk is known to answer, only later than that.
pub const RECORDED_WITHIN: Duration = Duration::from_secs(2);

/// So long undos of others at this control wait for a disk that is only busy.
const UNDOS_WAIT: Duration = Duration::from_millis(100);

pub struct Records {
    /// Nothing here is borrowed across an await.
    entries: RefCell<Vec<Entry>>,
    /// What was known at the start: where it is gone from here, it is over.
    known: Vec<ActionId>,
    /// Why there is no journal.
    missing: RefCell<Option<String>>,
    journal: Handle,
}

impl Records {
    pub fn new(entries: Vec<Entry>, missing: Option<String>, journal: Handle) -> Self {
        let known = entries.iter().map(|entry| entry.id).collect();
        Self { entries: RefCell::new(entries), known, missing: RefCell::new(missing), journal }
    }

    /// Nothing is written until one is found.
    pub fn lose(&self, why: String) {
        self.missing.replace(Some(why));
    }

    /// The journal is there, and holds these: those that were not known. What changed of the others meanwhile waits for the
    /// journal already.
    pub fn adopt(&self, found: Vec<Entry>) -> Vec<Entry> {
        self.missing.replace(None);
        let unknown = found.into_iter().filter(|entry| self.entry(entry.id).is_none());
        let (new, ended): (Vec<_>, Vec<_>) = unknown.partition(|entry| !self.known.contains(&entry.id));
        ended.iter().for_each(|entry| self.journal.note(Change::Close(entry.id)));
        self.entries.borrow_mut().extend(new.iter().cloned());
        new
    }

    /// Everything that is in force, or may be, or is about to be.
    pub fn all(&self) -> Vec<Entry> {
        self.entries.borrow().clone()
    }

    pub fn entry(&self, id: ActionId) -> Option<Entry> {
        self.entries.borrow().iter().find(|entry| entry.id == id).cloned()
    }

    /// Durable when it returns. Others see it at once, so that no two of them take one value.
    ///
    /// # Errors
    /// When it could not be recorded while it is of use: then nothing may be sent, and it is as if this had never been
    /// wanted.
    pub async fn write(&self, entry: &Entry, valid_until: Moment, undos: &Undos) -> Result<(), Failure> {
        if let Some(why) = &*self.missing.borrow() {
            return Err(unrecorded(&format!("there is no journal: {why}")));
        }
        let patience = self.patience(valid_until);
        let left = patience.saturating_sub(self.silent_for());
        if left.is_zero() {
            return Err(silent(patience));
        }
        let before = self.keep(entry);
        let durable = self.journal.record(Change::Write(Box::new(entry.clone())));
        let failure = tokio::select! {
            biased;
            () = undos.of(entry.id) => undone(),
            answer = durable => match answer {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => unrecorded(&why),
                Err(_) => unrecorded("the thread that writes the journal has ended; restart node-guardian"),
            },
            () = pressed(undos) => Failure::expired("an undo needs the control, and the disk has not taken its own yet"),
            () = sleep(left) => silent(patience),
        };
        // What was on its way to the disk may get there yet.
        match before {
            Some(before) => self.note(&before),
            None => self.close(entry.id),
        }
        Err(failure)
    }

    /// Known at once, durable as soon as may be.
    pub fn note(&self, entry: &Entry) {
        self.keep(entry);
        self.journal.note(Change::Write(Box::new(entry.clone())));
    }

    /// Before this is over, or a part of it is given up: who stands on what it has set, and now puts back what was there
    /// before both.
    pub fn hand_down(&self, id: ActionId) -> Vec<ActionId> {
        let Some(over) = self.entry(id) else { return Vec::new() };
        let others = self.all().into_iter().filter(|entry| entry.id != id);
        let heirs: Vec<Entry> = others.filter_map(|entry| clash::handed_down(&over, &entry)).collect();
        heirs.iter().for_each(|heir| self.note(heir));
        heirs.iter().map(|heir| heir.id).collect()
    }

    /// What is verified gone is gone, also where the disk does not take that yet.
    pub fn close(&self, id: ActionId) {
        self.entries.borrow_mut().retain(|entry| entry.id != id);
        self.journal.note(Change::Close(id));
    }

    /// It is over for us, and somebody else's now. The journal keeps it until the loop, which keeps whose it is, gives it up.
    pub fn part(&self, id: ActionId) {
        self.entries.borrow_mut().retain(|entry| entry.id != id);
    }

    /// What was known of it before.
    fn keep(&self, entry: &Entry) -> Option<Entry> {
        let mut entries = self.entries.borrow_mut();
        match entries.iter_mut().find(|known| known.id == entry.id) {
            Some(known) => Some(std::mem::replace(known, entry.clone())),
            None => {
                entries.push(entry.clone());
                None
            }
        }
    }

    /// A disk that always takes 3 s would else let nothing be done, ever. What is on its way when this comes goes first,
    /// and takes as long.
    fn patience(&self, valid_until: Moment) -> Duration {
        let both = self.journal.took() * 5 / 2;
        let left = clock::now().map_or(Duration::ZERO, |now| valid_until.since(now));
        both.min(left).max(RECORDED_WITHIN)
    }

    /// How long the disk has kept the journal waiting already.
    fn silent_for(&self) -> Duration {
        match self.journal.heartbeat().sign(clock::now().unwrap_or(Moment::ORIGIN)) {
            Sign::Waiting(since) => since,
            Sign::Well | Sign::Overdue(_) | Sign::Ended => Duration::ZERO,
        }
    }
}

/// Something else needs the control, and no disk.
async fn pressed(undos: &Undos) {
    sleep(UNDOS_WAIT).await;
    undos.any().await;
}

/// Whoever takes it back need not wait until a disk knows of it.
pub fn undone() -> Failure {
    Failure::expired("it was undone before that")
}

fn unrecorded(why: &str) -> Failure {
    Failure::refused(format!("nothing was sent, because its undo could not be recorded: {why}"))
}

/// To be tried again as soon as the disk answers.
fn silent(patience: Duration) -> Failure {
    let within = patience.as_secs();
    Failure::expired(&format!("its undo could not be recorded within {within} s, the journal's disk does not answer"))
}
