//! Giving Redis's memory back to the node, and measuring that it did: the resident set before and after, never the
//! server's word. `MEMORY PURGE` loses nothing; flushing does, and only what the operator declared.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{Client, field_of, place};
use super::resp::Reply;
use crate::control::consent::Consent;
use crate::control::failure::Failure;
use crate::control::resident;
use crate::control::service::Done;
use crate::policy::mitigation::Outcome;
use crate::policy::unit::Unit;

/// Redis reads its resident set ten times a second (`serverCron` at `hz 10`).
const RSS_AGE: Duration = Duration::from_millis(120);
/// 200,000 keys are unlinked in 0.94 s and freed in 4 s (measured on Redis 7.0).
const FLUSH_BUDGET: Duration = Duration::from_secs(10);
/// 330 MB are freed in the background in 0.2 s, 200 MB evicted in under 1 s (measured on Redis 7.0).
const SETTLE_BUDGET: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);
/// INFO counts the buffers that it is written to: what Redis reports can stay that little above the limit for seconds.
const INFO_BYTES: u64 = 64 << 10;
/// Less than this is what a resident set moves by anyway.
const NOISE_BYTES: i64 = 1 << 20;
/// Keys per step: a step stays under 11 ms for the other clients (measured).
const SCAN_COUNT: &[u8] = b"500";

pub async fn release(client: &mut Client) -> Result<Done, Failure> {
    client.begin().await?;
    refuse_while_saving(client).await?;
    let before = resident(client).await?;
    purge(client, "MEMORY PURGE", before).await
}

/// Everything, where the operator declared that everything can be rebuilt; else the keys of the pattern.
pub async fn flush(client: &mut Client, consent: &Consent<'_>) -> Result<Done, Failure> {
    let pattern = client.target().flush_pattern.clone();
    let cache_only = client.target().cache_only;
    if !cache_only && pattern.is_none() {
        return Err(Failure::refused(
            "flush needs to know what may be lost: set `flush_pattern = \"cache:*\"` on this control, or \
             `cache_only = true` where all of it can be rebuilt",
        ));
    }
    client.begin().await?;
    match saving(client).await? {
        // It ends a snapshot that is under way, and what that holds goes with it.
        Some(Saving::Snapshot(_)) if cache_only => {}
        Some(save) => return Err(save.refusal()),
        None => {}
    }
    let before = resident(client).await?;
    let what = match pattern {
        Some(pattern) if !cache_only => unlink(client, &pattern, consent).await?,
        Some(_) | None => {
            consent.begin();
            client.ask(&[b"FLUSHALL", b"ASYNC"]).await?;
            "FLUSHALL".to_owned()
        }
    };
    freed_in_background(client).await?;
    purge_too(client, &what, before).await
}

/// What its keys and all else take.
pub async fn used(client: &mut Client) -> Result<Option<u64>, Failure> {
    client.info("memory", "used_memory").await
}

/// After the limit came down: waits for the eviction, then gives the memory back.
pub async fn evicted(client: &mut Client, limit: u64, before: u64) -> Result<Done, Failure> {
    let until = Instant::now() + SETTLE_BUDGET;
    client.extend();
    let enough = limit.saturating_add(INFO_BYTES);
    loop {
        match used(client).await? {
            Some(used) if used <= enough => return purge_too(client, "evicting", before).await,
            Some(used) if Instant::now() > until => {
                let used = Unit::Bytes.show(used as f64);
                return purge_too(client, &format!("evicting, which left {used} in use"), before).await;
            }
            Some(_) => {}
            None => return purge_too(client, "evicting", before).await,
        }
        sleep(POLL).await;
        client.extend();
    }
}

/// After clients were to hold less: Redis cuts the largest until the rest fits.
pub async fn relieved(client: &mut Client, limit: u64, held: u64) -> Result<String, Failure> {
    let until = Instant::now() + SETTLE_BUDGET;
    let mut left = held;
    while left > limit && Instant::now() < until {
        client.extend();
        left = buffered(client).await?.unwrap_or_default();
        if left > limit {
            sleep(POLL).await;
        }
    }
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    Ok(format!("client buffers {} → {}", show(held), show(left)))
}

/// What clients hold, replicas and monitors aside.
pub async fn buffered(client: &mut Client) -> Result<Option<u64>, Failure> {
    client.info("memory", "mem_clients_normal").await
}

/// A copy of the process that writes everything to disk, and keeps each page that the server gives up until it ends.
enum Saving {
    /// Seconds so far.
    Snapshot(u64),
    Rewrite(u64),
}

impl Saving {
    /// Measured with Redis 7.0: an eviction took 87 of 197 MB off the server, and not one off both processes together.
    fn refusal(&self) -> Failure {
        let (what, seconds) = match self {
            Saving::Snapshot(seconds) => ("saving a snapshot", seconds),
            Saving::Rewrite(seconds) => ("rewriting its append-only file", seconds),
        };
        Failure::refused(format!(
            "Redis is {what}, for {seconds} s now: its copy keeps all memory until that ends, so nothing would be \
             freed; it is tried again later"
        ))
    }
}

