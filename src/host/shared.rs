//! What the slow thread hands to the sampler, which never waits here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::facts::Facts;
use super::found::{Mount, Port, Speed};
use super::fuse::Fuse;
use super::idle;
use super::idle_tasks;
use super::slot::{Reading, Slot};
use super::wanted::Wanted;
use crate::status::BlindSpot;

/// Everything that the slow thread finds out.
#[derive(Debug, Default)]
pub struct Shared {
    /// In the order of their names.
    pub mounts: Slot<Vec<Arc<Mount>>>,
    /// In ascending order.
    pub ports: Slot<Vec<Arc<Port>>>,
    pub speeds: Slot<Vec<Speed>>,
    pub facts: Slot<Facts>,
    pub fuse: Slot<Fuse>,
    pub blind: Slot<Vec<BlindSpot>>,
    pub processes: Reading,
    /// The smaller of pid_max and threads-max.
    pub task_limit: Reading,
    pub conntrack_limit: Reading,
    /// From the sampler: which ports rules ask about, and how often somebody looks at what.
    pub ports_wanted: Slot<Wanted>,
    pub space_every: Pace,
    pub ports_every: Pace,
    pub idle_groups: Slot<Vec<Arc<idle::Group>>>,
    pub idle_tasks: Slot<Vec<Arc<idle_tasks::Task>>>,
    /// From the sampler: CPUs have work, so that it matters whose it is.
    pub is_busy: AtomicBool,
    /// When ports were looked at last, by the slow thread's clock.
    pub ports_read_ms: AtomicU64,
}

/// How often something is to be found out: once a second, or as often as the loop looks.
#[derive(Debug)]
pub struct Pace(AtomicU64);

/// A disk fills at a few GB/s at most, so a second is soon enough where nothing is amiss.
const CALM: Duration = Duration::from_secs(1);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Pace {
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed)).min(CALM)
    }

    /// Somebody looks closely.
    #[must_use]
    pub fn is_in_need(&self) -> bool {
        self.0.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether it is shorter now. `None` is the calm one.
    pub fn set(&self, every: Option<Duration>) -> bool {
        let every = every.map_or(u64::MAX, |every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        self.0.swap(every, Ordering::Relaxed) > every
    }
}
