//! Why the journal refused, in words that say what to do next. Never hides the system's own reason.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::policy::mitigation::ActionId;

#[derive(Debug)]
pub enum JournalError {
    /// Another guardian has this directory.
    Held { directory: PathBuf, pid: Option<u32> },
    /// Who had it was killed, does nothing any more, and cannot end before its disk answers.
    Ending { directory: PathBuf, pid: u32 },
    /// Others may have put there what is in it, or use it too.
    NotOurs { directory: PathBuf, why: String },
    /// What is in the directory that was used before is not known, or not written down in this one.
    Former { directory: PathBuf, why: String },
    /// The system refused to read or write.
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    /// What is in force does not fit, together with this entry.
    Full { directory: PathBuf, id: ActionId, in_force: usize },
    /// The entry could not be read back from what would be written.
    Unwritable { id: ActionId, why: String },
    /// It could not be opened at start.
    Absent { why: String },
}

impl JournalError {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.to_owned(), source }
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { directory, pid } => {
                write!(f, "the journal in {} is held by another guardian", directory.display())?;
                match pid {
                    Some(pid) => write!(f, ", process {pid}: stop that one first, or set another state directory"),
                    None => f.write_str(": stop that one first, or set another state directory"),
                }
            }
            Self::Ending { directory, pid } => write!(
                f,
                "process {pid} was killed, and still holds {} until its disk answers; look at `dmesg`",
                directory.display()
            ),
            Self::NotOurs { directory, why } => write!(
                f,
                "{} cannot be the state directory: {why}; set state_directory to a directory of the guardian's own, \
                 which \
                 it makes where it is missing",
                directory.display()
            ),
            Self::Former { directory, why } => {
                write!(
                    f,
                    "the state before the last start is in {}, and cannot be taken over: {why}",
                    directory.display()
                )
            }
            Self::Io { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}; {}", path.display(), advice(source))
            }
            Self::Full { directory, id, in_force } => write!(
                f,
                "the journal in {} has no room for action {id} beside the {in_force} in force; undo some of them \
                 with `node-guardian undo`",
                directory.display()
            ),
            Self::Absent { why } => write!(f, "there is no journal: {why}"),
            Self::Unwritable { id, why } => {
                write!(f, "action {id} cannot be written so that it can be read again: {why}; this is a bug, report it")
            }
        }
    }
}

impl Error for JournalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Held { .. }
            | Self::Ending { .. }
            | Self::NotOurs { .. }
            | Self::Former { .. }
            | Self::Full { .. }
            | Self::Unwritable { .. }
            | Self::Absent { .. } => None,
        }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOSPC | Errno::EDQUOT) => {
            "free half a megabyte there, or set another state directory: only the first start needs the room"
        }
        Some(Errno::EACCES | Errno::EPERM) => {
            "run as the user that owns it, or set a state directory that this user may write"
        }
        Some(Errno::EROFS) => "set a state directory on a file system that can be written",
        Some(Errno::EFBIG) => "raise this process's file size limit (LimitFSIZE=) above a megabyte",
        Some(Errno::EIO) => "the disk fails; look at `dmesg`, and set a state directory on another one",
        Some(Errno::ENOTDIR | Errno::EEXIST) => "something else is in its place: move it away",
        _ => "look at the path and its file system",
    }
}