pub async fn refuse_while_saving(client: &mut Client) -> Result<(), Failure> {
    saving(client).await?.map_or(Ok(()), |save| Err(save.refusal()))
}

async fn saving(client: &mut Client) -> Result<Option<Saving>, Failure> {
    let reply = client.ask(&[b"INFO", b"persistence"]).await?;
    let number = |field: &str| field_of(reply.text()?, field)?.parse::<u64>().ok();
    if number("rdb_bgsave_in_progress") == Some(1) {
        return Ok(Some(Saving::Snapshot(number("rdb_current_bgsave_time_sec").unwrap_or_default())));
    }
    let rewrites = number("aof_rewrite_in_progress") == Some(1);
    Ok(rewrites.then(|| Saving::Rewrite(number("aof_current_rewrite_time_sec").unwrap_or_default())))
}

/// As the kernel counts it now; as Redis last looked, where its process cannot be seen from here.
pub async fn resident(client: &mut Client) -> Result<u64, Failure> {
    if let Some(bytes) = client.process().and_then(resident::bytes) {
        return Ok(bytes);
    }
    let resident = client.info("memory", "used_memory_rss").await?;
    resident.ok_or_else(|| Failure::unsupported(format!("no used_memory_rss from {}", place(&client.target().address))))
}

pub async fn purge(client: &mut Client, what: &str, before: u64) -> Result<Done, Failure> {
    client.extend();
    client.ask(&[b"MEMORY", b"PURGE"]).await?;
    measured(client, what, before).await
}

/// After something that gives memory back by itself, where it may not be purged either.
async fn purge_too(client: &mut Client, what: &str, before: u64) -> Result<Done, Failure> {
    match purge(client, what, before).await {
        Err(failure) if matches!(failure.outcome, Outcome::Refused | Outcome::Unsupported) => {
            measured(client, &format!("{what}, without a purge ({})", failure.detail), before).await
        }
        purged => purged,
    }
}

async fn measured(client: &mut Client, what: &str, before: u64) -> Result<Done, Failure> {
    sleep(RSS_AGE).await;
    client.extend();
    let after = resident(client).await?;
    let freed = i64::try_from(before).unwrap_or(i64::MAX) - i64::try_from(after).unwrap_or(i64::MAX);
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    Ok(Done {
        outcome: if freed < NOISE_BYTES { Outcome::NoEffect } else { Outcome::Applied },
        detail: format!("{what}: resident {} → {}", show(before), show(after)),
        freed_bytes: Some(freed),
    })
}

async fn unlink(client: &mut Client, pattern: &str, consent: &Consent<'_>) -> Result<String, Failure> {
    let until = Instant::now() + FLUSH_BUDGET;
    let mut cursor = b"0".to_vec();
    let mut gone: i64 = 0;
    loop {
        client.extend();
        let step = client.ask(&[b"SCAN", &cursor, b"MATCH", pattern.as_bytes(), b"COUNT", SCAN_COUNT]).await?;
        let (next, keys) = scanned(&step).ok_or_else(|| Failure::unsupported("SCAN answered something unknown"))?;
        if !keys.is_empty() {
            consent.begin();
            gone = gone.saturating_add(unlink_these(client, &keys).await?);
        }
        if next == b"0" {
            return Ok(format!("unlinked {gone} keys of {pattern}"));
        }
        if let Err(why) = consent.goes_on().await {
            return Ok(format!("unlinked {gone} keys of {pattern}, then stopped ({why})"));
        }
        if Instant::now() > until {
            return Ok(format!("unlinked {gone} keys of {pattern} in {} s, more are left", FLUSH_BUDGET.as_secs()));
        }
        cursor = next.to_vec();
    }
}

/// Keys of a cluster that are not of one slot must be named one by one.
async fn unlink_these(client: &mut Client, keys: &[&[u8]]) -> Result<i64, Failure> {
    let words = [&[b"UNLINK".as_slice()], keys].concat();
    match client.hear(&words).await? {
        Reply::Error(error) if error.starts_with("CROSSSLOT") => {}
        Reply::Error(error) => return Err(client.complaint(&words, &error)),
        reply => return Ok(unlinked(&reply)),
    }
    let mut gone: i64 = 0;
    for key in keys {
        client.extend();
        gone = gone.saturating_add(unlinked(&client.ask(&[b"UNLINK", key]).await?));
    }
    Ok(gone)
}

fn unlinked(reply: &Reply) -> i64 {
    if let Reply::Integer(keys) = reply { *keys } else { 0 }
}

fn scanned(step: &Reply) -> Option<(&[u8], Vec<&[u8]>)> {
    let [cursor, keys] = step.array()? else { return None };
    Some((cursor.bytes()?, keys.array()?.iter().filter_map(Reply::bytes).collect()))
}

async fn freed_in_background(client: &mut Client) -> Result<(), Failure> {
    let until = Instant::now() + SETTLE_BUDGET;
    client.extend();
    while client.info("memory", "lazyfree_pending_objects").await?.unwrap_or(0) > 0 && Instant::now() < until {
        sleep(POLL).await;
        client.extend();
    }
    Ok(())
}
