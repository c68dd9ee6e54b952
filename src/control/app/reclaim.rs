//! Giving an application's memory back to the node, and measuring that it did: the resident set of the process that
//! listens, before and after, never what the application claims.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::bytes;
use super::link::Link;
use super::wire::{Hello, Tier};
use crate::control::consent::Consent;
use crate::control::failure::Failure;
use crate::control::resident::{self, NOISE_BYTES};
use crate::control::service::Done;
use crate::policy::mitigation::Outcome;

/// Classes of tiers, as the protocol names them.
pub const REVERSIBLE: &str = "reversible";
pub const LOSSY: &str = "lossy";

/// An application may take its time in the background; a lease of ours lives three times as long.
const FLUSH_BUDGET: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);
/// How long an allocator may take to give back what is free.
const SETTLE_BUDGET: Duration = Duration::from_millis(500);

/// The tiers of a class that may be emptied.
pub fn tiers<'h>(hello: &'h Hello, class: &str, chosen: &[String]) -> Vec<&'h Tier> {
    let may = |tier: &&Tier| tier.class == class && (chosen.is_empty() || chosen.contains(&tier.name));
    let can_flush = hello.caps.iter().any(|cap| cap == "flush");
    hello.tiers.iter().filter(|_| can_flush).filter(may).collect()
}

/// What is to be said about tiers that the control names and the application does not have.
pub fn unknown(hello: &Hello, chosen: &[String]) -> String {
    let known = |name: &&String| hello.tiers.iter().any(|tier| tier.name == **name);
    let missing: Vec<&str> = chosen.iter().filter(|name| !known(name)).map(String::as_str).collect();
    if missing.is_empty() {
        return String::new();
    }
    format!("; it has no tier {}: correct `tiers` of this control", missing.join(", "))
}

/// `pages (24 MiB), sessions`
pub fn list(tiers: &[&Tier]) -> String {
    let shown = |tier: &&Tier| match tier.bytes {
        Some(held) => format!("{} ({})", tier.name, bytes(held)),
        None => tier.name.clone(),
    };
    tiers.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Empties every tier of this class that may be.
pub async fn empty(link: &mut Link, class: &str, key: String, consent: &Consent<'_>) -> Result<Done, Failure> {
    let hello = link.begin().await?;
    let chosen = tiers(&hello, class, &link.target().tiers);
    if chosen.is_empty() {
        return Err(nothing_to_empty(&hello, class, &link.target().tiers));
    }
    let names: Vec<&str> = chosen.iter().map(|tier| tier.name.as_str()).collect();
    let before = resident_of(link);
    consent.begin();
    let claimed = flush(link, &names, &key).await?;
    let what = format!("emptied {}", names.join(", "));
    let Some(before) = before else { return Ok(unmeasured(&what, claimed)) };
    let enough = claimed.map_or(NOISE_BYTES, |claimed| i64::try_from(claimed).unwrap_or(i64::MAX) / 2);
    let until = Instant::now() + SETTLE_BUDGET;
    loop {
        let Some(after) = resident_of(link) else { return Ok(unmeasured(&what, claimed)) };
        let (freed, shown) = resident::compared(before, after);
        if freed >= enough.max(NOISE_BYTES) || Instant::now() >= until {
            let outcome = if freed < NOISE_BYTES { Outcome::NoEffect } else { Outcome::Applied };
            return Ok(Done { outcome, detail: format!("{what}: {shown}"), freed_bytes: Some(freed) });
        }
        sleep(POLL / 5).await;
    }
}

/// What the application claims to have given back. The key lets us ask again without emptying twice.
async fn flush(link: &mut Link, tiers: &[&str], key: &str) -> Result<Option<u64>, Failure> {
    let until = Instant::now() + FLUSH_BUDGET;
    loop {
        link.extend();
        let reply = link.ask("flush", &[("tiers", tiers.into()), ("key", key.into())]).await?;
        match reply.state.as_deref() {
            Some("done") => return Ok(reply.freed_bytes),
            Some("accepted") if Instant::now() < until => sleep(POLL).await,
            Some("accepted") => {
                let seconds = FLUSH_BUDGET.as_secs();
                return Err(Failure::timed_out(format!(
                    "the app still empties {} after {seconds} s",
                    tiers.join(", ")
                )));
            }
            _ => return Err(super::wire::untold(&link.place(), "the `state` of a flush")),
        }
    }
}

fn unmeasured(what: &str, claimed: Option<u64>) -> Done {
    let claim = claimed.map_or_else(String::new, |claimed| format!(" ({} as it says)", bytes(claimed)));
    let detail = format!("{what}{claim}; its resident memory cannot be seen from here, so nothing is measured");
    Done { outcome: Outcome::Applied, detail, freed_bytes: None }
}

fn nothing_to_empty(hello: &Hello, class: &str, chosen: &[String]) -> Failure {
    let all: Vec<String> = hello.tiers.iter().map(|tier| format!("{} ({})", tier.name, tier.class)).collect();
    let has = if all.is_empty() { "no tiers".to_owned() } else { all.join(", ") };
    let help = if chosen.is_empty() { "" } else { "; correct `tiers` of this control" };
    Failure::unsupported(format!("{} has {has}, so none of class {class} that may be emptied{help}", hello.app))
}

/// Bytes; `None` where it cannot be seen.
fn resident_of(link: &Link) -> Option<u64> {
    resident::bytes(link.pid()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(caps: &[&str]) -> Hello {
        let tier = |name: &str, class: &str| Tier { name: name.into(), class: class.into(), bytes: None };
        Hello {
            app: "api".into(),
            instance: "1".into(),
            caps: caps.iter().map(|&cap| cap.to_owned()).collect(),
            tiers: vec![
                tier("heap", "reversible"),
                tier("l1", "lossy"),
                tier("l2", "lossy"),
                tier("gold", "priceless"),
            ],
            max_ttl_ms: 0,
        }
    }

    #[test]
    fn only_tiers_of_the_class_that_may_be_emptied_are() {
        let names = |class: &str, chosen: &[&str]| {
            let chosen: Vec<String> = chosen.iter().map(|&name| name.to_owned()).collect();
            let hello = hello(&["flush"]);
            tiers(&hello, class, &chosen).iter().map(|tier| tier.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(REVERSIBLE, &[]), ["heap"]);
        assert_eq!(names(LOSSY, &[]), ["l1", "l2"]);
        assert_eq!(names(LOSSY, &["l2", "heap"]), ["l2"]);
        assert!(tiers(&hello(&["throttle"]), LOSSY, &[]).is_empty(), "who cannot flush is not asked to");
        let told = nothing_to_empty(&hello(&["flush"]), LOSSY, &["l3".to_owned()]).detail;
        assert!(told.contains("gold (priceless)") && told.contains("correct `tiers`"), "{told}");
        assert_eq!(unknown(&hello(&["flush"]), &["l1".to_owned()]), "");
        let told = unknown(&hello(&["flush"]), &["l1".to_owned(), "l3".to_owned()]);
        assert!(told.contains("no tier l3:"), "a spelling mistake shows before the emergency: {told}");
    }
}
