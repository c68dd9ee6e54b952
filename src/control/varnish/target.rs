//! Where a Varnish is and how far one may go.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::{self, Offer};
use crate::control::place::{Kind, Place};
use crate::control::service::Service;
use crate::control::undo::Change;
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// The longest budget of `reclaim.rs`, and what is asked before and after: a conversation each.
const LONGEST: Duration = Duration::from_secs(20);

/// Varnish through its command line, `-T`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Varnish {
    pub address: Address,
    /// Whose process must listen where the secret is sent. `None`: root, we, who may make the socket, a system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    /// `-S`; none where Varnish was started without.
    pub secret_file: Option<PathBuf>,
    /// `flush` restarts the child: all memory at once, and nobody is served for a moment.
    pub restart_to_free: bool,
}

impl Place for Varnish {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Shrink, Verb::Flush]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Varnish::new(self.clone()))
    }

    fn secret_file(&self) -> Option<&Path> {
        self.secret_file.as_deref()
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.address)
    }

    fn patience(&self, verb: Verb) -> Duration {
        if matches!(verb, Verb::Flush | Verb::Shrink) { LONGEST } else { PATIENCE }
    }
}

impl Kind for Varnish {
    const OFFERS: &'static [Offer] = offer::OF_A_CACHE;

    fn is_same(&self, other: &Self) -> bool {
        self.address.is_same(&other.address)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        let found = !self.address.is_missing() && self.is_same(other);
        found.then(|| Overlap { what: "both act on one Varnish".to_owned(), help: "make one control of the two" })
    }

    /// The name of its life may be another's in another container, but hardly its value.
    fn shares(&self, other: &Self, theirs: &Change, mine: &Change) -> bool {
        self.is_same(other) || theirs.ours.contains(&mine.prior)
    }
}
