//! Where a service's HTTP interface is, and what to ask of it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::Offer;
use crate::control::place::{Kind, Place};
use crate::control::recipe::{self, Performer, Recipe};
use crate::control::service::Service;
use crate::control::undo::{Change, Undo};
use crate::policy::mitigation::Verb;

/// Anything that is told what to do over HTTP/1.1, without TLS: on this node, or on a network that is trusted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Http {
    pub address: Address,
    /// As in `Host`; empty: the address, or `localhost` on a unix socket.
    pub host: String,
    /// With each request.
    pub headers: Vec<(String, String)>,
    /// Whose process must listen where the secret is sent. `None`: root, we, who may make the socket, a system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    pub recipe: Box<Recipe>,
}

impl Place for Http {
    fn verbs(&self) -> &[Verb] {
        &self.recipe.verbs
    }

    fn open(&self) -> Box<dyn Service> {
        let line = Box::new(super::Exchange::new(self.clone()));
        Box::new(Performer::new("the service", *self.recipe.clone(), line))
    }

    fn secret_file(&self) -> Option<&Path> {
        self.recipe.password_file.as_deref()
    }

    fn identity(&self) -> Identity {
        Identity::from(&self.address)
    }

    fn part(&self) -> String {
        self.recipe.part()
    }

    fn patience(&self, verb: Verb) -> Duration {
        self.recipe.patience(verb)
    }

    fn is_all_or_nothing(&self, verb: Verb) -> bool {
        self.recipe.is_all_or_nothing(verb)
    }
}

impl Kind for Http {
    const OFFERS: &'static [Offer] = recipe::OFFERS;
    const RUNS: &'static [&'static str] = &["client", "recipe"];

    fn is_same(&self, other: &Self) -> bool {
        self.address.is_same(&other.address)
    }

    fn overlap(&self, other: &Self) -> Option<Overlap> {
        if self.address.is_missing() || !self.is_same(other) {
            return None;
        }
        self.recipe.overlap(&other.recipe)
    }

    fn undoes(&self, earlier: &Self, undo: &Undo) -> bool {
        self.recipe.reads_as(&earlier.recipe, &undo.changes)
    }

    fn is_one_value(&self, mine: &Change, other: &Self, theirs: &Change) -> bool {
        self.recipe.is_one_value(mine, &other.recipe, theirs)
    }

    /// One service may be reached in several ways; its epoch says which one it is.
    fn shares(&self, _other: &Self, _theirs: &Change, _mine: &Change) -> bool {
        true
    }
}
