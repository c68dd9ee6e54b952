//! What all tasks share: the journal, and the way to the loop. An end that could not be recorded counts all the same,
//! and is recorded as soon as that works again. Nothing here is borrowed across an await.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Opener, Record};
use crate::control::Control;
use crate::control::failure::Failure;
use crate::control::target::Target;
use crate::control::webhook::post::Post;
use crate::inbox::{Door, Message};
use crate::journal::Entry;
use crate::policy::mitigation::{ActionId, Command, Outcome};

/// The loop answers with its next look, which takes a few milliseconds. One that is this late is in no state to decide
/// that something is to be lost.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

pub struct Shared {
    record: RefCell<Box<dyn Record>>,
    /// Verified gone, but the journal does not know yet.
    unclosed: RefCell<Vec<ActionId>>,
    /// Which control an action that is not in the journal yet was given to.
    routes: RefCell<HashMap<ActionId, Arc<str>>>,
    pub door: Door,
    open: Opener,
    pub post: RefCell<Post>,
}

impl Shared {
    pub fn new(record: impl Record + 'static, door: Door, open: Opener) -> Self {
        let record: RefCell<Box<dyn Record>> = RefCell::new(Box::new(record));
        let post = RefCell::new(Post::new(door.clone()));
        Self { record, unclosed: RefCell::default(), routes: RefCell::default(), door, open, post }
    }

    pub fn open(&self, target: &Target) -> Control {
        (self.open)(target)
    }

    /// What a look at a control found, with what else is known of it.
    pub fn judged(&self, name: &str, outcome: Outcome, detail: &str) -> (Outcome, String) {
        let delivery = self.post.borrow().delivery(name);
        delivery.map_or_else(|| (outcome, detail.to_owned()), |delivery| delivery.judged(outcome, detail))
    }

    /// Everything that is, or may be.
    pub fn in_force(&self) -> Vec<Entry> {
        let unclosed = self.unclosed.borrow();
        self.record.borrow().entries().iter().filter(|entry| !unclosed.contains(&entry.id)).cloned().collect()
    }

    pub fn entry(&self, id: ActionId) -> Option<Entry> {
        if self.unclosed.borrow().contains(&id) {
            return None;
        }
        self.record.borrow().entries().iter().find(|entry| entry.id == id).cloned()
    }

    /// Durable when it returns.
    pub fn write(&self, entry: &Entry) -> Result<(), String> {
        self.close_again();
        self.record.borrow_mut().write(entry).map_err(|why| why.to_string())?;
        self.unclosed.borrow_mut().retain(|id| *id != entry.id);
        Ok(())
    }

    /// What it is about is gone whether or not this can be recorded.
    pub fn close(&self, id: ActionId) -> Result<(), Failure> {
        self.close_again();
        let Err(why) = self.record.borrow_mut().close(id) else { return Ok(()) };
        self.unclosed.borrow_mut().push(id);
        let told = format!("the end of action {id} could not be recorded, which is tried again: {why}");
        // A loop that has ended needs no news.
        let _heard = self.door.tell(Message::JournalFailed(told));
        Err(Failure::refused(format!("its end could not be recorded: {why}")))
    }

    /// Tries again to record the ends that could not be.
    pub fn close_again(&self) {
        let mut record = self.record.borrow_mut();
        self.unclosed.borrow_mut().retain(|id| record.close(*id).is_err());
    }

    pub fn owes_the_journal(&self) -> bool {
        !self.unclosed.borrow().is_empty()
    }

    /// Whether the policy wants this still, by a fresh look at the node.
    pub async fn ask(&self, id: ActionId) -> Result<(), Failure> {
        let (reply, answer) = oneshot::channel();
        if !self.door.tell(Message::Ask { id, reply }) {
            return Err(Failure::expired("the loop has ended"));
        }
        match timeout(ANSWERED_WITHIN, answer).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Failure::expired("its rule does not want it any more")),
            Ok(Err(_)) => Err(Failure::expired("the loop has ended")),
            Err(_) => Err(Failure::expired("the loop did not say within 1 s whether it is wanted still")),
        }
    }

    pub fn route(&self, command: &Command) -> Option<Arc<str>> {
        if let Command::Apply { id, mitigation, .. } = command {
            self.routes.borrow_mut().insert(*id, Arc::clone(&mitigation.control));
            return Some(Arc::clone(&mitigation.control));
        }
        let recorded = self.entry(command.id()).map(|entry| entry.mitigation.control);
        recorded.or_else(|| self.routes.borrow().get(&command.id()).cloned())
    }

    /// Forgets whose an action was that is not in the journal.
    pub fn forget_route(&self, id: ActionId) {
        if self.entry(id).is_none() {
            self.routes.borrow_mut().remove(&id);
        }
    }
}
