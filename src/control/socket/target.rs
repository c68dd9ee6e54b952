//! Where a service with a socket is, how it speaks, and what to say to it.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::address::{Address, Identity, Overlap};
use crate::control::offer::Offer;
use crate::control::place::{Kind, Place};
use crate::control::recipe::{self, Performer, Recipe, Step};
use crate::control::service::Service;
use crate::control::undo::{Change, Undo};
use crate::policy::mitigation::Verb;

/// Anything that answers on a socket.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Socket {
    pub address: Address,
    pub protocol: Protocol,
    /// Between conversations: then it needs no new connection when there are none left.
    pub keep_open: bool,
    /// Said once on each connection.
    pub on_connect: Vec<Step>,
    /// Whose process must listen where the secret is sent. `None`: root, we, who may make the socket, a system user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<u32>,
    pub recipe: Box<Recipe>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// An answer ends with this text, or if it is empty with the connection.
    Text {
        ends_with: String,
    },
    Postgres {
        user: String,
        database: String,
    },
}

impl Protocol {
    /// Whether the service closes the connection after each answer.
    #[must_use]
    pub fn closes(&self) -> bool {
        matches!(self, Protocol::Text { ends_with } if ends_with.is_empty())
    }
}

impl Place for Socket {
    fn verbs(&self) -> &[Verb] {
        &self.recipe.verbs
    }

    fn open(&self) -> Box<dyn Service> {
        let line = Box::new(super::Session::new(self.clone()));
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

impl Kind for Socket {
    const OFFERS: &'static [Offer] = recipe::OFFERS;
    const RUNS: &'static [&'static str] = &["recipe"];

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
