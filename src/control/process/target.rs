//! Where a process is and what may be done to it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::locate::Locator;
use super::{family, group};
use crate::control::address::{Identity, Overlap};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place, Undeclared};
use crate::control::service::Service;
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

    fn has_workers(&self) -> bool {
        self.workers.is_some()
    }

    fn is_sacrificial(&self) -> bool {
        self.sacrificial
    }

    fn undeclared(&self, verb: Verb) -> Option<Undeclared> {
        (matches!(verb, Verb::Freeze | Verb::Terminate) && !self.sacrificial).then_some(Undeclared {
            what: "this process is not declared sacrificial",
            help: "declare sacrificial = true at the control",
        })
    }
}

impl Kind for Process {
    const OFFERS: &'static [Offer] = &[
        Offer::new(Verb::Throttle, Ask::Sacrifice, Rung::SlowBatch),
        Offer::new(Verb::Freeze, Ask::Plain, Rung::StopBatch),
        Offer::new(Verb::Throttle, Ask::OneLess, Rung::FewerWorkers),
    ];

    fn is_same(&self, other: &Self) -> bool {
        self.locator.is_same(&other.locator)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        let what = || "both act on one process".to_owned();
        self.is_same(other).then(|| Overlap { what: what(), help: "make one control of the two" })
    }

    fn is_one_value(&self, mine: &Change, _other: &Self, theirs: &Change) -> bool {
        group::is_one_value(&mine.key, &theirs.key)
    }

    fn meets(&self, mine: &Undo, theirs: &Undo) -> bool {
        family::meet(mine, theirs)
    }

    /// The epoch names the process, however it was found.
    fn shares(&self, _other: &Self, _theirs: &Change, _mine: &Change) -> bool {
        true
    }
}
