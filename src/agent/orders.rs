//! The operator's orders on the loop: told to the policy, shown with the next publication, and kept for the next start. What
//! was ordered before a start and could not be read is never written over unseen, nor is anything done against it that
//! cannot be taken back.

use std::sync::Arc;

use super::{Agent, Input};
use crate::clock;
use crate::inbox::Order;
use crate::keeper::Heard;
use crate::keeper::orders::{self, Now};
use crate::policy::mitigation::Command;
use crate::policy::moment::Moment;
use crate::policy::orders::Orders;

/// What is known of the orders of before this start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Earlier {
    #[default]
    Known,
    /// They are to be read once there is a journal, and are not written over before.
    Awaited(String),
    /// What is there cannot be read: it is written over by the next order.
    Damaged(String),
}

/// What an operator said since this start of the pause, and of all that was undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Said {
    #[default]
    Nothing,
    Paused,
    /// All of it is over.
    Resumed,
}

impl Earlier {
    const fn why(&self) -> Option<&String> {
        match self {
            Earlier::Known => None,
            Earlier::Awaited(why) | Earlier::Damaged(why) => Some(why),
        }
    }
}

impl Said {
    /// Leaves what was not said anew.
    fn of(self, earlier: Orders) -> Orders {
        match self {
            Said::Nothing => earlier,
            Said::Paused => earlier.without_pause(),
            Said::Resumed => earlier.without_pause().without_undone(),
        }
    }
}

impl Agent {
    pub(super) fn obey(&mut self, now: Moment, order: Order, by: Arc<str>, heard: Heard) {
        self.heard.push(heard);
        self.note_said(&order);
        let (guardian, out) = (&mut self.parts.guardian, &mut self.out);
        match order {
            Order::Undo(ids) => guardian.step(now, Input::Undo { ids: &ids, by }, out),
            Order::Forget(ids) => guardian.step(now, Input::Forget { ids: &ids, by }, out),
            Order::Pause { lasts, hold } => guardian.step(now, Input::Pause { until: now + lasts, hold, by }, out),
            Order::Resume(ids) => guardian.step(now, Input::Resume { ids: &ids, by }, out),
        }
    }

    /// Whoever pauses or resumes says what is to be, whatever was before.
    fn note_said(&mut self, order: &Order) {
        match order {
            Order::Pause { .. } if self.said == Said::Nothing => self.said = Said::Paused,
            Order::Resume(ids) if ids.is_empty() => self.said = Said::Resumed,
            Order::Pause { .. } => {}
            Order::Undo(_) | Order::Forget(_) | Order::Resume(_) => return self.write_over(),
        }
        self.parts.guardian.know_orders();
        self.write_over();
    }

    fn write_over(&mut self) {
        if matches!(self.parts.earlier, Earlier::Damaged(_)) {
            self.parts.earlier = Earlier::Known;
        }
    }

    /// Those of before a restart, as far as nothing newer was said; all of them are kept where the journal is now.
    pub(super) fn take_orders(&mut self, now: Moment, earlier: Orders, unread: Option<String>) {
        match unread {
            None => {
                self.parts.guardian.restore_orders(now, self.said.of(earlier), &mut self.out);
                self.parts.earlier = Earlier::Known;
            }
            Some(why) if self.said == Said::Nothing => {
                self.parts.guardian.miss_orders();
                self.parts.earlier = Earlier::Damaged(why);
            }
            // An operator has said since what is to be.
            Some(_) => self.parts.earlier = Earlier::Known,
        }
        self.hand_over_orders();
    }

    /// Why nothing is done that cannot be undone.
    pub(super) fn unread_orders(&self) -> Option<Arc<str>> {
        let why = self.parts.earlier.why().filter(|_| self.parts.guardian.misses_orders())?;
        Some(why.as_str().into())
    }

    /// Beside what the keeper says of the same file itself.
    pub(super) fn note_keeper(&mut self, why: Option<String>) {
        let file = self.parts.settings.state_directory.join(orders::NAME);
        self.note_lacking(format!("{} (its disk)", file.display()), why);
    }

    /// Cheap where nothing changed: it is looked at with every publication. What was ordered and changed nothing is handed
    /// over as well: what it asked for may not be durable yet.
    pub(super) fn keep_orders(&mut self, now: Moment) {
        let parted = self.partings.kept(now).into_iter();
        self.out.commands.extend(parted.map(|id| Command::Forget { id }));
        let is_due = self.partings.is_due(now) && self.parts.earlier.why().is_none();
        if self.heard.is_empty() && !is_due && *self.parts.guardian.orders() == self.orders {
            return;
        }
        self.hand_over_orders();
    }

    fn hand_over_orders(&mut self) {
        let orders = self.parts.guardian.orders();
        let now = Now { moment: self.ticked_at, unix_ms: clock::unix_ms() };
        self.orders = orders.clone();
        if let Some(why) = self.parts.earlier.why() {
            for heard in self.heard.drain(..) {
                // Whoever asked may have given up.
                heard.send(Err(format!("earlier orders exist and cannot be read yet: {why}"))).ok();
            }
            return;
        }
        self.heard.extend(self.partings.hand_over());
        self.parts.keeper.keep_orders(orders::bytes(orders, now), std::mem::take(&mut self.heard));
    }
}
