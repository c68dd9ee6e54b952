//! Where an application listens that speaks ng-control/1, and what of it may be touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::place::{Kind, Place};
use crate::control::service::Service;
use crate::control::undo::Change;
use crate::policy::mitigation::{Amount, Verb};
use crate::policy::rule::PATIENCE;

/// The budgets of `reclaim.rs`, and what is asked before: a conversation each.
const LONGEST: Duration = Duration::from_secs(15);

/// An application over its control socket, or over HTTP on this node.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct App {
    /// The socket; or `host:port` where it answers `POST /ng/v1/…`.
    pub address: Address,
    /// Whose process must listen on the socket. `None`: root, we, or the owner of the socket's directory.
    pub uid: Option<u32>,
    pub token_file: Option<PathBuf>,
    /// What may be emptied. None named: all tiers of the class.
    pub tiers: Vec<String>,
}

impl Place for App {
    fn verbs(&self) -> &'static [Verb] {
        &[Verb::Release, Verb::Throttle, Verb::Drain, Verb::Flush]
    }

    fn open(&self) -> Box<dyn Service> {
        Box::new(super::App::new(self.clone()))
    }

    fn secret_file(&self) -> Option<&Path> {
        self.token_file.as_deref()
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.address)
    }

    fn part(&self) -> String {
        self.tiers.join(", ")
    }

    fn patience(&self, verb: Verb) -> Duration {
        if matches!(verb, Verb::Flush | Verb::Release) { LONGEST } else { PATIENCE }
    }

    /// To drain is the same lease at its strongest: what a drill can prove of it, a throttle proves without refusing
    /// everybody for a moment.
    fn drill(&self, verb: Verb) -> Option<Amount> {
        (verb == Verb::Throttle).then_some(Amount::Keep(90.0))
    }
}

impl Kind for App {
    const OFFERS: &'static [Offer] = &[
        Offer::new(Verb::Release, Ask::Plain, Rung::Spare),
        Offer::new(Verb::Throttle, Ask::Keep(75.0), Rung::Background),
        Offer::new(Verb::Throttle, Ask::Keep(50.0), Rung::RefuseHalf),
        Offer::new(Verb::Flush, Ask::Plain, Rung::EmptyTier),
    ];
    const RUNS: &'static [&'static str] = &["http", "client"];

    fn is_same(&self, other: &Self) -> bool {
        self.address.is_same(&other.address)
    }

    /// Each action has a lease of its own, and the strongest counts: two controls of one application do not disturb each
    /// other. That is how its tiers are told apart in steps.
    fn overlap(&self, _other: &Self) -> Option<Overlap> {
        None
    }

    /// No two actions have a lease of one name.
    fn shares(&self, _other: &Self, _theirs: &Change, _mine: &Change) -> bool {
        true
    }
}
