//! Where a process is and what may be done to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::locate::Locator;
use super::{family, group};
use crate::control::address::{Identity, Overlap};
use crate::control::service::Service;
use crate::control::target::{Place, Target};
use crate::control::undo::{Change, Undo};
use crate::policy::mitigation::Verb;
use crate::policy::rule::PATIENCE;

/// A process and what descends from it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Process {
    pub locator: Locator,
    pub workers: Option<Pool>,
    /// A throttle also makes its disk requests wait for everybody else's.
    pub idle_io: bool,
    /// The operator declares that the node can do without it: it may be frozen and terminated.
    pub sacrificial: bool,
    /// After SIGTERM, SIGKILL.
    pub kill_after_seconds: Option<u64>,
}

/// A master that takes signals to have fewer or more workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    Gunicorn,
}

impl Pool {
    pub const ALL: [Pool; 1] = [Pool::Gunicorn];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Pool::Gunicorn => "gunicorn",
        }
    }
}

impl Place for Process {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn verbs(&self) -> &[Verb] {
        &[Verb::Throttle, Verb::Freeze, Verb::Terminate]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Process::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.locator)
    }

    fn patience(&self, verb: Verb) -> Duration {
        if verb == Verb::Terminate {
            super::terminate::patience(self.kill_after_seconds)
        } else if verb == Verb::Throttle && self.workers.is_some() {
            super::workers::PATIENCE
        } else {
            PATIENCE
        }
    }

    fn is_same(&self, other: &Target) -> bool {
        matches!(other, Target::Process(theirs) if self.locator.is_same(&theirs.locator))
    }

    fn overlap(&self, other: &Target) -> Option<Overlap> {
        let what = || "both act on one process".to_owned();
        self.is_same(other).then(|| Overlap { what: what(), help: "make one control of the two" })
    }

    fn is_one_value(&self, mine: &Change, _other: &Target, theirs: &Change) -> bool {
        group::is_one_value(&mine.key, &theirs.key)
    }

    fn meets(&self, mine: &Undo, other: &Target, theirs: &Undo) -> bool {
        matches!(other, Target::Process(_)) && family::meet(mine, theirs)
    }

    /// The epoch names the process, however it was found.
    fn shares(&self, other: &Target, _theirs: &Change, _mine: &Change) -> bool {
        matches!(other, Target::Process(_))
    }

    fn has_workers(&self) -> bool {
        self.workers.is_some()
    }

    fn is_sacrificial(&self) -> bool {
        self.sacrificial
    }

    fn is_undeclared(&self, verb: Verb) -> bool {
        matches!(verb, Verb::Freeze | Verb::Terminate) && !self.sacrificial
    }
}
