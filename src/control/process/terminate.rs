//! Ending a process: SIGTERM, then nothing, or SIGKILL where the operator said after how long. The life that was found is
//! the life that is signalled: who has died meanwhile is not mistaken for who came after it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pinned::{Pinned, tree};
use super::table;
use crate::control::DEADLINE;
use crate::control::consent::Consent;
use crate::control::failure::Failure;
use crate::control::service::Done;
use crate::policy::mitigation::Outcome;
use crate::policy::unit::Unit;

/// Where no SIGKILL follows: for most services to close what they have open.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel has much to free after a SIGKILL.
const KILLED: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);

/// Until it has ended, or will not.
pub fn patience(kill_after_seconds: Option<u64>) -> Duration {
    kill_after_seconds.map_or(PATIENCE, Duration::from_secs) + KILLED + DEADLINE
}

pub async fn terminate(
    process: &Pinned,
    kill_after_seconds: Option<u64>,
    consent: &Consent<'_>,
) -> Result<Done, Failure> {
    let lives = table::lives(&tree(process)?);
    let before = table::held(&lives);
    consent.begin();
    process.signal(libc::SIGTERM).map_err(|errno| process.unsent(errno))?;
    // A stopped one takes it only then; and whom it leaves behind stopped, nobody would ever continue. Gone by now is well.
    process.signal(libc::SIGCONT).ok();
    for (pid, start) in lives.iter().filter(|(pid, _)| *pid != process.pid) {
        if let Ok(Some(child)) = Pinned::open(*pid)
            && child.start == *start
        {
            // Who has another user's rights is not ours to continue, and was not ours to stop.
            child.signal(libc::SIGCONT).ok();
        }
    }
    let patience = kill_after_seconds.map_or(PATIENCE, Duration::from_secs);
    if ended(process, patience).await {
        return Ok(done("ended after SIGTERM", &lives, before));
    }
    if kill_after_seconds.is_none() {
        return Ok(Done {
            outcome: Outcome::NoEffect,
            detail: format!(
                "process {} is still there {} s after SIGTERM; `kill_after` would end it",
                process.pid,
                patience.as_secs()
            ),
            freed_bytes: Some(0),
        });
    }
    if let Err(why) = consent.again().await {
        return Ok(spared(process, why));
    }
    process.signal(libc::SIGKILL).map_err(|errno| process.unsent(errno))?;
    if ended(process, KILLED).await {
        return Ok(done("ended by SIGKILL", &lives, before));
    }
    Err(Failure::timed_out(format!("process {} is not gone {} s after SIGKILL", process.pid, KILLED.as_secs())))
}

/// It may still end of the SIGTERM that it has.
fn spared(process: &Pinned, why: &str) -> Done {
    let detail = format!("process {} got SIGTERM and is still there, and no SIGKILL followed: {why}", process.pid);
    Done { outcome: Outcome::NoEffect, detail, freed_bytes: Some(0) }
}

async fn ended(process: &Pinned, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while !process.is_over() && Instant::now() < until {
        sleep(POLL).await;
    }
    process.is_over()
}

fn done(how: &str, lives: &[table::Life], before: u64) -> Done {
    let after = table::held(lives);
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    let freed = i64::try_from(before).unwrap_or(i64::MAX) - i64::try_from(after).unwrap_or(i64::MAX);
    let detail = format!("{how}: resident {} → {}", show(before), show(after));
    Done { outcome: Outcome::Applied, detail, freed_bytes: Some(freed) }
}
