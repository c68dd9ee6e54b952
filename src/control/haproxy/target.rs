//! Where a HAProxy is and what of it may be touched.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::address::{Identity, Overlap, is_same_file};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place};
use crate::control::service::Service;
use crate::control::undo::Change;
use crate::policy::mitigation::Verb;

/// HAProxy through its runtime socket.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Haproxy {
    pub socket: PathBuf,
    /// Frontends to shed at. Empty: all of them.
    pub frontends: Vec<String>,
    /// Backends whose servers are throttled or drained. Empty: all of them, or the process where none has a limit.
    pub backends: Vec<String>,
    /// Stick table that holds the shed leases.
    pub lease_table: String,
    /// Map that holds the shares to shed where there is no such table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<String>,
    /// New connections a second that are normal for the whole process: a throttle leaves its share of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_rate: Option<u32>,
    /// Throttle `frontends` by their own `maxconn`.
    #[serde(default)]
    pub frontend_maxconn: bool,
}

impl Haproxy {
    /// Where not, every server that has a limit is throttled, or the process where none has.
    #[must_use]
    pub fn says_what_to_throttle(&self) -> bool {
        !self.backends.is_empty() || self.connection_rate.is_some() || self.frontend_maxconn
    }
}

impl Place for Haproxy {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Throttle, Verb::Shed, Verb::Drain]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Haproxy::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        Identity::File(self.socket.clone())
    }

    fn part(&self) -> String {
        self.frontends.iter().chain(&self.backends).map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl Kind for Haproxy {
    const OFFERS: &'static [Offer] = &[
        Offer::new(Verb::Throttle, Ask::Keep(75.0), Rung::QueueSome),
        Offer::new(Verb::Throttle, Ask::Keep(50.0), Rung::QueueHalf),
        Offer::new(Verb::Shed, Ask::Keep(90.0), Rung::RefuseTenth),
        Offer::new(Verb::Shed, Ask::Keep(75.0), Rung::RefuseQuarter),
        Offer::new(Verb::Shed, Ask::Keep(50.0), Rung::RefuseHalf),
        Offer::new(Verb::Throttle, Ask::Keep(25.0), Rung::QueueMost),
    ];

    fn is_same(&self, other: &Self) -> bool {
        is_same_file(&self.socket, &other.socket)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        if self.socket.as_os_str().is_empty() || !self.is_same(other) {
            return None;
        }
        if self.connection_rate.is_some() && other.connection_rate.is_some() {
            let what = "both limit the new connections of one HAProxy".to_owned();
            return Some(Overlap { what, help: "leave `connection_rate` to one of them" });
        }
        let what = match (self.backends.is_empty(), other.backends.is_empty()) {
            (true, true) => "both act on all backends of one HAProxy".to_owned(),
            (true, false) | (false, true) => "overlap: one acts on all backends of the same HAProxy".to_owned(),
            (false, false) => {
                let both = self.backends.iter().find(|backend| other.backends.contains(backend))?;
                format!("both act on backend `{both}` of one HAProxy")
            }
        };
        Some(Overlap { what, help: "give each its own `backends`, or make one control of the two" })
    }

    /// The name of its life may be another's in another container, but hardly its value.
    fn shares(&self, other: &Self, theirs: &Change, mine: &Change) -> bool {
        self.is_same(other) || theirs.ours.contains(&mine.prior)
    }
}
