//! Where a memcached is and what of it may be lost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::{self, Offer};
use crate::control::place::{Kind, Place, Undeclared};
use crate::control::service::Service;
use crate::control::undo::Change;
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// memcached over its unix socket or TCP.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Memcached {
    pub address: Address,
    /// The operator declares that everything in it can be rebuilt at once: it may be emptied.
    pub cache_only: bool,
}

impl Place for Memcached {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Shrink, Verb::Flush]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Memcached::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.address)
    }

    fn patience(&self, verb: Verb) -> Duration {
        if matches!(verb, Verb::Flush | Verb::Shrink) { super::pages::LONGEST } else { PATIENCE }
    }

    /// Sessions are kept in memcached too: nothing is emptied that nobody called a cache.
    fn undeclared(&self, verb: Verb) -> Option<Undeclared> {
        (verb == Verb::Flush && !self.cache_only).then_some(Undeclared {
            what: "this memcached is not declared to be a cache",
            help: "declare cache_only = true at the control",
        })
    }
}

impl Kind for Memcached {
    const OFFERS: &'static [Offer] = offer::OF_A_CACHE;

    fn is_same(&self, other: &Self) -> bool {
        self.address.is_same(&other.address)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        let found = !self.address.is_missing() && self.is_same(other);
        found.then(|| Overlap { what: "both act on one memcached".to_owned(), help: "make one control of the two" })
    }

    /// One server may be reached in several ways; its pid and start say which one it is.
    fn shares(&self, _other: &Self, _theirs: &Change, _mine: &Change) -> bool {
        true
    }
}
