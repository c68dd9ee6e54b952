//! All couriers: who brings what where, how that goes, and a last short try when the daemon ends.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::courier::Courier;
use super::target::Webhook;
use crate::clock;
use crate::control::target::{Named, Target};
use crate::control::told;
use crate::events::Log;
use crate::inbox::{Door, Message};
use crate::policy::mitigation::Outcome;
use crate::status::{ControlState, ControlView};

/// What is queued when the daemon ends has this long: everything is undone by then, and somebody waits for the end.
const LAST_TRY: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(5);

pub struct Post {
    door: Door,
    log: Option<Arc<Log>>,
    couriers: HashMap<Arc<str>, (Rc<Delivery>, AbortHandle)>,
    node: Arc<str>,
    /// Names this life of the daemon, whose events are counted from 1.
    life: Arc<str>,
}

/// What a courier and those who ask about it share. Nothing here is borrowed across an await.
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

impl Post {
    pub fn new(door: Door) -> Self {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let life = format!("{name}-{}", clock::unix_ms());
        Self { door, log: None, couriers: HashMap::new(), node: name.into(), life: life.into() }
    }

    /// From now on there is something to tell, from the first event on.
    pub fn read(&mut self, log: Arc<Log>, controls: &[Named], running: &mut JoinSet<()>) {
        self.log = Some(log);
        self.hire(controls, 0, running);
    }

    /// A receiver that changed gets what was queued for it; with one that is gone, its queue goes. One that is new is told
    /// what comes after this event: the last one when it was configured, which may be a while before this thread hears of
    /// that.
    pub fn configure(&mut self, controls: &[Named], last_event: u64, running: &mut JoinSet<()>) {
        self.couriers.retain(|name, (_, courier)| {
            let stays = controls.iter().any(|control| control.name == *name && webhook(control).is_some());
            if !stays {
                courier.abort();
            }
            stays
        });
        self.hire(controls, last_event, running);
    }

    fn hire(&mut self, controls: &[Named], since: u64, running: &mut JoinSet<()>) {
        let Some(log) = &self.log else { return };
        for (control, target) in controls.iter().filter_map(|control| Some((control, webhook(control)?))) {
            if let Some((delivery, _)) = self.couriers.get(&control.name) {
                *delivery.target.borrow_mut() = Rc::new(target.clone());
                continue;
            }
            let delivery = Rc::new(Delivery {
                name: Arc::clone(&control.name),
                node: Arc::clone(&self.node),
                life: Arc::clone(&self.life),
                door: self.door.clone(),
                target: RefCell::new(Rc::new(target.clone())),
                counts: RefCell::default(),
                told: RefCell::default(),
                hurried: Cell::new(false),
                finished: Cell::new(false),
                hurry: Notify::new(),
            });
            let courier = running.spawn_local(Courier::new(Rc::clone(&delivery), Arc::clone(log), since).work());
            self.couriers.insert(Arc::clone(&control.name), (delivery, courier));
        }
    }

    pub fn delivery(&self, name: &str) -> Option<Rc<Delivery>> {
        self.couriers.get(name).map(|(delivery, _)| Rc::clone(delivery))
    }

    pub fn couriers(&self) -> Vec<Rc<Delivery>> {
        self.couriers.values().map(|(delivery, _)| Rc::clone(delivery)).collect()
    }
}

/// Lets them tell what they can at once.
pub async fn last_try(couriers: Vec<Rc<Delivery>>) {
    for delivery in &couriers {
        delivery.hurried.set(true);
        delivery.hurry.notify_one();
    }
    let all = async {
        while !couriers.iter().all(|delivery| delivery.finished.get()) {
            sleep(POLL).await;
        }
    };
    timeout(LAST_TRY, all).await.ok();
}

impl Delivery {
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

fn webhook(control: &Named) -> Option<&Webhook> {
    let Target::Webhook(target) = &control.target else { return None };
    Some(target)
}
