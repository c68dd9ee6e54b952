//! The state that the records describe: the entries in force and the next free id. Pure; keeps what it cannot read.

use serde::{Deserialize, Serialize};

use super::Entry;
use super::record::Frame;
use crate::policy::mitigation::ActionId;

/// What one record says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// This is, or may be, in force; in place of what was said of the same action before.
    Write(Box<Entry>),
    /// It is verified gone.
    Close(ActionId),
}

impl Change {
    #[must_use]
    pub const fn id(&self) -> ActionId {
        match self {
            Change::Write(entry) => entry.id,
            Change::Close(id) => *id,
        }
    }

    /// Of what is let through, in percent.
    pub(super) fn share(&self) -> Option<f64> {
        match self {
            Change::Write(entry) => entry.mitigation.amount.kept_percent(),
            Change::Close(_) => None,
        }
    }
}

/// `Change::Write` of what is not ours to give away.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Kept<'a> {
    Write(&'a Entry),
}

/// As much of an entry as any version has.
#[derive(Deserialize)]
struct Foreign {
    write: Identified,
}

#[derive(Deserialize)]
struct Identified {
    id: ActionId,
}

#[derive(Clone, PartialEq, Debug)]
pub struct State {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// Entries that another version wrote: kept verbatim, for that version to undo.
    pub foreign: Vec<(ActionId, Vec<u8>)>,
    pub next_id: ActionId,
}

impl Default for State {
    fn default() -> Self {
        Self { entries: Vec::new(), foreign: Vec::new(), next_id: ActionId(1) }
    }
}

impl State {
    /// False where that says nothing new.
    pub fn take(&mut self, change: &Change) -> bool {
        match change {
            Change::Write(entry) => self.write((**entry).clone()),
            Change::Close(id) => return self.close(*id),
        }
        true
    }

    fn write(&mut self, entry: Entry) {
        self.raise(entry.id);
        self.foreign.retain(|(id, _)| *id != entry.id);
        match self.entries.iter_mut().find(|known| known.id == entry.id) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
    }

    fn close(&mut self, id: ActionId) -> bool {
        let known = self.entries.len() + self.foreign.len();
        self.entries.retain(|entry| entry.id != id);
        self.foreign.retain(|(foreign, _)| *foreign != id);
        self.entries.len() + self.foreign.len() < known
    }

    fn raise(&mut self, used: ActionId) {
        self.next_id = self.next_id.max(ActionId(used.0.saturating_add(1)));
    }

    /// False where nothing at all could be made of the record.
    pub fn replay(&mut self, frame: &Frame) -> bool {
        self.next_id = self.next_id.max(frame.next_id);
        match serde_json::from_slice(frame.payload) {
            Ok(change) => self.take(&change),
            Err(_) => return self.keep(frame.payload),
        };
        true
    }

    fn keep(&mut self, payload: &[u8]) -> bool {
        let Ok(Foreign { write: Identified { id } }) = serde_json::from_slice(payload) else { return false };
        self.close(id);
        self.raise(id);
        self.foreign.push((id, payload.to_vec()));
        true
    }

    /// Of all that is in force or may be, also by another version.
    #[must_use]
    pub fn ids(&self) -> Vec<ActionId> {
        self.foreign.iter().map(|(id, _)| *id).chain(self.entries.iter().map(|entry| entry.id)).collect()
    }

    /// Everything that must survive, as payloads of records.
    ///
    /// # Errors
    /// When an entry has no representation.
    pub fn payloads(&self) -> Result<Vec<Vec<u8>>, serde_json::Error> {
        let foreign = self.foreign.iter().map(|(_, payload)| Ok(payload.clone()));
        foreign.chain(self.entries.iter().map(|entry| serde_json::to_vec(&Kept::Write(entry)))).collect()
    }
}
