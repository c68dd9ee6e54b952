//! The operator's orders on the loop: told to the policy, shown with the next publication, and kept for the next start.

use std::sync::Arc;

use super::{Agent, Input};
use crate::clock;
use crate::inbox::Order;
use crate::keeper::Heard;
use crate::keeper::orders::{self, Now};
use crate::policy::moment::Moment;

impl Agent {
    pub(super) fn obey(&mut self, now: Moment, order: Order, by: Arc<str>, heard: Heard) {
        self.heard.push(heard);
        let (guardian, out) = (&mut self.parts.guardian, &mut self.out);
        match order {
            Order::Undo(ids) => guardian.step(now, Input::Undo { ids: &ids, by }, out),
            Order::Forget(ids) => guardian.step(now, Input::Forget { ids: &ids, by }, out),
            Order::Pause { lasts, hold } => guardian.step(now, Input::Pause { until: now + lasts, hold, by }, out),
            Order::Resume(ids) => guardian.step(now, Input::Resume { ids: &ids, by }, out),
        }
    }

    /// Cheap where nothing changed: it is looked at with every publication. What was ordered and changed nothing is handed
    /// over as well: what it asked for may not be durable yet.
    pub(super) fn keep_orders(&mut self) {
        let orders = self.parts.guardian.orders();
        if self.heard.is_empty() && *orders == self.orders {
            return;
        }
        self.orders_given = true;
        self.hand_over_orders();
    }

    pub(super) fn hand_over_orders(&mut self) {
        let orders = self.parts.guardian.orders();
        let now = Now { moment: self.ticked_at, unix_ms: clock::unix_ms() };
        self.parts.keeper.keep_orders(orders::bytes(orders, now), std::mem::take(&mut self.heard));
        self.orders = orders.clone();
    }
}
