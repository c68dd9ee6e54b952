//! Giving Varnish's memory back to the node, and measuring that it did by the resident set of its child. A banned object
//! goes when the ban lurker comes by, and its memory only where the allocator lets it go.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::params::{self, Child};
use super::session::{OK, Session};
use super::survey::{AGE, EVERYTHING};
use crate::control::consent::Consent;
use crate::control::failure::Failure;
use crate::control::resident::{self, NOISE_BYTES};
use crate::control::service::Done;
use crate::policy::mitigation::Outcome;

/// The lurker looks at 1,000 objects each 10 ms (`ban_lurker_batch`, `ban_lurker_sleep`): this is for about a million.
const LURKER_BUDGET: Duration = Duration::from_secs(10);
/// A ban that is left alone for longer is not waited for.
const LONGEST_AGE: f64 = 5.0;
const FREEING_PATIENCE: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(100);
/// A child stops and starts in 0.2 s to 0.4 s (measured, 300 MB).
const RESTART_BUDGET: Duration = Duration::from_secs(10);
const START_TRIES: usize = 3;
const TRAP: &str = "its allocator may keep freed memory: unless it is set already, set \
                    `Environment=MALLOC_CONF=narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0` in varnish.service, or \
                    `restart_to_free = true` on this control";
/// Bans go by the seconds of an object's `Date`.
const UNEVEN: &str = "; or few of its objects came at those seconds of a minute";

/// Of a new child no share of the old one's memory is expected, and its allocator keeps nothing.
const NO_SHARE: f64 = 0.0;

/// What is to go.
pub struct Loss<'a> {
    pub ban: &'a str,
    /// Percent of what is there.
    pub share: f64,
}

/// Everything, at once: nobody is served for a moment.
pub async fn flush_by_restart(session: &mut Session, consent: &Consent<'_>) -> Result<Done, Failure> {
    let child = running(session).await?;
    consent.begin();
    restart(session, child).await
}

/// Everything.
pub async fn flush(session: &mut Session, consent: &Consent<'_>) -> Result<Done, Failure> {
    let child = running(session).await?;
    let age = params::show(session, AGE).await?;
    consent.begin();
    if age.seconds().is_none_or(|seconds| seconds > LONGEST_AGE) {
        session.order(&format!("ban {EVERYTHING}")).await?;
        let detail = format!(
            "everything is banned, but nothing came back yet: Varnish leaves it until {AGE} is over, {} s; let `shrink` \
             come first, which lowers that, or start varnishd with `-p {AGE}=1`",
            age.value
        );
        return Ok(Done { outcome: Outcome::NoEffect, detail, freed_bytes: None });
    }
    let before = child.resident();
    ban(session, &Loss { ban: EVERYTHING, share: 100.0 }, before).await
}

/// Bans, waits until the lurker is through, and measures.
pub async fn ban(session: &mut Session, loss: &Loss<'_>, before: Option<u64>) -> Result<Done, Failure> {
    let until = Instant::now() + LURKER_BUDGET;
    session.order(&format!("ban {}", loss.ban)).await?;
    let mut is_through = false;
    while !is_through && Instant::now() < until {
        sleep(POLL).await;
        session.extend();
        // One that is done with is listed without its words.
        is_through = !session.order("ban.list").await?.contains(loss.ban);
    }
    session.extend();
    let enough = before.map(|before| before - (expected(before, loss.share) / 2.0) as u64);
    let after = settled(session, until, enough).await?;
    let what = if loss.share < 100.0 {
        format!("banned about {:.0} % of the objects", loss.share)
    } else {
        "banned all objects".to_owned()
    };
    let what = if is_through { what } else { format!("{what}, the ban lurker is still at it") };
    Ok(measured(&what, loss.share, before, after))
}

