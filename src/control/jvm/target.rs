//! Where a JVM is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Identity, Overlap};
use crate::control::process::locate::Locator;
use crate::control::service::Service;
use crate::control::target::{Place, Target};
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// A Java virtual machine, by its attach socket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Jvm {
    pub locator: Locator,
}

impl Place for Jvm {
    fn kind(&self) -> &'static str {
        "jvm"
    }

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

    fn is_same(&self, other: &Target) -> bool {
        matches!(other, Target::Jvm(theirs) if self.locator.is_same(&theirs.locator))
    }

    fn overlap(&self, other: &Target) -> Option<Overlap> {
        let what = || "both act on one JVM".to_owned();
        self.is_same(other).then(|| Overlap { what: what(), help: "make one control of the two" })
    }
}
