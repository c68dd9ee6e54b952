//! Where an application listens that speaks ng-control/1, and what of it may be touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::service::Service;
use crate::control::target::{Place, Target};
use crate::control::undo::Change;
use crate::policy::mitigation::{Amount, Verb};
use crate::policy::rule::PATIENCE;

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
    fn kind(&self) -> &'static str {
        "app"
    }

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
        if matches!(verb, Verb::Flush | Verb::Release) { super::reclaim::LONGEST } else { PATIENCE }
    }

    fn is_same(&self, other: &Target) -> bool {
        matches!(other, Target::App(theirs) if self.address.is_same(&theirs.address))
    }

    /// Each action has a lease of its own, and the strongest counts: two controls of one application do not disturb each
    /// other. That is how its tiers are told apart in steps.
    fn overlap(&self, _other: &Target) -> Option<Overlap> {
        None
    }

    /// No two actions have a lease of one name.
    fn shares(&self, other: &Target, _theirs: &Change, _mine: &Change) -> bool {
        matches!(other, Target::App(_))
    }

    /// To drain is the same lease at its strongest: what a drill can prove of it, a throttle proves without refusing
    /// everybody for a moment.
    fn drill(&self, verb: Verb) -> Option<Amount> {
        (verb == Verb::Throttle).then_some(Amount::Keep(90.0))
    }
}
