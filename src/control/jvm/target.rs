//! Where a JVM is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Identity, Overlap};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place};
use crate::control::process::locate::Locator;
use crate::control::service::Service;
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// A Java virtual machine, by its attach socket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Jvm {
    pub locator: Locator,
}

impl Place for Jvm {
    fn verbs(&self) -> &[Verb] {
        &[Verb::Release]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Jvm::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.locator)
    }

    fn patience(&self, verb: Verb) -> Duration {
        if verb == Verb::Release { super::LONGEST } else { PATIENCE }
    }
}

impl Kind for Jvm {
    const OFFERS: &'static [Offer] = &[Offer::new(Verb::Release, Ask::Plain, Rung::Heap)];
    const RUNS: &'static [&'static str] = &["process"];

    fn is_same(&self, other: &Self) -> bool {
        self.locator.is_same(&other.locator)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        let what = || "both act on one JVM".to_owned();
        self.is_same(other).then(|| Overlap { what: what(), help: "make one control of the two" })
    }
}
