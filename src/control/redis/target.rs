//! Where a Redis is and what of it may be touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place, Undeclared};
use crate::control::service::Service;
use crate::control::undo::Change;
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// The budgets of `reclaim.rs`, and what is asked before and after: a conversation each.
const LONGEST: Duration = Duration::from_secs(20);

/// Redis over its unix socket or TCP.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Redis {
    pub address: Address,
    pub username: Option<String>,
    /// Whose process must listen where the secret is sent. `None`: root, we, who may make the socket, a system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    pub password_file: Option<PathBuf>,
    /// The operator declares that everything in it can be rebuilt: a full flush is allowed.
    pub cache_only: bool,
    /// Keys that may be flushed where `cache_only` is false, `cache:*`.
    pub flush_pattern: Option<String>,
    /// What all clients together may hold in buffers once `shrink` is asked for.
    #[serde(default)]
    pub client_buffers: Option<u64>,
}

impl Place for Redis {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Release, Verb::Throttle, Verb::Shrink, Verb::Flush]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Redis::new(self.clone()))
    }

    fn secret_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.address)
    }

    fn patience(&self, verb: Verb) -> Duration {
        if matches!(verb, Verb::Flush | Verb::Shrink) { LONGEST } else { PATIENCE }
    }

    /// All writes or none can be paused.
    fn is_all_or_nothing(&self, verb: Verb) -> bool {
        verb == Verb::Throttle
    }

    /// Nothing is flushed that nobody called a cache.
    fn undeclared(&self, verb: Verb) -> Option<Undeclared> {
        let is_kept = !self.cache_only && self.flush_pattern.is_none();
        (verb == Verb::Flush && is_kept).then_some(Undeclared {
            what: "nothing in this Redis is declared to be a cache",
            help: "declare cache_only = true at the control, or flush_pattern = \"cache:*\"",
        })
    }
}

impl Kind for Redis {
    const OFFERS: &'static [Offer] = &[
        Offer::new(Verb::Release, Ask::Plain, Rung::Heap),
        Offer::new(Verb::Shrink, Ask::Keep(75.0), Rung::ShrinkSome),
        Offer::new(Verb::Shrink, Ask::Keep(50.0), Rung::ShrinkHalf),
        Offer::new(Verb::Flush, Ask::Plain, Rung::EmptyCache),
    ];

    fn is_same(&self, other: &Self) -> bool {
        self.address.is_same(&other.address)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        let found = !self.address.is_missing() && self.is_same(other);
        found.then(|| Overlap { what: "both act on one Redis".to_owned(), help: "make one control of the two" })
    }

    /// One server may be reached in several ways; its `run_id` says which one it is.
    fn shares(&self, _other: &Self, _theirs: &Change, _mine: &Change) -> bool {
        true
    }
}
