//! What a configuration comes to: the values that the daemon runs on, all of them checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::control::target::Target;
use crate::policy::rule::Policy;

#[derive(Clone, Debug)]
pub struct Settings {
    pub sampling: Sampling,
    pub http: Http,
    pub policy: Policy,
    /// In name order.
    pub controls: Vec<Control>,
    /// Where the journal lives.
    pub state_directory: PathBuf,
    /// The files that this was read from, in order; empty for built-in defaults.
    pub sources: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Pace when calm.
    pub interval: Duration,
    /// Fastest pace.
    pub fast_interval: Duration,
    /// `None`: every local file system backed by a device.
    pub mounts: Option<Vec<PathBuf>>,
    pub proc_root: PathBuf,
    pub sys_root: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `None`: no TCP.
    pub listen: Option<SocketAddr>,
    pub socket: PathBuf,
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    pub name: Arc<str>,
    pub target: Target,
}
