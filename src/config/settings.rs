//! The compiled configuration: the checked values that the daemon runs on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Whose memory, CPU, pressure and tasks are judged.
    pub scope: Scope,
    /// The node's tree of cgroups, where a container is shown it.
    pub cgroup_root: Option<PathBuf>,
    /// Bytes; counts with what the cgroup's files say, the smaller of both.
    pub memory_limit: Option<u64>,
    /// In CPUs, as `memory_limit`.
    pub cpu_limit: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// The container or the pod where we are in one and see more of it than ourselves, else the node.
    #[default]
    Auto,
    Node,
    Container,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Auto, Scope::Node, Scope::Container];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Auto => "auto",
            Scope::Node => "node",
            Scope::Container => "container",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// `None`: no TCP.
    pub listen: Option<SocketAddr>,
    pub socket: PathBuf,
    pub token_file: Option<PathBuf>,
}

pub use crate::control::target::Named as Control;
