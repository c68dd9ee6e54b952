//! The operator's orders on the loop: told to the policy, shown with the next publication, and kept for the next start.

use std::sync::Arc;

use super::{Agent, Input};
use crate::clock;
use crate::inbox::Order;
use crate::keeper::orders::{self, Now};
use crate::policy::moment::Moment;

impl Agent {
    pub(super) fn obey(&mut self, now: Moment, order: Order, by: Arc<str>) {
        let (guardian, out) = (&mut self.parts.guardian, &mut self.out);
        match order {
            Order::Undo(ids) => guardian.step(now, Input::Undo { ids: &ids, by }, out),
            Order::Forget(ids) => guardian.step(now, Input::Forget { ids: &ids, by }, out),
            Order::Pause { lasts, hold } => guardian.step(now, Input::Pause { until: now + lasts, hold, by }, out),
            Order::Resume(ids) => guardian.step(now, Input::Resume { ids: &ids, by }, out),
        }
    }

    /// Cheap where nothing changed: it is looked at with every publication.
    pub(super) fn keep_orders(&mut self) {
        let orders = self.parts.guardian.orders();
        if *orders == self.orders {
            return;
        }
        self.orders = orders.clone();
        self.orders_given = true;
        let now = Now { moment: self.ticked_at, unix_ms: clock::unix_ms() };
        self.parts.keeper.keep(orders::NAME, orders::bytes(&self.orders, now));
    }
}
