//! One of the journal's two files: its whole size is written once, so that a disk that is full later stops nothing.
//! Never decides what is in it, and never grows.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::posix_fallocate;

use super::error::JournalError;
use super::place::leads_to_all_of;

/// About 500 entries of a usual 500 bytes; rewritten whole when full, which must stay cheap.
pub const SLOT_BYTES: usize = 256 * 1024;
/// The seal lies twice at the front, each in a page of its own: one bad sector spoils one.
const SEALS: [usize; 2] = [0, 4096];
pub const BODY: usize = 8192;

const ZEROS: [u8; 4096] = [0; 4096];

#[derive(Debug)]
pub struct Slot {
    file: File,
    path: PathBuf,
}

impl Slot {
    /// Creates and fills the file with zeros where it is missing or too short.
    ///
    /// # Errors
    /// When the file cannot be opened, or there is no room for all of it.
    pub fn open(path: PathBuf) -> Result<Self, JournalError> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = opened.map_err(|error| JournalError::io("open", &path, error))?;
        let slot = Self::opened(file, path);
        slot.fill().map_err(|error| JournalError::io("reserve the journal's space in", &slot.path, error))?;
        Ok(slot)
    }

    pub(super) const fn opened(file: File, path: PathBuf) -> Self {
        Self { file, path }
    }

    /// False where its name leads to another file now, or to none, or somebody has cut it off.
    pub fn is_in_place(&self) -> bool {
        leads_to_all_of(&self.path, &self.file, SLOT_BYTES as u64)
    }

    fn fill(&self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length >= SLOT_BYTES as u64 {
            return Ok(());
        }
        match posix_fallocate(&self.file, 0, SLOT_BYTES as i64) {
            // Not every file system can reserve ahead; the zeros do it too.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.clear(usize::try_from(length).unwrap_or(SLOT_BYTES))?;
        self.file.sync_all()
    }

    fn clear(&self, from: usize) -> io::Result<()> {
        for at in (from..SLOT_BYTES).step_by(ZEROS.len()) {
            self.file.write_all_at(&ZEROS[..ZEROS.len().min(SLOT_BYTES - at)], at as u64)?;
        }
        Ok(())
    }

    /// Durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable; what is there then is unknown.
    pub fn append(&self, at: usize, frame: &[u8]) -> Result<(), JournalError> {
        self.durably(|| self.file.write_all_at(frame, at as u64))
    }

    /// Replaces everything. Until the new body is whole and durable, the slot has no seal.
    ///
    /// # Errors
    /// When it could not be made durable; then the slot may hold any part of it.
    pub fn rewrite(&self, body: &[u8], seal: &[u8]) -> Result<(), JournalError> {
        self.durably(|| self.write_seals(&ZEROS[..seal.len()]))?;
        self.durably(|| {
            self.file.write_all_at(body, BODY as u64)?;
            self.clear(BODY + body.len())
        })?;
        self.durably(|| self.write_seals(seal))
    }

    fn write_seals(&self, bytes: &[u8]) -> io::Result<()> {
        SEALS.into_iter().try_for_each(|at| self.file.write_all_at(bytes, at as u64))
    }

    fn durably(&self, write: impl FnOnce() -> io::Result<()>) -> Result<(), JournalError> {
        write().and_then(|()| self.file.sync_data()).map_err(|error| JournalError::io("write", &self.path, error))
    }
}

/// What is in a slot's file; nothing where there is no file.
///
/// # Errors
/// When the file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, JournalError> {
    let whole = || -> io::Result<Vec<u8>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len().min(SLOT_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(SLOT_BYTES)];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    match whole() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome.map_err(|error| JournalError::io("read", path, error)),
    }
}
