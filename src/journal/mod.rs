//! What is in force, written ahead: nothing is changed before its undo is durable here, and nothing is forgotten before
//! it is verified gone. A torn or corrupt tail loses at most the record being written.
//!
//! Two files of fixed size take turns. Records are appended to one until it is full; then what is still in force is
//! written to the other, which is sealed when all of it is durable. Space is taken once, when the directory is made.
//!
//! A disk may keep a call for as long as it likes, so the journal lives on a thread of its own (`writer`). Where it cannot be
//! had, it is tried again (`late`).

mod before;
mod directory;
mod error;
mod failing;
mod former;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed;
mod late;
mod lock;
mod place;
mod record;
mod recover;
mod slot;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::lock::{Lock, Sharing};
use self::record::Frame;
use self::recover::{Tail, recover};
use self::slot::{BODY, SLOT_BYTES, Slot};
use self::state::State;
use crate::control::target::Target;
use crate::control::undo::Undo;
use crate::policy::mitigation::{ActionId, Mitigation};
use crate::policy::requester::Requester;

pub(crate) use self::before::Before;
pub use self::directory::check as check_directory;
pub use self::error::JournalError;
pub use self::late::{Late, Whereabouts, inherited};
pub use self::place::{is_same, leads_to, leads_to_all_of};
pub use self::state::Change;
pub use self::writer::{Handle, News, Record, Writer};

const FILES: [&str; 2] = ["journal.a", "journal.b"];

/// One mitigation that is in force or may be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub id: ActionId,
    pub mitigation: Mitigation,
    pub rule: Requester,
    pub target: Target,
    pub undo: Undo,
    pub since_unix_ms: u64,
}

/// Holds the lock on the directory: one guardian per journal.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    lock: Lock,
    slots: [Slot; 2],
    state: State,
    generation: u32,
    /// `None`: what lies on the disk is in doubt, so the next record goes to the spare slot, with all the others.
    tail: Option<Tail>,
    spare: usize,
}

/// What a commit has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Written {
    Durably,
    /// Of what it was told nothing was new: the disk was not asked.
    Nothing,
}

#[derive(Debug)]
pub struct Opened {
    pub journal: Journal,
    /// What a crash cost, if anything: told once to the operator.
    pub damage: Option<String>,
}

/// What a journal says, to whoever only looks.
#[derive(Debug)]
pub(crate) struct Peeked {
    pub entries: Vec<Entry>,
    pub next_id: ActionId,
}

impl Journal {
    /// Creates the directory and preallocates the files, so that a full disk later stops nothing.
    ///
    /// # Errors
    /// When the directory cannot be written, or another guardian holds it.
    pub fn open(directory: &Path) -> Result<Opened, JournalError> {
        directory::prepare(directory)?;
        Self::of(directory, Lock::take(directory, Sharing::Alone)?)
    }

    fn of(directory: &Path, lock: Lock) -> Result<Opened, JournalError> {
        let bytes = [slot::read(&directory.join(FILES[0]))?, slot::read(&directory.join(FILES[1]))?];
        let recovered = recover([&bytes[0], &bytes[1]]);
        let slots = [Slot::open(directory.join(FILES[0]))?, Slot::open(directory.join(FILES[1]))?];
        sync_names(directory).map_err(|error| JournalError::io("write", directory, error))?;
        let mut journal = Journal {
            directory: directory.to_owned(),
            lock,
            slots,
            state: recovered.state,
            generation: recovered.generation,
            tail: recovered.tail,
            spare: recovered.spare,
        };
        if journal.tail.is_none() {
            journal.rewrite(&journal.state.clone(), ActionId(0))?;
        }
        Ok(Opened { journal, damage: recovered.damage })
    }

    /// What is in force according to a journal that nobody holds; nothing where there is none. Changes nothing.
    ///
    /// # Errors
    /// When a guardian holds it (ask that one), or it cannot be read.
    pub fn peek(directory: &Path) -> Result<Vec<Entry>, JournalError> {
        Self::look(directory).map(|peeked| peeked.entries)
    }

    /// The same, with the next free id.
    ///
    /// # Errors
    /// As `peek`.
    pub(crate) fn look(directory: &Path) -> Result<Peeked, JournalError> {
        let State { entries, next_id, .. } = Self::look_at_state(directory)?;
        Ok(Peeked { entries, next_id })
    }

    fn look_at_state(directory: &Path) -> Result<State, JournalError> {
        if matches!(directory.try_exists(), Ok(false)) {
            return Ok(State::default());
        }
        directory::check(directory)?;
        let _lock = match Lock::take(directory, Sharing::Together) {
            // What it was writing is there or not, as after any crash.
            Err(JournalError::Ending { .. }) => None,
            taken => Some(taken?),
        };
        let bytes = [slot::read(&directory.join(FILES[0]))?, slot::read(&directory.join(FILES[1]))?];
        Ok(recover([&bytes[0], &bytes[1]]).state)
    }

    /// False where the path leads elsewhere now, so that the next start would not find it.
    #[must_use]
    pub(crate) fn is_in_place(&self) -> bool {
        self.lock.is_of(&self.directory) && self.slots.iter().all(Slot::is_in_place)
    }

