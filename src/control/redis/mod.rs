//! Redis over its unix socket or TCP: give memory back, lower its limit, pause writes, flush. Never `CONFIG REWRITE`: what
//! is set here must not outlive a restart of the server.

mod client;
mod may;
mod reclaim;
mod resp;
mod settings;
mod survey;
pub mod target;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::LEASE;
use super::consent::Consent;
use super::failure::Failure;
use super::passed::Passed;
use super::place::Place;
use super::recent_peak::RecentPeak;
use super::rights::Rights;
use super::said::clip;
use super::service::{AfterRefusal, Aim, Before, Done, Order, Probe, Service, Turn};
use super::standing::Live;
use super::undo::{Change, Undo, lease_end};
use crate::clock;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Amount, Mitigation, Outcome, Verb};
use crate::policy::ports::Ports;
use client::Client;
use resp::Reply;
use survey::{Buffers, CLIENTS, MAXMEMORY, Memory, PAUSE, POLICY};

pub struct Redis {
    client: Client,
    /// Memory in use when the limit was first lowered in this life of the server: `run_id` and bytes.
    peak: RecentPeak,
    /// Redis 7.0 does not tell whether it is paused, so we remember until when. `None` after a restart of ours: then the
    /// undo tells when a pause has lapsed.
    paused_until: Option<Instant>,
    came: Passed,
}

/// What is so little above its limit has nothing to give back that would show.
const NOISE: u64 = 1 << 20;

type Settings = HashMap<String, String>;

