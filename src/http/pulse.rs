//! Whether the loop ticks.

use std::time::Duration;

use crate::clock;
use crate::status::Snapshot;

/// A loop that is this late is stuck, whatever its pace.
const LATE_AFTER: Duration = Duration::from_secs(5);

/// How the loop does, as seen from outside.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pulse {
    pub age: Duration,
    pub limit: Duration,
}

impl Pulse {
    /// Where no clock can be read, nothing is late.
    pub fn of(snapshot: &Snapshot) -> Self {
        let age = clock::now().map_or(Duration::ZERO, |now| now.since(snapshot.at));
        Self { age, limit: LATE_AFTER.max(snapshot.pace.saturating_mul(3)) }
    }

    #[must_use]
    pub fn late(&self) -> bool {
        self.age > self.limit
    }
}
