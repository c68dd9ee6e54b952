//! memcached in its text protocol: a lower limit with the pages above it dropped, and everything dropped. Never `shutdown`,
//! and nothing that a restart would not undo.

mod client;
mod pages;
mod settings;
mod survey;
pub mod target;

use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::consent::Consent;
use super::failure::Failure;
use super::passed::Passed;
use super::recent_peak::RecentPeak;
use super::resident;
use super::rights::Rights;
use super::service::{AfterRefusal, Aim, Before, Done, Order, Probe, Service, Turn};
use super::standing::Live;
use super::undo::Undo;
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};
use crate::policy::ports::Ports;
use crate::policy::unit::Unit;
use client::{Client, Server, Stats};
use survey::{LIMIT, MIB, Memory};

pub struct Memcached {
    client: Client,
    cache_only: bool,
    /// Pages in use when the limit was first lowered in this life of the server: its epoch, and bytes.
    peak: RecentPeak,
    came: Passed,
}

#[async_trait(?Send)]
impl Service for Memcached {
    fn name(&self) -> &'static str {
        "memcached"
    }

    async fn probe(&mut self) -> Result<Probe, Failure> {
        let server = self.client.begin().await?;
        let settings = self.client.stats("stats settings").await?;
        let mut rights = Rights::default();
        rights.note(Verb::Shrink, self.may_shrink(&settings).await)?;
        if self.cache_only {
            rights.note(Verb::Flush, may_flush(&settings))?;
        }
        let may = rights.told()?;
        let limit = Unit::Bytes.show(server.limit as f64);
        let memory = match server.process.and_then(resident::bytes) {
            Some(bytes) => format!("resident {}", Unit::Bytes.show(bytes as f64)),
            None => "memory freed cannot be measured: its process cannot be seen from here".to_owned(),
        };
        Ok(Probe::usable(format!("memcached {} answers: {may}; limit {limit}, {memory}", server.version)))
    }

    async fn look(&mut self) -> Result<Probe, Failure> {
        self.client.begin().await?;
        Ok(Probe::usable("memcached answers"))
    }

    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        self.client.begin().await?;
        let settings = self.client.stats("stats settings").await?;
        match verb {
            Verb::Shrink => self.may_shrink(&settings).await,
            Verb::Flush => may_flush(&settings),
            verb => Err(self.cannot(verb)),
        }
    }

    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        if mitigation.verb != Verb::Shrink {
            return Err(self.cannot(mitigation.verb));
        }
        let server = self.client.begin().await?;
        let memory = self.memory(&server).await?;
        Ok(Undo { epoch: server.epoch, changes: survey::shrink(memory, mitigation.amount)?, lapses_unix_ms: None })
    }

    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let server = self.client.begin().await?;
        let wanted = survey::wanted_bytes(self.memory(&server).await?.peak, mitigation.amount)?;
        let aim = |prior: &str| match prior.parse::<u64>() {
            Ok(prior) => wanted.min(prior).to_string(),
            Err(_) => wanted.to_string(),
        };
        Ok(undo.changes.iter().map(|change| aim(&change.prior)).collect())
    }

    async fn life(&mut self) -> Result<Option<String>, Failure> {
        Ok(Some(self.client.begin().await?.epoch))
    }

    /// On another node there may be one of the same number that began in the same second.
    fn names(&self, life: &str) -> Vec<String> {
        if life.starts_with(':') { Vec::new() } else { vec![life.to_owned()] }
    }

    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure> {
        let server = self.client.begin().await?;
        let live = |key: &str| match key {
            LIMIT => Ok(server.limit.to_string()),
            key => Err(unknown(key)),
        };
        let values = undo.changes.iter().map(|change| live(&change.key)).collect::<Result<_, _>>()?;
        self.peak.recall(undo);
        Ok(Live { epoch: server.epoch, values })
    }

    async fn write(&mut self, expected_epoch: &str, orders: &[Order<'_>], _after: AfterRefusal) -> Result<(), Failure> {
        let server = self.client.begin().await?;
        if server.epoch != expected_epoch {
            return Err(Failure::epoch_changed("memcached"));
        }
        for order in orders {
            match order.turn(&server.limit.to_string()) {
                Turn::Write => {}
                Turn::Done => continue,
                Turn::Theirs => return Err(Failure::set_meanwhile(&[order.key])),
            }
            let limit = order.value.parse().ok().filter(|limit| survey::is_settable(*limit));
            match (order.key, limit) {
                (LIMIT, Some(limit)) => self.client.order(&survey::command(limit)).await?,
                (key, _) => return Err(unknown(key)),
            }
        }
        Ok(())
    }

    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        match mitigation.verb {
            Verb::Flush if self.cache_only => pages::flush(&mut self.client, consent).await,
            Verb::Flush => Err(Failure::refused(
                "flush drops everything in this memcached: set `cache_only = true` on this control where all of it can \
                 be rebuilt, or shrink it",
            )),
            verb => Err(self.cannot(verb)),
        }
    }

    async fn gives(&mut self) -> Result<Gives, Failure> {
        self.client.begin().await?;
        let stats = self.client.stats("stats").await?;
        let number = |name: &str| stats.get(name)?.parse::<u64>().ok();
        let came = ["cmd_get", "cmd_set", "cmd_touch", "cmd_meta"].iter().filter_map(|name| number(name)).sum::<u64>();
        // Its listeners are among its connections.
        let per_second = self.came.per_second(came as f64, Instant::now());
        let bytes = number("bytes");
        let ports = Ports::last(port(&self.client.stats("stats settings").await?));
        Ok(Gives { per_second, bytes, ports, ..Gives::default() })
    }

    /// A command is done when it is answered.
    fn grace(&self) -> Duration {
        Duration::ZERO
    }

    /// Only whole mebibytes are ever written.
    fn rounds(&self, _key: &str) -> bool {
        false
    }

    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        survey::strictness(key, value)
    }

    async fn measure(&mut self, _undo: &Undo) -> Before {
        let process = self.client.begin().await.ok().and_then(|server| server.process);
        Before::of_process(process.and_then(resident::bytes))
    }

    /// Drops the pages above the limit: it is in force whatever becomes of that.
    async fn reclaimed(&mut self, undo: &Undo, before: Before, consent: &Consent<'_>) -> Option<Done> {
        let limit = undo.changes.iter().find(|change| change.key == LIMIT)?.wanted().parse().ok()?;
        let done = match self.client.begin().await {
            Ok(server) => pages::fit(&mut self.client, limit, server.process.zip(before.resident), consent).await,
            Err(failure) => Err(failure),
        };
        Some(done.unwrap_or_else(|failure| Done {
            outcome: Outcome::NoEffect,
            detail: format!("pages were not dropped: {}", failure.detail),
            freed_bytes: None,
        }))
    }
}