#[async_trait(?Send)]
impl Service for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        self.client.begin().await?;
        let mut rights = Rights::default();
        for verb in self.offered() {
            let permitted = self.permits(verb).await;
            rights.note(verb, permitted)?;
        }
        let may = rights.told()?;
        // Not every user may read them, and not every verb needs them.
        let settings = self.current_settings().await.unwrap_or_default();
        let number = |key: &str| clip(settings.get(key).map_or("unknown", String::as_str));
        let detail = format!("Redis answers: {may}; maxmemory {}, {}", number(MAXMEMORY), number(POLICY));
        let is_old = self.client.target().client_buffers.is_some() && !settings.contains_key(CLIENTS);
        let left_out = "; client_buffers is left out, because only Redis 7 and later limits what clients hold";
        Ok(Probe::usable(detail + if is_old { left_out } else { "" }))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        self.client.begin().await?;
        match verb {
            Verb::Release => may::release(&mut self.client).await,
            Verb::Throttle => may::pause(&mut self.client).await,
            Verb::Shrink => may::set(&mut self.client).await,
            Verb::Flush if self.is_paused() => Ok(()),
            Verb::Flush => may::flush(&mut self.client).await,
            verb => Err(self.cannot(verb)),
        }
    }

    /// Cheaper than a probe, and leaves no trace in the server's error statistics.
    async fn look(&mut self) -> Result<Probe, Failure> {
        self.client.begin().await?;
        Ok(Probe::usable("Redis answers"))
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        match mitigation.verb {
            Verb::Throttle => {
                whole_pause(mitigation.amount)?;
                let epoch = self.client.begin().await?;
                self.paused_until.get_or_insert_with(Instant::now);
                let change = Change::new(PAUSE, "off", vec!["on".into()]);
                Ok(Undo { epoch, changes: vec![change], lapses_unix_ms: Some(lease_end()) })
            }
            Verb::Shrink => {
                let epoch = self.client.begin().await?;
                reclaim::refuse_while_saving(&mut self.client).await?;
                let memory = self.memory(&epoch).await?;
                Ok(Undo { epoch, changes: survey::shrink(&memory, mitigation.amount)?, lapses_unix_ms: None })
            }
            verb => Err(self.cannot(verb)),
        }
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        if mitigation.verb == Verb::Throttle {
            whole_pause(mitigation.amount)?;
            return Ok(undo.changes.iter().map(|change| change.wanted().to_owned()).collect());
        }
        let epoch = self.client.begin().await?;
        reclaim::refuse_while_saving(&mut self.client).await?;
        let wanted = survey::wanted_bytes(self.memory(&epoch).await?.peak, mitigation.amount)?;
        let aim = |change: &Change| {
            if change.key != MAXMEMORY {
                return change.wanted().to_owned();
            }
            match change.prior.parse::<u64>() {
                Ok(prior) if prior != 0 && prior < wanted => change.prior.clone(),
                Ok(_) | Err(_) => wanted.to_string(),
            }
        };
        Ok(undo.changes.iter().map(aim).collect())
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        self.client.begin().await.map(Some)
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let epoch = self.client.begin().await?;
        // A pause needs none of them, and whoever may pause may perhaps not read them.
        let needs_settings = undo.changes.iter().any(|change| change.key != PAUSE);
        let settings = if needs_settings { self.current_settings().await? } else { Settings::default() };
        let paused = match self.paused_until {
            Some(_) => self.is_paused(),
            None => undo.lapses_unix_ms.is_some_and(|lapses| clock::unix_ms() < lapses),
        };
        let live = |change: &Change| match change.key.as_str() {
            PAUSE => Ok(if paused { "on" } else { "off" }.to_owned()),
            key => told(&settings, key),
        };
        let values = undo.changes.iter().map(live).collect::<Result<_, _>>()?;
        self.peak.recall(undo);
        Ok(Live { epoch, values })
    }

    /// What clients hold comes first; limit and policy change together or not at all. Where somebody set one of them since
    /// the last look, nothing is lowered: a limit without the policy that goes with it would refuse writes.
    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure> {
        if self.client.begin().await? != expected_epoch {
            return Err(Failure::epoch_changed("Redis"));
        }
        let theirs = self.set_meanwhile(orders).await?;
        if !theirs.is_empty() && after == AfterRefusal::Stop {
            return Err(Failure::set_meanwhile(&theirs));
        }
        let mut first = Ok(());
        let mut set: Vec<&[u8]> = vec![b"CONFIG", b"SET"];
        for order in orders.iter().filter(|order| !theirs.contains(&order.key)) {
            let (key, value) = (order.key.as_bytes(), order.value.as_bytes());
            let given = match (order.key, order.value) {
                (PAUSE, "on") => self.pause().await,
                (PAUSE, _) => self.resume().await,
                (CLIENTS, _) => self.client.ask(&[b"CONFIG", b"SET", key, value]).await.map(|_| ()),
                (MAXMEMORY | POLICY, _) => {
                    set.extend([key, value]);
                    Ok(())
                }
                (key, _) => Err(Failure::unsupported(format!("`{key}` cannot be set at Redis"))),
            };
            let is_refusal = matches!(&given, Err(failure) if failure.outcome == Outcome::Refused);
            first = first.and(given);
            if first.is_err() && !(is_refusal && after == AfterRefusal::GoOn) {
                return first;
            }
        }
        if set.len() > 2 {
            first = first.and(self.client.ask(&set).await.map(|_| ()));
        }
        if theirs.is_empty() { first } else { first.and(Err(Failure::set_meanwhile(&theirs))) }
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Release => reclaim::release(&mut self.client).await,
            Verb::Flush => reclaim::flush(&mut self.client, consent).await,
            verb => Err(self.cannot(verb)),
        }
    }

    /// Where an undo lowers a limit.
    async fn measure(&mut self, undo: &Undo) -> Before {
        let lowers = |key: &str| undo.changes.iter().any(|change| change.key == key);
        if !lowers(MAXMEMORY) && !lowers(CLIENTS) {
            return Before::default();
        }
        if self.client.begin().await.is_err() {
            return Before::default();
        }
        let buffered = if lowers(CLIENTS) { reclaim::buffered(&mut self.client).await.ok().flatten() } else { None };
        let used = reclaim::used(&mut self.client).await.ok().flatten();
        Before { resident: reclaim::resident(&mut self.client).await.ok(), used, buffered }
    }

    /// What lowering the limits gave back. `None` where it cannot be told: they are in force all the same.
    async fn reclaimed(&mut self, undo: &Undo, before: Before, _consent: &Consent<'_>) -> Option<Done> {
        let Before { resident, used, buffered } = before;
        let before = resident?;
        let limit = |key: &str| undo.changes.iter().find(|change| change.key == key)?.wanted().parse::<u64>().ok();
        let relieved = match (limit(CLIENTS), buffered) {
            (Some(limit), Some(held)) if held > limit => {
                Some(reclaim::relieved(&mut self.client, limit, held).await.ok()?)
            }
            _ => None,
        };
        let relieves = relieved.is_some();
        let evicted = match limit(MAXMEMORY) {
            Some(limit) => reclaim::evicted(&mut self.client, limit, before).await.ok()?,
            None => reclaim::purge(&mut self.client, "purging", before).await.ok()?,
        };
        let detail = match relieved {
            Some(relieved) => format!("{relieved}; {}", evicted.detail),
            None => evicted.detail,
        };
        let was_above = limit(MAXMEMORY).zip(used).is_some_and(|(limit, used)| used > limit.saturating_add(NOISE));
        let outcome = if was_above || relieves { evicted.outcome } else { Outcome::Applied };
        Some(Done { outcome, detail, ..evicted })
    }

    /// A command is done when it is answered.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        survey::strictness(key, value)
    }

    /// Somebody may have had it saved: CONFIG REWRITE.
    fn outlives(&self, key: &str) -> bool {
        matches!(key, MAXMEMORY | POLICY | CLIENTS)
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        self.client.begin().await?;
        let reply = self.client.ask(&[b"INFO"]).await?;
        let number = |field: &str| client::field_of(reply.text()?, field)?.parse::<u64>().ok();
        let commands = number("total_commands_processed").map(|all| all.saturating_sub(self.client.asked()));
        let per_second = commands.and_then(|all| self.came.per_second(all as f64, Instant::now().into_std()));
        // One of them is ours.
        let sessions = number("connected_clients").map(|clients| clients.saturating_sub(1));
        let (plain, bytes) = (number("tcp_port"), number("used_memory"));
        // The members of a cluster talk over a port of their own.
        let plain = plain.filter(|_| number("cluster_enabled") == Some(0));
        let ports = self.ports(plain).await;
        Ok(Gives { per_second, sessions, bytes, ports, ..Gives::default() })
    }

    fn is_lease(&self, key: &str) -> bool {
        key == PAUSE
    }

    /// Eviction and expiry stop while writes are paused, and an UNLINK would wait for the end of the pause.
    fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
        matches!((wanted, in_force), (Verb::Throttle, Verb::Shrink) | (Verb::Shrink | Verb::Flush, Verb::Throttle))
    }
}

