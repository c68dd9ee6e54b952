//! All couriers: who brings what where, how that goes, and a last short try when the daemon ends.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::courier::Courier;
use super::delivery::{Delivery, Receiver};
use crate::clock;
use crate::events::Log;
use crate::inbox::Door;

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

impl Post {
    pub fn new(door: Door) -> Self {
        let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
        let life = format!("{name}-{}", clock::unix_ms());
        Self { door, log: None, couriers: HashMap::new(), node: name.into(), life: life.into() }
    }

    /// From now on there is something to tell, from the first event on.
    pub fn read(&mut self, log: Arc<Log>, receivers: &[Receiver], running: &mut JoinSet<()>) {
        self.log = Some(log);
        self.hire(receivers, 0, running);
    }

    /// A receiver that changed gets what was queued for it; with one that is gone, its queue goes. One that is new is told
    /// what comes after this event: the last one when it was configured, which may be a while before this thread hears of
    /// that.
    pub fn configure(&mut self, receivers: &[Receiver], last_event: u64, running: &mut JoinSet<()>) {
        self.couriers.retain(|name, (_, courier)| {
            let stays = receivers.iter().any(|receiver| receiver.name == *name);
            if !stays {
                courier.abort();
            }
            stays
        });
        self.hire(receivers, last_event, running);
    }

    fn hire(&mut self, receivers: &[Receiver], since: u64, running: &mut JoinSet<()>) {
        let Some(log) = &self.log else { return };
        for receiver in receivers {
            if let Some((delivery, _)) = self.couriers.get(&receiver.name) {
                delivery.redirect(receiver.target.clone());
                continue;
            }
            let delivery = Rc::new(Delivery::new(receiver, &self.node, &self.life, self.door.clone()));
            let courier = running.spawn_local(Courier::new(Rc::clone(&delivery), Arc::clone(log), since).work());
            self.couriers.insert(Arc::clone(&receiver.name), (delivery, courier));
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
    couriers.iter().for_each(|delivery| delivery.urge());
    let all = async {
        while !couriers.iter().all(|delivery| delivery.is_finished()) {
            sleep(POLL).await;
        }
    };
    timeout(LAST_TRY, all).await.ok();
}