    /// Records an intent, or replaces the entry of the same id. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable: then the change must not be made.
    pub fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        self.commit(&[Change::Write(Box::new(entry.clone()))]).map(drop)
    }

    /// The mitigation is verified gone. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable: the entry stays.
    pub fn close(&mut self, id: ActionId) -> Result<(), JournalError> {
        self.commit(&[Change::Close(id)]).map(drop)
    }

    /// Records all of these, in this order, with one sync. Durable when it returns.
    ///
    /// # Errors
    /// When they could not be made durable: none of them counts.
    pub(crate) fn commit(&mut self, changes: &[Change]) -> Result<Written, JournalError> {
        let mut after = self.state.clone();
        let mut payloads = Vec::new();
        let mut last = ActionId(0);
        for change in changes {
            if after.take(change) {
                payloads.push(readable(change)?);
                last = change.id();
            }
        }
        if payloads.is_empty() {
            return Ok(Written::Nothing);
        }
        self.record(&payloads, after, last)?;
        Ok(Written::Durably)
    }

    /// Writes what it holds once more, which shows whether the disk takes anything.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn prove(&mut self) -> Result<(), JournalError> {
        let (state, next_id) = (self.state.clone(), self.state.next_id);
        self.rewrite(&state, next_id)
    }

    /// Oldest first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.state.entries
    }

    /// Greater than every id that was ever written.
    #[must_use]
    pub fn next_id(&self) -> ActionId {
        self.state.next_id
    }

    /// Goes on with all of this in place of what it holds. Durable when it returns.
    fn replace(&mut self, after: &State) -> Result<(), JournalError> {
        if self.state != *after {
            self.rewrite(after, after.next_id)?;
            self.state.clone_from(after);
        }
        Ok(())
    }

    fn record(&mut self, payloads: &[Vec<u8>], after: State, id: ActionId) -> Result<(), JournalError> {
        let size: usize = payloads.iter().map(|payload| Frame::size(payload.len())).sum();
        match self.tail.take() {
            Some(tail) if tail.end + size <= SLOT_BYTES => {
                match self.append(tail, payloads, after.next_id) {
                    Ok(next) => self.tail = Some(next),
                    // One bad spot must not cost the record: the other file may be sound.
                    Err(failure) => self.rewrite(&after, id).map_err(|_| failure)?,
                }
            }
            full @ Some(_) => {
                if let Err(failure) = self.rewrite(&after, id) {
                    if matches!(failure, JournalError::Full { .. }) {
                        self.tail = full;
                    }
                    return Err(failure);
                }
            }
            None => self.rewrite(&after, id)?,
        }
        self.state = after;
        Ok(())
    }

    fn append(&self, tail: Tail, payloads: &[Vec<u8>], next_id: ActionId) -> Result<Tail, JournalError> {
        let (mut bytes, mut sequence) = (Vec::new(), tail.next_sequence);
        for payload in payloads {
            Frame { generation: self.generation, sequence, next_id, payload }.append_to(&mut bytes);
            sequence += 1;
        }
        self.slots[tail.slot].append(tail.end, &bytes)?;
        Ok(Tail { slot: tail.slot, end: tail.end + bytes.len(), next_sequence: sequence })
    }

    /// Writes all of this state to the spare slot and goes on there.
    fn rewrite(&mut self, state: &State, id: ActionId) -> Result<(), JournalError> {
        // A generation is used once, even if it fails: a half-written one must never look like a later one.
        let generation = self.generation.saturating_add(1);
        let (body, records) = body(state, generation).map_err(|error| unwritable(id, &error))?;
        if BODY + body.len() > SLOT_BYTES {
            let in_force = self.state.entries.len();
            return Err(JournalError::Full { directory: self.directory.clone(), id, in_force });
        }
        self.generation = generation;
        let mut seal = Vec::new();
        Frame { generation, sequence: 0, next_id: state.next_id, payload: &[] }.append_to(&mut seal);
        self.slots[self.spare].rewrite(&body, &seal)?;
        self.tail = Some(Tail { slot: self.spare, end: BODY + body.len(), next_sequence: records + 1 });
        self.spare = 1 - self.spare;
        Ok(())
    }
}

/// A file is not safe before its name is.
fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// All records of a slot's new life, and how many they are.
fn body(state: &State, generation: u32) -> Result<(Vec<u8>, u32), serde_json::Error> {
    let mut bytes = Vec::new();
    let mut sequence = 0;
    for payload in state.payloads()? {
        sequence += 1;
        Frame { generation, sequence, next_id: state.next_id, payload: &payload }.append_to(&mut bytes);
    }
    Ok((bytes, sequence))
}

/// An undo that cannot be read again is none: a share that is no number is written as `null`, and is the only number with a
/// point in a record. Reading it back would tell the same, by code that only a start has use for (build.rs).
fn readable(change: &Change) -> Result<Vec<u8>, JournalError> {
    if let Some(share) = change.share().filter(|share| !share.is_finite()) {
        return Err(JournalError::Unwritable { id: change.id(), why: format!("a share of {share} % cannot be kept") });
    }
    serde_json::to_vec(change).map_err(|error| unwritable(change.id(), &error))
}

fn unwritable(id: ActionId, why: &serde_json::Error) -> JournalError {
    JournalError::Unwritable { id, why: why.to_string() }
}