impl Redis {
    /// Where it listens, without TLS and with it; it passes nothing on.
    async fn ports(&mut self, plain: Option<u64>) -> Ports {
        let Some(plain) = plain.and_then(|port| u16::try_from(port).ok()) else { return Ports::default() };
        let encrypted = match self.client.ask(&[b"CONFIG", b"GET", b"tls-port"]).await {
            Ok(reply) => reply.array().and_then(|pair| pair.get(1)?.text()?.parse::<u16>().ok()),
            Err(_) => return Ports::default(),
        };
        Ports::last(Some([Some(plain), encrypted].into_iter().flatten().filter(|port| *port != 0).collect()))
    }

    #[must_use]
    pub fn new(target: target::Redis) -> Self {
        Self { client: Client::new(target), peak: RecentPeak::default(), paused_until: None, came: Passed::default() }
    }

    async fn pause(&mut self) -> Result<(), Failure> {
        let lease = LEASE.as_millis().to_string();
        let earlier = self.paused_until.replace(Instant::now() + LEASE);
        let paused = self.client.ask(&[b"CLIENT", b"PAUSE", lease.as_bytes(), b"WRITE"]).await;
        if matches!(&paused, Err(failure) if failure.outcome != Outcome::TimedOut) {
            self.paused_until = earlier;
        }
        paused.map(|_| ())
    }

