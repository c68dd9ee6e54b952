//! Giving memcached's memory back to the node. A lower limit alone frees nothing, ever (measured); a page that is moved
//! out of its class drops its items and is freed as soon as memcached is over its limit.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::client::{Class, Client, complaint};
use super::survey::{self, LEAST_BYTES, MIB};
use crate::control::consent::Consent;
use crate::control::failure::Failure;
use crate::control::resident::{self, NOISE_BYTES};
use crate::control::service::Done;
use crate::policy::mitigation::Outcome;

/// 300 pages move in 0.3 s (measured on memcached 1.6.18, two cores): this is for about 8 GiB.
const BUDGET: Duration = Duration::from_secs(10);
/// That, and what is asked before and after: a conversation each.
pub const LONGEST: Duration = Duration::from_secs(20);
/// It moves one page after the other, in its own thread.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// A page that is not free by now has items that somebody holds.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);
/// Pages between two looks at which class has most.
const ROUND: u64 = 64;
const TRAP: &str = "its allocator keeps the freed pages: set `Environment=MALLOC_MMAP_THRESHOLD_=131072` in \
                    memcached.service";

/// What moving pages came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moved {
    pub pages: u64,
    /// Still above what was wanted.
    pub left: u64,
    /// Why nobody wants more of it.
    pub stopped: Option<&'static str>,
}

impl Moved {
    /// Where pages were to go and none did, whatever else became less came from somewhere else.
    const fn outcome(self) -> Outcome {
        if self.pages == 0 && self.left > 0 { Outcome::NoEffect } else { Outcome::Applied }
    }
}

/// Moves pages out until no more than this many are left, most of the largest class, or until its time is over.
pub async fn move_out(client: &mut Client, wanted: u64, consent: &Consent<'_>) -> Result<Moved, Failure> {
    let until = Instant::now() + BUDGET;
    let mut moved = Moved::default();
    loop {
        client.extend();
        let slabs = client.slabs().await?;
        moved.left = slabs.pages.saturating_sub(wanted);
        // A class keeps one page.
        let class = slabs.largest.filter(|class| class.pages > 1);
        let (Some(class), 1..) = (class, moved.left) else { return Ok(moved) };
        let pages = round(client, class, moved.left.min(class.pages - 1).min(ROUND), until).await?;
        moved.pages += pages;
        moved.left = moved.left.saturating_sub(pages);
        moved.stopped = consent.goes_on().await.err();
        if moved.stopped.is_some() || pages == 0 || Instant::now() > until {
            return Ok(moved);
        }
        settle(client, until).await?;
    }
}

/// How many of a class went. What is moved into no class is freed.
async fn round(client: &mut Client, class: Class, wanted: u64, until: Instant) -> Result<u64, Failure> {
    let command = format!("slabs reassign {} 0", class.id);
    let mut patience = Instant::now() + BUSY_PATIENCE;
    let mut pages = 0;
    while pages < wanted && Instant::now() < patience.min(until) {
        client.extend();
        let said = client.say(&command).await?;
        match said.split(' ').next() {
            Some("OK") => {
                pages += 1;
                patience = Instant::now() + BUSY_PATIENCE;
            }
            Some("BUSY") => sleep(BUSY_PAUSE).await,
            Some("NOSPARE" | "UNSAFE") => return Ok(pages),
            Some(_) | None => return Err(complaint(&command, &said)),
        }
    }
    Ok(pages)
}

/// The last page of a round is still on its way, and would be counted twice.
async fn settle(client: &mut Client, until: Instant) -> Result<(), Failure> {
    let until = until.min(Instant::now() + BUSY_PATIENCE);
    while client.stats("stats").await?.get("slab_reassign_running").is_some_and(|running| running != "0") {
        if Instant::now() > until {
            return Ok(());
        }
        sleep(BUSY_PAUSE).await;
        client.extend();
    }
    Ok(())
}

/// After the limit came down to this. With the process, and what it held before.
pub async fn fit(
    client: &mut Client,
    limit: u64,
    process: Option<(u32, u64)>,
    consent: &Consent<'_>,
) -> Result<Done, Failure> {
    let moved = move_out(client, limit / MIB, consent).await?;
    let left = match (moved.left, moved.stopped) {
        (0, _) => String::new(),
        (_, Some(why)) => format!(", then stopped ({why}), the rest goes as it is replaced"),
        (left, None) => format!(", {left} MiB are still above the limit and go as they are replaced"),
    };
    let done =
        Done { outcome: moved.outcome(), detail: format!("dropped {} pages{left}", moved.pages), freed_bytes: None };
    let after = process.and_then(|(process, _)| resident::bytes(process));
    Ok(measured(done, moved.pages, process.map(|(_, before)| before), after))
}

