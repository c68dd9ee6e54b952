//! Where events are posted to, and which.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place};
use crate::control::service::Service;
use crate::policy::mitigation::Verb;

/// What somebody who is not looking should hear of, unless `events` says otherwise.
pub const USUAL: [&str; 25] = [
    "started",
    "stopping",
    "reload_refused",
    "fallback",
    "journal_damage",
    "journal_failed",
    "journal_works",
    "journal_slow",
    "thread_hangs",
    "mode",
    "stood_down",
    "paused",
    "resumed",
    "undone_by_operator",
    "forgotten",
    "rule_fired",
    "rule_relapsed",
    "rule_cleared",
    "rule_unknown",
    "ladder_exhausted",
    "acted",
    "undone",
    "owed",
    "lost",
    "interfered",
];

/// A receiver of events over plain HTTP.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Webhook {
    pub address: Address,
    /// As the request names it: `relay.internal:8080`.
    pub host: String,
    /// With its query.
    pub path: String,
    /// Names of events, as `/events` has them.
    pub events: Vec<String>,
    /// Whose process must listen where the secret is sent. `None`: root, we, who may make the socket, a system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    /// Goes along as a bearer.
    pub token_file: Option<PathBuf>,
    /// For one request, connecting included.
    pub timeout: Duration,
}

impl Webhook {
    /// As sentences name it, which anybody on the node may read: without the query, where receivers like to have a key.
    pub fn place(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        match &self.address {
            Address::Unix(socket) => format!("{}{path}", socket.display()),
            Address::Tcp(_) => format!("http://{}{path}", self.host),
        }
    }
}

impl Place for Webhook {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Notify]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Doorbell::new(self.clone()))
    }

    fn secret_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.address)
    }

    fn part(&self) -> String {
        format!("{} {}", self.path, self.events.join(", "))
    }
}

impl Kind for Webhook {
    const OFFERS: &'static [Offer] = &[Offer::new(Verb::Notify, Ask::Plain, Rung::Told)];
    const RUNS: &'static [&'static str] = &["http", "client"];

    fn is_same(&self, other: &Self) -> bool {
        self.address.is_same(&other.address) && self.path == other.path
    }

    /// Whoever wants to hear everything twice may.
    fn overlap(&self, _other: &Self) -> Option<Overlap> {
        None
    }
}
