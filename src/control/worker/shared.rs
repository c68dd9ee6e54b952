//! What all tasks share: what is in force, and the way to the loop. Nothing here is borrowed across an await.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Opener;
use super::records::Records;
use super::twins::Twins;
use crate::control::Control;
use crate::control::consent;
use crate::control::target::Target;
use crate::control::webhook::post::Post;
use crate::inbox::{Door, Message};
use crate::policy::mitigation::{ActionId, Command, Outcome};

/// The loop answers with its next look, which takes a few milliseconds. One that is this late is in no state to decide
/// that something is to be lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

pub struct Shared {
    pub records: Records,
    /// Which control an action that is not in the journal yet was given to.
    routes: RefCell<HashMap<ActionId, Arc<str>>>,
    pub door: Door,
    open: Opener,
    pub post: RefCell<Post>,
    pub twins: RefCell<Twins>,
}

impl Shared {
    pub fn new(records: Records, door: Door, open: Opener) -> Self {
        let post = RefCell::new(Post::new(door.clone()));
        Self { records, routes: RefCell::default(), door, open, post, twins: RefCell::default() }
    }

    pub fn open(&self, target: &Target) -> Control {
        (self.open)(target)
    }

    /// What a look at a control found, with what else is known of it.
    pub fn judged(&self, name: &str, outcome: Outcome, detail: &str) -> (Outcome, String) {
        let delivery = self.post.borrow().delivery(name);
        delivery.map_or_else(|| (outcome, detail.to_owned()), |delivery| delivery.judged(outcome, detail))
    }

    /// Whether the policy wants this still, by a fresh look at the node.
    pub async fn ask(&self, id: ActionId) -> consent::Answer {
        const ENDED: &str = "the loop has ended";
        let (reply, answer) = oneshot::channel();
        if !self.door.tell(Message::Ask { id, reply }) {
            return Err(ENDED);
        }
        match timeout(ANSWERED_WITHIN, answer).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("its rule does not want it any more"),
            Ok(Err(_)) => Err(ENDED),
            Err(_) => Err("the loop did not say within 1 s whether it is wanted still"),
        }
    }

    pub fn route(&self, command: &Command) -> Option<Arc<str>> {
        if let Command::Apply { id, mitigation, .. } = command {
            self.routes.borrow_mut().insert(*id, Arc::clone(&mitigation.control));
            return Some(Arc::clone(&mitigation.control));
        }
        let recorded = self.records.entry(command.id()).map(|entry| entry.mitigation.control);
        recorded.or_else(|| self.routes.borrow().get(&command.id()).cloned())
    }

    /// Forgets whose an action was that is not in the journal.
    pub fn forget_route(&self, id: ActionId) {
        if self.records.entry(id).is_none() {
            self.routes.borrow_mut().remove(&id);
        }
    }
}