/// Both orders in one packet: Varnish carries out the second also where nobody is left to read what it says to the first.
async fn restart(session: &mut Session, child: Child) -> Result<Done, Failure> {
    let before = child.resident();
    // A child that hangs would hang the manager in `stop`, and then nobody starts it again.
    session.order("ban.list").await?;
    let until = Instant::now() + RESTART_BUDGET;
    session.send("stop\nstart").await?;
    session.hear_until(until).await?;
    session.hear_until(until).await?;
    for _ in 0..START_TRIES {
        session.extend();
        if params::processes(session).await?.child.is_some() {
            return Ok(measured("restarted the child", NO_SHARE, before, settled(session, until, None).await?));
        }
        session.send("start").await?;
        session.hear_until(until).await?;
    }
    Err(Failure::refused("Varnish's child was stopped and does not start again: run `varnishadm start` now"))
}

pub async fn running(session: &mut Session) -> Result<Child, Failure> {
    let child = params::processes(session).await?.child;
    let reply = session.ask("status").await?;
    match child {
        Some(child) if reply.status == OK && reply.text.contains("running") => Ok(child),
        Some(_) | None => {
            Err(Failure::refused("Varnish's child does not run: `varnishadm start`, and see `varnishadm panic.show`"))
        }
    }
}

/// The resident set once it has stopped falling; where it has hardly begun, Varnish's thread that frees gets another moment.
async fn settled(session: &mut Session, until: Instant, enough: Option<u64>) -> Result<Option<u64>, Failure> {
    let child = running(session).await?;
    let mut last = child.resident();
    let patience = until.min(Instant::now() + FREEING_PATIENCE);
    loop {
        sleep(POLL).await;
        let now = child.resident();
        let is_falling = now.zip(last).is_some_and(|(now, last)| now < last);
        last = now;
        let is_enough = last.zip(enough).is_none_or(|(last, enough)| last <= enough);
        if (!is_falling && (is_enough || Instant::now() > patience)) || Instant::now() > until {
            return Ok(last);
        }
    }
}

fn expected(before: u64, share: f64) -> f64 {
    before as f64 * share.clamp(0.0, 100.0) / 100.0
}

fn measured(what: &str, share: f64, before: Option<u64>, after: Option<u64>) -> Done {
    let (Some(before), Some(after)) = (before, after) else {
        let detail = format!("{what}; not measured: its child cannot be seen from here");
        return Done { outcome: Outcome::Applied, detail, freed_bytes: None };
    };
    let (freed, shown) = resident::compared(before, after);
    let uneven = if share < 100.0 { UNEVEN } else { "" };
    let trap = if (freed as f64) < expected(before, share) / 2.0 { format!("; {TRAP}{uneven}") } else { String::new() };
    Done {
        outcome: if freed < NOISE_BYTES { Outcome::NoEffect } else { Outcome::Applied },
        detail: format!("{what}: {shown}{trap}"),
        freed_bytes: Some(freed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_resident_set_says_what_came_back() {
        const MIB: u64 = 1 << 20;
        let done = |before, after| measured("banned 50 % of the objects", 50.0, before, after);
        let good = done(Some(400 * MIB), Some(200 * MIB));
        assert_eq!((good.outcome, good.freed_bytes), (Outcome::Applied, Some(200 << 20)));
        assert!(!good.detail.contains("MALLOC_CONF"), "{}", good.detail);
        let kept = done(Some(400 * MIB), Some(400 * MIB));
        assert_eq!(kept.outcome, Outcome::NoEffect);
        assert!(kept.detail.contains("MALLOC_CONF=narenas:1") && kept.detail.contains("seconds"), "{}", kept.detail);
        let anew = measured("restarted the child", NO_SHARE, Some(90 * MIB), Some(89 * MIB));
        assert!(!anew.detail.contains("restart_to_free"), "it was: {}", anew.detail);
        let far = done(None, Some(MIB));
        assert_eq!((far.outcome, far.freed_bytes), (Outcome::Applied, None));
        assert!(far.detail.contains("not measured"), "{}", far.detail);
    }
}
