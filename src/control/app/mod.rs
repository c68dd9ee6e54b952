//! An application that speaks ng-control/1 (docs/app-protocol.md): throttle and drain by a lease that lapses by itself,
//! give back the tiers that lose nothing, flush those that do. Other agents' leases are never touched.
//!
//! Our leases are bound to their time, not to a connection: so a guardian that restarts in the middle of an emergency
//! finds them in force and takes them over, and one that hangs, with its connection open, loses them all the same.

mod link;
mod reclaim;
mod reply;
mod settings;
pub mod target;
mod wire;

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::LEASE;
use super::consent::Consent;
use super::failure::Failure;
use super::resident;
use super::rights::Rights;
use super::service::{AfterRefusal, Aim, Done, Numbers, Order, Probe, Service};
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::clock;
use crate::policy::action::VERIFY_EVERY;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Amount, Mitigation, Outcome, Verb};
use crate::policy::unit::Unit;
use link::Link;
use wire::Hello;

/// No new work at all.
const DRAINED: u64 = 100;
const NOBODYS_TIER: &str = "node-guardian.probe";
/// What is done by a lease, and how `caps` call it.
const LEASES: [(Verb, &str); 2] = [(Verb::Throttle, "throttle"), (Verb::Drain, "drain")];

pub struct App {
    link: Link,
    /// No lease of ours is younger than this, as far as this guardian knows.
    quiet_since: Instant,
    /// Until when each lease holds at least, by its key, as this guardian gave it.
    given: HashMap<String, Instant>,
    /// Which of these were not there any more, when they were last read.
    cleared: Vec<String>,
}

#[async_trait(?Send)]
impl Service for App {
    fn name(&self) -> &'static str {
        "the app"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let hello = self.link.begin().await?;
        let mut rights = Rights::default();
        for (verb, cap) in LEASES.into_iter().filter(|(_, cap)| is_able(&hello, cap)) {
            rights.note(verb, self.may_lease(&hello, cap).await)?;
        }
        for (verb, class) in [(Verb::Release, reclaim::REVERSIBLE), (Verb::Flush, reclaim::LOSSY)] {
            let tiers = reclaim::tiers(&hello, class, &self.link.target().tiers);
            if !tiers.is_empty() {
                let words = format!("{verb} {}", reclaim::list(&tiers));
                rights.note_as(verb, self.may_flush().await.map(|()| words))?;
            }
        }
        let unknown = reclaim::unknown(&hello, &self.link.target().tiers);
        Ok(Probe::usable(format!("{} answers: {}{unknown}", hello.app, rights.told()?)))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        let hello = self.link.begin().await?;
        match LEASES.into_iter().find(|(leased, _)| *leased == verb) {
            Some((_, cap)) => self.may_lease(&hello, cap).await,
            None => self.may_flush().await,
        }
    }

    /// Cheaper than a probe, and nothing in the application's log.
    async fn look(&mut self) -> Result<Probe, Failure> {
        let hello = self.link.begin().await?;
        Ok(Probe::usable(format!("{} answers", hello.app)))
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        let level = level(mitigation).ok_or_else(|| self.cannot(mitigation.verb))?;
        let hello = self.link.begin().await?;
        let change = Change::new(key(&new_lease()), "0", vec![level.to_string()]);
        Ok(Undo { epoch: hello.instance, changes: vec![change], lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let level = level(mitigation).ok_or_else(|| self.cannot(mitigation.verb))?;
        Ok(undo.changes.iter().map(|_| level.to_string()).collect())
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        Ok(Some(self.link.begin().await?.instance))
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let gone = || Live { epoch: String::new(), values: Vec::new() };
        match self.link.begin().await {
            // Nobody is there who could hold it, and it would be over by now if somebody did.
            Err(failure) if failure.outcome == Outcome::Unreachable && self.quiet_since.elapsed() > LEASE => {
                return Ok(gone());
            }
            begun => begun?,
        };
        let status = wire::status(self.link.ask("status", &[]).await?, &self.link.place())?;
        let value = |change: &Change| {
            let mut held = status.leases.iter().filter(|(name, _)| key(name) == change.key);
            held.next().map_or(0, |(_, level)| *level).to_string()
        };
        let values: Vec<String> = undo.changes.iter().map(value).collect();
        let absent = undo.changes.iter().zip(&values).filter(|(_, value)| *value == "0").map(|(change, _)| &change.key);
        let before_its_time = |key: &&String| self.given.get(*key).is_some_and(|until| Instant::now() < *until);
        self.cleared = absent.filter(before_its_time).cloned().collect();
        Ok(Live { epoch: status.instance, values })
    }

    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], _after: AfterRefusal) -> Result<(), Failure> {
        let hello = self.link.begin().await?;
        if hello.instance != expected_epoch {
            return Err(Failure::epoch_changed(self.name()));
        }
        for order in orders {
            self.throttle(order).await?;
        }
        Ok(())
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Release => reclaim::empty(&mut self.link, reclaim::REVERSIBLE, new_lease(), consent).await,
            Verb::Flush => reclaim::empty(&mut self.link, reclaim::LOSSY, new_lease(), consent).await,
            verb => Err(self.cannot(verb)),
        }
    }

    async fn numbers(&mut self) -> Result<Numbers, Failure> {
        self.link.begin().await?;
        Ok(self.link.ask("status", &[]).await?.numbers)
    }

    /// What else it has to give, its own numbers name as they like.
    async fn gives(&mut self) -> Result<Gives, Failure> {
        self.link.begin().await?;
        Ok(Gives { bytes: self.link.pid().and_then(resident::bytes), ..Gives::default() })
    }

    /// It answers with what it obeys.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, _key: &str, value: &str) -> Option<f64> {
        value.parse().ok()
    }

    fn is_lease(&self, _key: &str) -> bool {
        true
    }

    fn was_cleared(&self, key: &str) -> bool {
        self.cleared.iter().any(|cleared| cleared == key)
    }
}

