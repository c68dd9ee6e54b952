//! What the handlers share: the board and the trail to read, the inbox to tell, and what was rendered for this tick.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use metrics::Counter;

use super::gate::Via;
use super::health;
use crate::clock;
use crate::events::Log;
use crate::inbox::Door;
use crate::policy::moment::Moment;
use crate::status::{Board, Snapshot};
use crate::telemetry::{Telemetry, name};

/// A loop that is this late is stuck, whatever its pace.
const LATE_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Site {
    board: Arc<Board>,
    pub log: Arc<Log>,
    pub telemetry: Arc<Telemetry>,
    pub door: Door,
    pub tallies: Tallies,
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    health: Mutex<Option<Health>>,
}

/// Which publication something was rendered from.
pub type Stamp = (u64, Moment);

#[derive(Clone, Debug)]
pub struct Health {
    stamp: Stamp,
    pub status: StatusCode,
    pub body: Bytes,
}

/// How the loop does, as seen from outside.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pulse {
    pub stamp: Stamp,
    pub age: Duration,
    pub limit: Duration,
}

impl Pulse {
    #[must_use]
    pub fn late(&self) -> bool {
        self.age > self.limit
    }
}

impl Site {
    #[must_use]
    pub fn new(board: Arc<Board>, log: Arc<Log>, telemetry: Arc<Telemetry>, door: Door) -> Self {
        let tallies = Tallies::register(&telemetry);
        Self { board, log, telemetry, door, tallies, snapshot: Mutex::default(), health: Mutex::default() }
    }

    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let (stamp, pace) = self.board.read(|snapshot| ((snapshot.tick, snapshot.at), snapshot.pace));
        Pulse { stamp, age: clock::now().since(stamp.1), limit: LATE_AFTER.max(pace.saturating_mul(3)) }
    }

    /// Copied once per publication, however many ask.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        let mut kept = lock(&self.snapshot);
        let fresh = self.board.read(|board| match &*kept {
            Some(known) if (known.tick, known.at) == (board.tick, board.at) => None,
            Some(_) | None => Some(board.clone()),
        });
        match (fresh, &*kept) {
            (None, Some(known)) => Arc::clone(known),
            (fresh, _) => {
                let fresh = Arc::new(fresh.unwrap_or_else(|| self.board.read(Snapshot::clone)));
                *kept = Some(Arc::clone(&fresh));
                fresh
            }
        }
    }

    /// Rendered once per publication; a late loop is told afresh each time.
    #[must_use]
    pub fn health(&self) -> Health {
        let pulse = self.pulse();
        let mut kept = lock(&self.health);
        if let Some(known) = &*kept
            && known.stamp == pulse.stamp
            && !pulse.late()
        {
            return known.clone();
        }
        let (status, body) = health::render(&self.snapshot(), &pulse);
        let health = Health { stamp: pulse.stamp, status, body: body.into() };
        *kept = (!pulse.late()).then(|| health.clone());
        health
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registered once, so that counting a request is one addition.
#[derive(Debug)]
pub struct Tallies {
    pub turned_away: Counter,
    admin: [Counter; 3],
    tcp: [Counter; 3],
}

impl Tallies {
    fn register(telemetry: &Telemetry) -> Self {
        metrics::with_local_recorder(telemetry, || {
            let by_class = |via: &'static str| {
                ["2xx", "4xx", "5xx"]
                    .map(|class| metrics::counter!(name::HTTP_REQUESTS, "via" => via, "class" => class))
            };
            let turned_away = metrics::counter!(name::HTTP_TURNED_AWAY);
            Self { turned_away, admin: by_class("admin"), tcp: by_class("tcp") }
        })
    }

    pub fn answered(&self, via: &Via, status: StatusCode) {
        let class = if status.is_server_error() { 2 } else { usize::from(status.is_client_error()) };
        match via {
            Via::Admin(_) => self.admin[class].increment(1),
            Via::Tcp => self.tcp[class].increment(1),
        }
    }
}