impl Memcached {
    #[must_use]
    pub fn new(target: target::Memcached) -> Self {
        Self {
            client: Client::new(target.address),
            cache_only: target.cache_only,
            peak: RecentPeak::default(),
            came: Passed::default(),
        }
    }

    /// Its limit may be fixed (`-L`, `-e`), which only shows when it is set: so it is set to what it is, read just before.
    async fn may_shrink(&mut self, settings: &Stats) -> Result<(), Failure> {
        gives_back(settings)?;
        let now = self.client.begin().await?.limit;
        if survey::is_settable(now) {
            self.client.order(&survey::command(now)).await?;
        }
        Ok(())
    }

    async fn memory(&mut self, server: &Server) -> Result<Memory, Failure> {
        let used = self.client.slabs().await?.pages * MIB;
        let peak = self.peak.of(&server.epoch, used.min(server.limit));
        Ok(Memory { limit: server.limit, peak })
    }
}

/// Where it may not evict, a lower limit refuses writes; where pages stay in their class, none comes back.
/// Where it listens, if anywhere. `None` where it was given several addresses, which may have ports of their own.
fn port(settings: &Stats) -> Option<Vec<u16>> {
    let several = settings.get("inter").is_none_or(|addresses| addresses.contains([',', ':']));
    let port: u16 = settings.get("tcpport")?.parse().ok().filter(|_| !several)?;
    Some(if port == 0 { Vec::new() } else { vec![port] })
}

fn gives_back(settings: &Stats) -> Result<(), Failure> {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    if is("evictions", "off") {
        return Err(Failure::refused(
            "memcached was started with `-M`, so that at a lower limit it refuses writes instead of evicting: remove \
             that",
        ));
    }
    if is("slab_reassign", "no") {
        return Err(Failure::refused(
            "memcached was started with `-o no_slab_reassign`, so that no page can be freed: remove that",
        ));
    }
    Ok(())
}

fn may_flush(settings: &Stats) -> Result<(), Failure> {
    if settings.get("flush_enabled").is_some_and(|set| set == "no") {
        return Err(client::complaint("flush_all", "CLIENT_ERROR flush_all not allowed"));
    }
    Ok(())
}

fn unknown(key: &str) -> Failure {
    Failure::unsupported(format!("`{key}` cannot be set at memcached"))
}
