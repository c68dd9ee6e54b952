//! What the handlers share: the board and the trail to read, the inbox to tell, and what was rendered for this tick.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hyper::StatusCode;
use metrics::Counter;

use super::answer::Version;
use super::health;
use super::pulse::Pulse;
use super::rendered::{Page, Rendered};
use super::scans::Scans;
use super::via::Via;
use crate::events::Log;
use crate::inbox::Door;
use crate::status::{Board, Snapshot};
use crate::telemetry::{Telemetry, name};

#[derive(Debug)]
pub struct Site {
    board: Arc<Board>,
    pub log: Arc<Log>,
    pub telemetry: Arc<Telemetry>,
    pub door: Door,
    pub tallies: Tallies,
    published: Mutex<Option<Published>>,
    health: Mutex<Option<Health>>,
    rendered: Mutex<Rendered>,
    pub scans: Scans,
}

/// What the loop published last, copied once however many ask.
#[derive(Clone, Debug)]
pub struct Published {
    pub revision: u64,
    pub snapshot: Arc<Snapshot>,
}

impl Published {
    #[must_use]
    pub fn version(&self) -> Version {
        let started = self.snapshot.started.since_origin().as_millis();
        Version { started: u64::try_from(started).unwrap_or_default(), revision: self.revision, event: 0 }
    }
}

#[derive(Clone, Debug)]
pub struct Health {
    revision: u64,
    pub status: StatusCode,
    pub body: Bytes,
}

impl Site {
    #[must_use]
    pub fn new(board: Arc<Board>, log: Arc<Log>, telemetry: Arc<Telemetry>, door: Door) -> Self {
        let tallies = Tallies::register(&telemetry);
        Self {
            board,
            log,
            telemetry,
            door,
            tallies,
            published: Mutex::default(),
            health: Mutex::default(),
            rendered: Mutex::default(),
            scans: Scans::default(),
        }
    }

    /// Takes the board's lock only where there is something new.
    #[must_use]
    pub fn published(&self) -> Published {
        let mut kept = lock(&self.published);
        match &*kept {
            Some(known) if known.revision == self.board.revision() => known.clone(),
            Some(_) | None => {
                let copy = |snapshot: &Snapshot| (self.board.revision(), Arc::new(snapshot.clone()));
                let (revision, snapshot) = self.board.read(copy);
                kept.insert(Published { revision, snapshot }).clone()
            }
        }
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published().snapshot
    }

    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::of(&self.snapshot())
    }

    /// Made once per publication, of what was published.
    ///
    /// # Errors
    /// That of making it.
    pub fn page<E>(
        &self,
        published: &Published,
        page: Page,
        make: impl FnOnce(&Snapshot) -> Result<String, E>,
    ) -> Result<Bytes, E> {
        lock(&self.rendered).page(published.revision, page, || make(&published.snapshot))
    }

    /// Rendered once per publication; a late loop is told afresh each time.
    #[must_use]
    pub fn health(&self) -> Health {
        let Published { revision, snapshot } = self.published();
        let pulse = Pulse::of(&snapshot);
        let mut kept = lock(&self.health);
        match &*kept {
            Some(known) if known.revision == revision && !pulse.late() => known.clone(),
            Some(_) | None => {
                let (status, body) = health::render(&snapshot, &pulse);
                let health = Health { revision, status, body: body.into() };
                *kept = (!pulse.late()).then(|| health.clone());
                health
            }
        }
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
            Via::Tcp(_) => self.tcp[class].increment(1),
        }
    }
}