    async fn resume(&mut self) -> Result<(), Failure> {
        self.client.ask(&[b"CLIENT", b"UNPAUSE"]).await?;
        self.paused_until = Some(Instant::now());
        Ok(())
    }

    async fn current_settings(&mut self) -> Result<Settings, Failure> {
        let reply = self.client.ask(&[b"CONFIG", b"GET", b"maxmemory*"]).await?;
        let pair = |pair: &[Reply]| Some((pair.first()?.text()?.to_owned(), pair.get(1)?.text()?.to_owned()));
        Ok(reply.array().unwrap_or_default().chunks(2).filter_map(pair).collect())
    }

    /// As the last thing before it is overwritten. A pause is not told, so nobody can tell whose it is.
    async fn set_meanwhile<'a>(&mut self, orders: &[Order<'a>]) -> Result<Vec<&'a str>, Failure> {
        let looked = || orders.iter().filter(|order| order.key != PAUSE && order.over.is_some());
        if looked().next().is_none() {
            return Ok(Vec::new());
        }
        let settings = self.current_settings().await?;
        let mut theirs = Vec::new();
        for order in looked() {
            if order.turn(&told(&settings, order.key)?) == Turn::Theirs {
                theirs.push(order.key);
            }
        }
        Ok(theirs)
    }

    async fn memory(&mut self, epoch: &str) -> Result<Memory, Failure> {
        let settings = self.current_settings().await?;
        let limit = told(&settings, MAXMEMORY)?.parse().map_err(|_| untold(MAXMEMORY))?;
        let used = reclaim::used(&mut self.client).await?.ok_or_else(|| untold("used_memory"))?;
        let now = if limit == 0 { used } else { used.min(limit) };
        let peak = self.peak.of(epoch, now);
        let policy = told(&settings, POLICY)?;
        let buffers = self.buffers(&settings).await?;
        Ok(Memory { limit, peak, policy, cache_only: self.client.target().cache_only, buffers })
    }

    async fn buffers(&mut self, settings: &Settings) -> Result<Option<Buffers>, Failure> {
        let (Some(wanted), Some(limit)) = (self.client.target().client_buffers, settings.get(CLIENTS)) else {
            return Ok(None);
        };
        let held = reclaim::buffered(&mut self.client).await?;
        Ok(held.map(|held| Buffers { limit: limit.clone(), held, wanted }))
    }

    /// What was not declared needs no right.
    fn offered(&self) -> Vec<Verb> {
        let target = self.client.target();
        target.verbs().iter().copied().filter(|verb| !target.is_undeclared(*verb)).collect()
    }

    fn is_paused(&self) -> bool {
        self.paused_until.is_some_and(|until| Instant::now() < until)
    }
}

/// What Redis does not tell is nobody's: neither ours nor an operator's.
fn told(settings: &Settings, key: &str) -> Result<String, Failure> {
    settings.get(key).cloned().ok_or_else(|| untold(key))
}

fn untold(what: &str) -> Failure {
    Failure::unsupported(format!("Redis does not report its {what}"))
}

/// Redis can pause all writes or none.
fn whole_pause(amount: Amount) -> Result<(), Failure> {
    match amount {
        Amount::Whole => Ok(()),
        Amount::Keep(kept) if kept <= 0.0 => Ok(()),
        Amount::Keep(_) | Amount::Bytes(_) => Err(Failure::unsupported(
            "Redis can only pause all writes: write `to = \"0%\"`, or throttle the clients in front of it",
        )),
    }
}
