//! The snapshot that everyone else reads: the loop copies it out after each tick, HTTP renders it. The loop never waits
//! for a reader: if one is just copying, this tick is published with the next one.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::Footing;
use crate::drill::DrillView;
use crate::policy::mitigation::Outcome;
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;
use crate::policy::view::View;

/// What the node is and has; read once a minute at most.
pub use crate::host::facts::Facts;

#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Ticks since start; 0 before the first one.
    pub tick: u64,
    pub at: Moment,
    pub unix_ms: u64,
    pub started: Moment,
    /// The pace now: how long until the next tick if nothing wakes the loop.
    pub pace: Duration,
    pub sample: Sample,
    pub view: View,
    pub plan: Arc<Plan>,
    pub facts: Arc<Facts>,
    pub blind_spots: Arc<Vec<BlindSpot>>,
    /// Which of the guardian's own threads hangs or has ended: it should be started again.
    pub hanging: Option<Arc<str>>,
    pub controls: Arc<Vec<ControlView>>,
    /// Why nothing can be written down to be undone after a crash, so that nothing new stays in force; `None`: it can.
    pub unrecordable: Option<Arc<str>>,
    /// Why nobody knows what an operator ordered before the start, so that nothing is done that cannot be undone.
    pub unread_orders: Option<Arc<str>>,
    /// The last one, or the one that is under way.
    pub drill: Arc<Option<DrillView>>,
    pub configuration: Arc<Configuration>,
}

/// Which configuration is guarded by, and what is wrong with the one that should be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    pub footing: Footing,
    /// Why the newest was not taken; `None` where it was.
    pub refused: Option<String>,
    /// Another state directory than the one that is used.
    pub next_directory: Option<PathBuf>,
}

/// Something that this kernel, container or privilege does not let us see or do.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct BlindSpot {
    /// `/proc/pressure/memory`
    pub what: String,
    /// The reason, and what to do about it.
    pub why: String,
}

/// The state of a control, by what came of the last thing that was asked of it. What of it is in force, the actions say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlState {
    /// It obeys.
    Usable,
    Failed(Outcome),
}

impl ControlState {
    #[must_use]
    pub(crate) const fn after(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Applied | Outcome::Already => Self::Usable,
            failed => Self::Failed(failed),
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Failed(outcome) => outcome.name(),
        }
    }

    #[must_use]
    pub(crate) const fn is_usable(self) -> bool {
        matches!(self, Self::Usable)
    }

    /// Nobody answered.
    #[must_use]
    pub(crate) const fn is_away(self) -> bool {
        matches!(self, Self::Failed(Outcome::Unreachable | Outcome::TimedOut))
    }
}

impl fmt::Display for ControlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for ControlState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What is known about a control since it was last asked.
#[derive(Clone, PartialEq, Debug, serde::Serialize)]
pub struct ControlView {
    pub name: Arc<str>,
    pub kind: &'static str,
    pub state: ControlState,
    pub detail: Arc<str>,
    pub checked_unix_ms: u64,
}

#[derive(Debug)]
pub struct Board {
    snapshot: Mutex<Snapshot>,
    revision: AtomicU64,
}

impl Board {
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self { snapshot: Mutex::new(first), revision: AtomicU64::new(0) }
    }

    /// Updates the snapshot in place unless a reader holds it this very moment.
    pub fn publish(&self, update: impl FnOnce(&mut Snapshot)) {
        if let Ok(mut snapshot) = self.snapshot.try_lock() {
            update(&mut snapshot);
            self.revision.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits for a reader, because this must not be missed; the views are emptied, since they are of the old plan.
    pub(crate) fn replace_plan(&self, plan: Arc<Plan>) {
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.plan = plan;
        snapshot.view = View::default();
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// Changes with every publication, so that whoever has rendered the last one need not look again.
    #[must_use]
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Keep it short: copy out what is needed and render afterwards.
    pub fn read<R>(&self, look: impl FnOnce(&Snapshot) -> R) -> R {
        look(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
