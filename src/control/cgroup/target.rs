//! Where a cgroup is and what may be done to it.

use serde::{Deserialize, Serialize};

use crate::control::address::{Identity, Overlap};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place, Undeclared};
use crate::control::service::Service;
use crate::control::undo::Change;
use crate::policy::mitigation::Verb;

/// A cgroup of version 2, with whatever runs in it and below it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cgroup {
    /// Below the root of the tree, without a slash at either end.
    pub path: String,
    /// `memory.high` is never set below this.
    pub floor_bytes: u64,
    /// The operator declares that the node can do without it: it may be frozen.
    pub sacrificial: bool,
}

impl Place for Cgroup {
    fn verbs(&self) -> &[Verb] {
        &[Verb::Throttle, Verb::Shrink, Verb::Freeze]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Cgroup::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        Identity::Group(self.path.clone())
    }

    fn undeclared(&self, verb: Verb) -> Option<Undeclared> {
        (verb == Verb::Freeze && !self.sacrificial).then_some(Undeclared {
            what: "this cgroup is not declared to be one that the node can do without",
            help: "declare sacrificial = true at the control",
        })
    }

    fn is_sacrificial(&self) -> bool {
        self.sacrificial
    }
}

impl Kind for Cgroup {
    const OFFERS: &'static [Offer] = &[
        Offer::new(Verb::Throttle, Ask::Sacrifice, Rung::SlowBatch),
        Offer::new(Verb::Freeze, Ask::Plain, Rung::StopBatch),
    ];

    fn is_same(&self, other: &Self) -> bool {
        self.path == other.path
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        // Without a path, that was complained about.
        let found = !self.path.is_empty() && self.is_same(other);
        found.then(|| Overlap { what: "both act on one cgroup".to_owned(), help: "make one control of the two" })
    }

    /// The epoch names the directory, wherever it is mounted.
    fn shares(&self, _other: &Self, _theirs: &Change, _mine: &Change) -> bool {
        true
    }
}
