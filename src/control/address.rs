//! Where a service is, and what tells it from every other. What the kinds and the plumbing share of a target.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a service listens.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    Unix(PathBuf),
    /// `host:port`, resolved when connecting.
    Tcp(String),
}

impl Address {
    /// Nothing was written, which was complained about.
    #[must_use]
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Address::Unix(path) if path.as_os_str().is_empty())
    }

    #[must_use]
    pub fn is_same(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Unix(mine), Address::Unix(theirs)) => is_same_file(mine, theirs),
            (Address::Tcp(mine), Address::Tcp(theirs)) => mine.eq_ignore_ascii_case(theirs),
            (Address::Unix(_) | Address::Tcp(_), _) => false,
        }
    }
}

impl From<&Address> for Identity {
    fn from(address: &Address) -> Self {
        match address {
            Address::Unix(path) => Self::File(path.clone()),
            Address::Tcp(at) => Self::Tcp(at.clone()),
        }
    }
}

/// Where a service is, as far as that tells it from every other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Identity {
    /// A socket, a fifo, a pid file or a folder, by its path.
    File(PathBuf),
    /// `host:port`
    Tcp(String),
    /// A control group, by its path.
    Group(String),
}

/// A complaint about two controls, and what to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overlap {
    pub what: String,
    pub help: &'static str,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", real(path).display()),
            Self::Tcp(at) => f.write_str(&at.to_ascii_lowercase()),
            Self::Group(path) => write!(f, "cgroup {}", path.trim_matches('/')),
        }
    }
}

/// Also where two mounts lead to it.
#[must_use]
pub(crate) fn is_same_file(mine: &Path, theirs: &Path) -> bool {
    let inode = |path: &Path| path.metadata().ok().map(|found| (found.dev(), found.ino()));
    mine == theirs || real(mine) == real(theirs) || inode(mine).is_some_and(|mine| Some(mine) == inode(theirs))
}

/// The folder counts where the file is not there now, so that it has one name before and after.
fn real(path: &Path) -> PathBuf {
    let in_folder = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(in_folder).unwrap_or_else(|| path.to_owned())
}
