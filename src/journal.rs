//! What is in force, written ahead: nothing is changed before its undo is durable here, and nothing is forgotten before
//! it is verified gone. A torn or corrupt tail loses at most the record being written.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::control::target::Target;
use crate::control::undo::Undo;
use crate::policy::mitigation::{ActionId, Mitigation};

/// One mitigation that is in force or may be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    pub id: ActionId,
    pub mitigation: Mitigation,
    pub rule: Arc<str>,
    pub target: Target,
    pub undo: Undo,
    pub since_unix_ms: u64,
}

#[derive(Debug)]
pub struct JournalError(pub String);

/// Holds the lock on the directory: one guardian per journal.
#[derive(Debug)]
pub struct Journal;

#[derive(Debug)]
pub struct Opened {
    pub journal: Journal,
    /// What a crash cost, if anything: told once to the operator.
    pub damage: Option<String>,
}

impl Journal {
    /// Creates the directory and preallocates the files, so that a full disk later stops nothing.
    ///
    /// # Errors
    /// When the directory cannot be written, or another guardian holds it.
    pub fn open(directory: &Path) -> Result<Opened, JournalError> {
        Err(JournalError(format!("not yet: {}", directory.display())))
    }

    /// Records an intent, or replaces the entry of the same id. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable: then the change must not be made.
    pub fn write(&mut self, entry: &Entry) -> Result<(), JournalError> {
        Err(JournalError(entry.id.to_string()))
    }

    /// The mitigation is verified gone. Durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable: the entry stays.
    pub fn close(&mut self, id: ActionId) -> Result<(), JournalError> {
        Err(JournalError(id.to_string()))
    }

    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &[]
    }

    /// Greater than every id that was ever written.
    #[must_use]
    pub fn next_id(&self) -> ActionId {
        ActionId(1)
    }
}
