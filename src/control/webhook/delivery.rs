//! What a courier and those who ask about it share: where to, how many, and what came of the last try.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use super::target::Webhook;
use crate::clock;
use crate::control::told;
use crate::inbox::{Door, Message};
use crate::policy::mitigation::Outcome;
use crate::status::{ControlState, ControlView};

/// Who is told.
pub struct Receiver {
    pub name: Arc<str>,
    pub target: Webhook,
}

/// Nothing here is borrowed across an await.
pub struct Delivery {
    pub name: Arc<str>,
    pub node: Arc<str>,
    pub life: Arc<str>,
    door: Door,
    target: RefCell<Rc<Webhook>>,
    counts: RefCell<Counts>,
    /// What came of the last try.
    told: RefCell<Option<(Outcome, String)>>,
    hurried: Cell<bool>,
    finished: Cell<bool>,
    hurry: Notify,
}

#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub delivered: u64,
    pub failed: u64,
    pub dropped: u64,
    pub queued: usize,
}

impl Delivery {
    pub fn new(receiver: &Receiver, node: &Arc<str>, life: &Arc<str>, door: Door) -> Self {
        Self {
            name: Arc::clone(&receiver.name),
            node: Arc::clone(node),
            life: Arc::clone(life),
            door,
            target: RefCell::new(Rc::new(receiver.target.clone())),
            counts: RefCell::default(),
            told: RefCell::default(),
            hurried: Cell::new(false),
            finished: Cell::new(false),
            hurry: Notify::new(),
        }
    }

    pub fn redirect(&self, target: Webhook) {
        *self.target.borrow_mut() = Rc::new(target);
    }

    pub fn target(&self) -> Rc<Webhook> {
        Rc::clone(&self.target.borrow())
    }

    pub const fn is_hurried(&self) -> bool {
        self.hurried.get()
    }

    pub async fn hurry(&self) {
        if !self.hurried.get() {
            self.hurry.notified().await;
        }
    }

    pub fn urge(&self) {
        self.hurried.set(true);
        self.hurry.notify_one();
    }

    pub const fn is_finished(&self) -> bool {
        self.finished.get()
    }

    pub fn finish(&self) {
        self.finished.set(true);
    }

    pub fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.borrow_mut());
    }

    /// What came of a try; news only where it is another than the last time.
    pub fn tell(&self, outcome: Outcome, detail: String) {
        let is_news = self.told.borrow().as_ref().is_none_or(|(known, _)| *known != outcome);
        *self.told.borrow_mut() = Some((outcome, detail.clone()));
        if !is_news {
            return;
        }
        let (outcome, detail) = self.judged(outcome, &detail);
        let secrets: Vec<PathBuf> = self.target().token_file.iter().cloned().collect();
        let detail = told::told(&detail, &secrets);
        let view = ControlView {
            name: Arc::clone(&self.name),
            kind: "webhook",
            state: ControlState::after(outcome),
            detail: detail.into(),
            checked_unix_ms: clock::unix_ms(),
        };
        // A loop that has ended needs no news.
        let _heard = self.door.tell(Message::Probed(view));
    }

    /// What a look found, with what is known from delivering: a receiver that takes connections and no events is not
    /// usable.
    pub fn judged(&self, outcome: Outcome, detail: &str) -> (Outcome, String) {
        let Counts { delivered, failed, dropped, queued } = *self.counts.borrow();
        let counts = format!("{delivered} delivered, {failed} refused, {dropped} dropped, {queued} queued");
        match &*self.told.borrow() {
            Some((told, why)) if outcome == Outcome::Applied && *told != Outcome::Applied => {
                (*told, format!("{why}; {counts}"))
            }
            Some(_) | None => (outcome, format!("{detail}; {counts}")),
        }
    }
}