/// Drops everything. Freed pages stay with memcached while it is below its limit, so the limit is lowered for a moment.
/// Both orders are in one packet, so that nothing is left lowered wherever the guardian is killed.
pub async fn flush(client: &mut Client, consent: &Consent<'_>) -> Result<Done, Failure> {
    let server = client.begin().await?;
    let before = server.process.and_then(resident::bytes);
    consent.begin();
    client.order("flush_all").await?;
    if !survey::is_settable(server.limit) || is_old(&server.version) {
        let detail = "flush_all; its memory stays with it: start memcached 1.6 or newer with `-m 8` or more".to_owned();
        return Ok(Done { outcome: Outcome::NoEffect, detail, freed_bytes: None });
    }
    let moved = move_out(client, 0, &Consent::always()).await?;
    client.extend();
    client.order_both(&survey::command(LEAST_BYTES), &survey::command(server.limit)).await?;
    let after = client.begin().await?;
    if after.epoch == server.epoch && after.limit == LEAST_BYTES {
        client.order(&survey::command(server.limit)).await?;
    }
    let done = Done { outcome: moved.outcome(), detail: "flush_all".to_owned(), freed_bytes: None };
    Ok(measured(done, moved.pages, before, server.process.and_then(resident::bytes)))
}

/// Before 1.6 each answer is sent before the next command of a packet is read, so that a lost reader loses it.
fn is_old(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) < (Some(1), Some(6))
}

/// What came back, by the resident set alone.
fn measured(done: Done, pages: u64, before: Option<u64>, after: Option<u64>) -> Done {
    let (Some(before), Some(after)) = (before, after) else {
        let detail = format!("{}; not measured: its process cannot be seen from here", done.detail);
        return Done { detail, ..done };
    };
    let (freed, shown) = resident::compared(before, after);
    let expected = i64::try_from(pages * MIB).unwrap_or(i64::MAX);
    let trap = if freed < expected / 2 { format!("; {TRAP}") } else { String::new() };
    let is_nothing = expected > 0 && freed < NOISE_BYTES;
    Done {
        outcome: if is_nothing { Outcome::NoEffect } else { done.outcome },
        detail: format!("{}: {shown}{trap}", done.detail),
        freed_bytes: Some(freed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(pages: u64, before: Option<u64>, after: Option<u64>) -> Done {
        let done = Done { outcome: Outcome::Applied, detail: "dropped".into(), freed_bytes: None };
        measured(done, pages, before, after)
    }

    #[test]
    fn only_the_resident_set_says_what_came_back() {
        let good = done(300, Some(431 * MIB), Some(134 * MIB));
        assert_eq!((good.outcome, good.freed_bytes), (Outcome::Applied, Some(297 << 20)));
        assert!(!good.detail.contains("MALLOC_MMAP_THRESHOLD_"), "{}", good.detail);
        let trapped = done(300, Some(430 * MIB), Some(430 * MIB));
        assert_eq!(trapped.outcome, Outcome::NoEffect);
        assert!(trapped.detail.contains("MALLOC_MMAP_THRESHOLD_=131072"), "{}", trapped.detail);
        let far = done(300, None, None);
        assert_eq!((far.outcome, far.freed_bytes), (Outcome::Applied, None));
        assert!(far.detail.contains("not measured"), "{}", far.detail);
        assert_eq!(done(0, Some(MIB), Some(MIB)).outcome, Outcome::Applied, "nothing was to come back");
    }

    #[test]
    fn pages_that_stay_are_no_effect() {
        let outcome = |pages, left| Moved { pages, left, stopped: None }.outcome();
        assert_eq!(outcome(0, 300), Outcome::NoEffect);
        assert_eq!([outcome(0, 0), outcome(3, 300), outcome(3, 0)], [Outcome::Applied; 3]);
    }

    #[test]
    fn old_versions_lose_the_second_of_two_orders() {
        for (version, old) in [("1.4.33", true), ("1.5.22", true), ("1.6.0", false), ("1.6.18", false), ("2.0", false)]
        {
            assert_eq!(is_old(version), old, "{version}");
        }
        assert!(is_old("") && is_old("x"));
    }
}
