//! Something between the workers and a service that ends the guardian at a chosen instant: before or after any call, or
//! between two values of one write. What was sent until then has happened, nothing after it does, as with `kill -9`.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use node_guardian::control::consent::Consent;
use node_guardian::control::failure::Failure;
use node_guardian::control::service::{AfterRefusal, Aim, Before, Done, Order, Probe, Service};
use node_guardian::control::standing::Live;
use node_guardian::control::undo::Undo;
use node_guardian::policy::gives::Gives;
use node_guardian::policy::mitigation::{Mitigation, Verb};

/// Strikes at the n-th instant, counted from 0.
pub struct Fate {
    at: usize,
    passed: AtomicUsize,
    struck: AtomicBool,
}

impl Fate {
    pub fn at(at: usize) -> Arc<Self> {
        Arc::new(Self { at, passed: AtomicUsize::new(0), struck: AtomicBool::new(false) })
    }

    pub fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    async fn pass(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) == self.at || self.has_struck() {
            self.struck.store(true, Ordering::SeqCst);
            pending::<()>().await;
        }
    }
}

pub struct Doomed {
    pub service: Box<dyn Service>,
    pub fate: Arc<Fate>,
    /// Services under test are quicker than those of the world: so their grace may be.
    pub haste: u32,
}

#[async_trait(?Send)]
impl Service for Doomed {
    fn name(&self) -> &'static str {
        self.service.name()
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        self.service.probe().await
    }

    async fn look(&mut self) -> Result<Probe, Failure> {
        self.service.look().await
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        self.service.permits(verb).await
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let undo = self.service.survey(mitigation).await;
        self.fate.pass().await;
        undo
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let aims = self.service.aim(mitigation, undo).await;
        self.fate.pass().await;
        aims
    }

    fn relatives(&self, life: &str) -> Vec<String> {
        self.service.relatives(life)
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        self.fate.pass().await;
        let live = self.service.read(undo).await;
        self.fate.pass().await;
        live
    }

    async fn is_succeeded(&mut self, undo: &Undo) -> bool {
        self.service.is_succeeded(undo).await
    }

    async fn write(&mut self, epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        self.fate.pass().await;
        // Some services take all of it in one command; those that do not may be left half-way.
        let fate = Arc::clone(&self.fate);
        if orders.len() > 1 && fate.passed.load(Ordering::SeqCst) == fate.at {
            self.service.write(epoch, &orders[..1], after).await?;
        }
        fate.pass().await;
        let written = self.service.write(epoch, orders, after).await;
        fate.pass().await;
        written
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        self.service.pulse(mitigation, consent).await
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        self.service.gives().await
    }

    fn is_lease(&self, key: &str) -> bool {
        self.service.is_lease(key)
    }

    fn was_cleared(&self, key: &str) -> bool {
        self.service.was_cleared(key)
    }

    fn returns(&self, key: &str) -> bool {
        self.service.returns(key)
    }

    fn outlives(&self, key: &str) -> bool {
        self.service.outlives(key)
    }

    fn rounds(&self, key: &str) -> bool {
        self.service.rounds(key)
    }

    fn grace(&self) -> Duration {
        self.service.grace() / self.haste
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        self.service.strictness(key, value)
    }

    async fn may(&mut self, undo: &Undo) -> Result<(), Failure> {
        self.service.may(undo).await
    }

    fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
        self.service.excludes(wanted, in_force)
    }

    async fn measure(&mut self, undo: &Undo) -> Before {
        self.service.measure(undo).await
    }

    async fn reclaimed(&mut self, undo: &Undo, before: Before, consent: &Consent<'_>) -> Option<Done> {
        self.fate.pass().await;
        let reclaimed = self.service.reclaimed(undo, before, consent).await;
        self.fate.pass().await;
        reclaimed
    }
}
