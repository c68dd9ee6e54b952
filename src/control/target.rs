//! Where a control is and what it may touch: everything needed to reach it, so that the journal can undo a change even
//! after the control has left the configuration. Secrets are named by file, never held here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::policy::mitigation::Verb;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    Haproxy(Haproxy),
    Redis(Redis),
}

/// HAProxy through its runtime socket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Haproxy {
    pub socket: PathBuf,
    /// Frontends to throttle or shed at. Empty: the whole process.
    pub frontends: Vec<String>,
    /// Backends whose servers are throttled or drained. Empty: all of them, or the process where none has a limit.
    pub backends: Vec<String>,
    /// Stick table that holds the shed leases (research: actuators §3.1).
    pub lease_table: String,
}

/// Redis over its unix socket or TCP.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Redis {
    pub address: Address,
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    /// The operator declares that everything in it can be rebuilt: a full flush is allowed.
    pub cache_only: bool,
    /// Keys that may be flushed where `cache_only` is false, `cache:*`.
    pub flush_pattern: Option<String>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Address {
    Unix(PathBuf),
    /// `host:port`, resolved when connecting.
    Tcp(String),
}

impl Target {
    /// Whether both lead to one server, as far as can be told from how they are written.
    #[must_use]
    pub fn is_same_place(&self, other: &Target) -> bool {
        match (self, other) {
            (Target::Haproxy(mine), Target::Haproxy(theirs)) => is_same_file(&mine.socket, &theirs.socket),
            (Target::Redis(mine), Target::Redis(theirs)) => match (&mine.address, &theirs.address) {
                (Address::Unix(mine), Address::Unix(theirs)) => is_same_file(mine, theirs),
                (Address::Tcp(mine), Address::Tcp(theirs)) => mine.eq_ignore_ascii_case(theirs),
                (Address::Unix(_) | Address::Tcp(_), _) => false,
            },
            (Target::Haproxy(_) | Target::Redis(_), _) => false,
        }
    }

    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Target::Haproxy(_) => "haproxy",
            Target::Redis(_) => "redis",
        }
    }

    /// What this kind of control can be asked to do at all.
    #[must_use]
    pub const fn verbs(&self) -> &'static [Verb] {
        match self {
            Target::Haproxy(_) => &[Verb::Throttle, Verb::Shed, Verb::Drain],
            Target::Redis(_) => &[Verb::Release, Verb::Throttle, Verb::Shrink, Verb::Flush],
        }
    }
}

fn is_same_file(mine: &Path, theirs: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    mine == theirs || real(mine) == real(theirs)
}
