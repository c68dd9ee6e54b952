//! Telling somebody: events as JSON over HTTP, to a receiver that may be down, slow or wrong without anything here waiting
//! for it. A courier for each receiver (`courier`) reads the trail, queues what is wanted (`queue`) and posts it
//! (`wire`), as its `delivery` says; all of them run beside the controls (`post`). Never speaks TLS: a relay on the node does.

mod courier;
pub mod delivery;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed;
pub mod post;
mod queue;
mod settings;
pub mod target;
mod wire;

use async_trait::async_trait;

use super::consent::Consent;
use super::failure::Failure;
use super::service::{AfterRefusal, Done, Order, Probe, Service};
use super::standing::Live;
use super::undo::Undo;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use target::Webhook;

/// The control as rules see it. What `notify` tells is the trail's own record of it: the courier sees that go by.
pub struct Doorbell {
    target: Webhook,
}

impl Doorbell {
    #[must_use]
    pub const fn new(target: Webhook) -> Self {
        Self { target }
    }
}

#[async_trait(?Send)]
impl Service for Doorbell {
    fn name(&self) -> &'static str {
        "the webhook"
    }

    /// Connects, and sends nothing.
    async fn probe(&mut self) -> Result<Probe, Failure> {
        wire::reach(&self.target).await?;
        Ok(Probe::usable(format!("somebody listens at {}", self.target.place())))
    }

    async fn read(&mut self, _undo: &Undo) -> Result<Live, Failure> {
        Err(self.cannot(Verb::Throttle))
    }

    async fn write(&mut self, _epoch: &str, _orders: &[Order<'_>], _after: AfterRefusal) -> Result<(), Failure> {
        Err(self.cannot(Verb::Throttle))
    }

    async fn pulse(&mut self, mitigation: &Mitigation, _consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Notify => Ok(Done {
                outcome: Outcome::Applied,
                detail: format!("queued for {}", self.target.place()),
                freed_bytes: None,
            }),
            verb => Err(self.cannot(verb)),
        }
    }
}
