//! What is there immediately before it is overwritten, in the conversation in which that is done. A table is read for a few
//! orders at a time: one for each would take longer than the orders themselves.

use super::answer::Info;
use super::epoch;
use super::knob::Knob;
use super::readings::{Readings, greet};
use super::socket::Session;
use crate::control::failure::Failure;
use crate::control::service::{Order, Turn};

/// An order is answered within a millisecond where the proxy is not busy.
const ORDERS_PER_LOOK: usize = 16;

pub struct LastLook {
    info: Info,
    readings: Readings,
    /// Orders since it was taken.
    orders: usize,
}

impl LastLook {
    /// # Errors
    /// `EpochChanged` where this is another life of the proxy.
    pub async fn take(session: &mut Session, expected_epoch: &str) -> Result<Self, Failure> {
        let info = greet(session).await?;
        if epoch(&info) != expected_epoch {
            return Err(Failure::epoch_changed("HAProxy"));
        }
        Ok(Self { info, readings: Readings::default(), orders: 0 })
    }

    pub async fn turn(
        &mut self,
        session: &mut Session,
        expected_epoch: &str,
        order: &Order<'_>,
    ) -> Result<Turn, Failure> {
        let Some(_) = order.over else { return Ok(Turn::Write) };
        let knob = Knob::required(order.key)?;
        let is_in_info = matches!(knob, Knob::GlobalLimit | Knob::ConnectionRate);
        if self.orders >= ORDERS_PER_LOOK || (is_in_info && self.orders > 0) {
            *self = Self::take(session, expected_epoch).await?;
        }
        self.orders += 1;
        Ok(order.turn(&self.readings.value(session, &self.info, &knob).await?))
    }
}
