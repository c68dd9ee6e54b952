//! By which way a request came, and whose it is.

use std::sync::Arc;

use super::credential::Peer;
use super::guesses::Ends;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Via {
    Admin(Peer),
    Tcp(Ends),
}

/// Who asks for a change, for the trail.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actor(pub Arc<str>);

impl Actor {
    /// Over TCP a change needs the token, and whoever has it is nobody else.
    #[must_use]
    pub fn of(via: &Via) -> Self {
        match via {
            Via::Admin(peer) => Self(peer.name().into()),
            Via::Tcp(_) => Self("token".into()),
        }
    }
}
