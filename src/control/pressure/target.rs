//! Where a service listens for memory pressure.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::control::address::{Identity, Overlap, is_same_file};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place};
use crate::control::process::locate::Locator;
use crate::control::service::Service;
use crate::policy::mitigation::Verb;

/// A service that gives memory back when it is told to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pressure {
    /// What its `MEMORY_PRESSURE_WATCH` names.
    pub fifo: Option<PathBuf>,
    /// It is told by the signal that systemd's own daemons take.
    pub signal: bool,
    /// Whose memory is measured, and who is signalled.
    pub locator: Locator,
}

impl Place for Pressure {
    fn verbs(&self) -> &[Verb] {
        &[Verb::Release]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::Pressure::new(self.clone()))
    }

    fn identity(&self) -> Identity {
        self.fifo.as_ref().map_or_else(|| Identity::from(&self.locator), |fifo| Identity::File(fifo.clone()))
    }
}

impl Kind for Pressure {
    const OFFERS: &'static [Offer] = &[Offer::new(Verb::Release, Ask::Plain, Rung::Spare)];
    const RUNS: &'static [&'static str] = &["process"];

    fn is_same(&self, other: &Self) -> bool {
        match (&self.fifo, &other.fifo) {
            (Some(mine), Some(theirs)) => is_same_file(mine, theirs),
            (None, None) => self.locator.is_same(&other.locator),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        let what = || "both tell one service".to_owned();
        self.is_same(other).then(|| Overlap { what: what(), help: "make one control of the two" })
    }
}
