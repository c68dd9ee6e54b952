//! The undos that wait for their turn at one control. Whoever waits for something else there hears of them at once.

use std::cell::RefCell;

use tokio::sync::Notify;

use crate::policy::mitigation::ActionId;

#[derive(Default)]
pub struct Undos {
    /// Nothing here is borrowed across an await.
    waiting: RefCell<Vec<ActionId>>,
    more: Notify,
}

impl Undos {
    pub fn add(&self, id: ActionId) {
        self.waiting.borrow_mut().push(id);
        self.more.notify_waiters();
    }

    /// Its turn has come.
    pub fn take(&self, id: ActionId) {
        let mut waiting = self.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|known| *known == id) {
            waiting.remove(at);
        }
    }

    pub fn has(&self, id: ActionId) -> bool {
        self.waiting.borrow().contains(&id)
    }

    /// Returns when this one waits.
    pub async fn of(&self, id: ActionId) {
        self.until(|waiting| waiting.contains(&id)).await;
    }

    /// Returns when any of them waits.
    pub async fn any(&self) {
        self.until(|waiting| !waiting.is_empty()).await;
    }

    async fn until(&self, is_so: impl Fn(&[ActionId]) -> bool) {
        loop {
            // Whoever comes from here on is heard.
            let more = self.more.notified();
            if is_so(&self.waiting.borrow()) {
                return;
            }
            more.await;
        }
    }
}