impl App {
    #[must_use]
    pub fn new(target: target::App) -> Self {
        Self { link: Link::new(target), quiet_since: Instant::now(), given: HashMap::new(), cleared: Vec::new() }
    }

    async fn throttle(&mut self, order: &Order<'_>) -> Result<(), Failure> {
        let unknown = || Failure::unsupported(format!("`{}` cannot be set at an app", order.key));
        let lease = lease(order.key).ok_or_else(unknown)?;
        let level: u64 = order.value.parse().map_err(|_| unknown())?;
        let ttl_ms = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let asked = Instant::now();
        self.quiet_since = asked;
        self.given.remove(order.key);
        let fields = [
            ("lease", lease.into()),
            ("level", level.into()),
            ("ttl_ms", ttl_ms.into()),
            ("bind", "ttl".into()),
            ("reason", "node-guardian relieves this node".into()),
        ];
        let reply = self.link.ask("throttle", &fields).await?;
        if level > 0 {
            let granted = Duration::from_millis(reply.ttl_ms.unwrap_or(0).min(ttl_ms));
            self.given.retain(|_, until| *until > asked);
            self.given.insert(order.key.to_owned(), asked + granted);
        }
        let effective = reply.effective.ok_or_else(|| wire::untold(&self.link.place(), "`effective`"))?;
        if effective < level {
            return Err(Failure::refused(format!(
                "the app took a lease at level {level} and obeys level {effective}: the greatest lease is to count"
            )));
        }
        Ok(())
    }

    /// A lease is taken, read back and ended.
    async fn may_lease(&mut self, hello: &Hello, cap: &str) -> Result<(), Failure> {
        if !is_able(hello, cap) {
            return Err(Failure::unsupported(format!("{} cannot {cap}: its `caps` do not say so", hello.app)));
        }
        self.lasts_long_enough(hello)?;
        wire::status(self.link.ask("status", &[]).await?, &self.link.place())?;
        // To end what is not there changes nothing, and is denied to whom a throttle is.
        self.link.ask("throttle", &[("lease", new_lease().into()), ("level", 0.into())]).await.map(drop)
    }

    /// To empty what nobody has changes nothing, and is denied to whom a flush is.
    async fn may_flush(&mut self) -> Result<(), Failure> {
        let fields = [("tiers", [NOBODYS_TIER].as_slice().into()), ("key", new_lease().into())];
        match self.link.ask("flush", &fields).await {
            Err(failure) if !wire::is_about_the_request(&failure) => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Else it would lapse between two renewals.
    fn lasts_long_enough(&self, hello: &Hello) -> Result<(), Failure> {
        let shortest = VERIFY_EVERY.as_millis() * 3;
        if u128::from(hello.max_ttl_ms) >= shortest {
            return Ok(());
        }
        Err(Failure::unsupported(format!(
            "{} gives leases of {} ms at most: raise its `max_ttl_ms` to 30000 or more",
            hello.app, hello.max_ttl_ms
        )))
    }
}

/// How much less to do; `None` where the verb has no such thing.
fn level(mitigation: &Mitigation) -> Option<u64> {
    match (mitigation.verb, mitigation.amount) {
        (Verb::Drain, _) => Some(DRAINED),
        // Less than a hundredth is not said; to the end belongs to `drain`.
        (Verb::Throttle, Amount::Keep(kept)) => Some((100.0 - kept).round().clamp(1.0, 99.0) as u64),
        _ => None,
    }
}

fn is_able(hello: &Hello, cap: &str) -> bool {
    hello.caps.iter().any(|known| known == cap)
}

/// A name that no other action, guardian or agent takes.
fn new_lease() -> String {
    format!("ng-{:016x}", RandomState::new().hash_one(clock::unix_ms()))
}

fn key(lease: &str) -> String {
    format!("lease {lease}")
}

fn lease(key: &str) -> Option<&str> {
    key.strip_prefix("lease ")
}

fn bytes(bytes: u64) -> String {
    Unit::Bytes.show(bytes as f64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_becomes_a_level() {
        let level = |verb, amount| level(&Mitigation { control: "api".into(), verb, amount });
        assert_eq!(level(Verb::Throttle, Amount::Keep(40.0)), Some(60));
        assert_eq!(level(Verb::Throttle, Amount::Keep(99.9)), Some(1));
        assert_eq!(level(Verb::Throttle, Amount::Keep(0.2)), Some(99), "only drain drains");
        assert_eq!(level(Verb::Drain, Amount::Whole), Some(100));
        assert_eq!(level(Verb::Throttle, Amount::Bytes(7)), None);
    }

    #[test]
    fn no_two_leases_have_one_name() {
        let names: std::collections::BTreeSet<_> = (0..1000).map(|_| new_lease()).collect();
        assert_eq!(names.len(), 1000);
        let name = names.first().unwrap();
        assert_eq!(lease(&key(name)), Some(name.as_str()));
    }
}
