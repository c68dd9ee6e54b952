//! Fewer and more workers of a gunicorn: TTOU and TTIN to its master, which has no other interface. Signals are no counters,
//! so each waits until the last one shows; and a worker that was told to end answers its request first, so the number of
//! workers is not yet what the master wants. Whoever took that for the truth would forget a worker, or start one too many.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pinned::Pinned;
use super::table::{self, Status, has};
use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

pub const KEY: &str = "workers";
/// On the way from one of our numbers to another.
pub const PARTLY: &str = "on their way";

/// gunicorn gives a worker 30 s for its last request (`graceful_timeout`), and ends one that is silent for 30 s (`timeout`).
const LINGER: Duration = Duration::from_secs(45);
/// A worker is gone in under 1 s where no request holds it (measured). Later, we ask again.
const STEP: Duration = Duration::from_secs(3);
/// A worker that died is replaced within some milliseconds: gunicorn wakes for it.
const SETTLE: Duration = Duration::from_millis(1200);
const STEADY: Duration = Duration::from_millis(300);
/// Fewer workers than were wanted died, unless that lasts: a master that gets no memory or no CPU time is slow to replace
/// them.
const LASTS: Duration = Duration::from_secs(6);
const POLL: Duration = Duration::from_millis(20);
/// For ten workers, each at a long request: what is not told by then is told by the next look.
pub const PATIENCE: Duration = Duration::from_secs(10 * STEP.as_secs());

/// Masters remembered: more than a node has.
const MOST_MASTERS: usize = 64;

/// How many workers a master was told to have.
#[derive(Clone, Copy)]
struct Told {
    count: usize,
    at: Instant,
    /// It had them: whatever else is there later, somebody else wanted.
    settled: bool,
}

/// What this guardian has told, by the master's epoch.
struct Memory {
    born: Instant,
    masters: HashMap<String, Told>,
    /// Since when there are fewer workers than were wanted.
    fewer: HashMap<String, Instant>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::new(Memory {
        born: Instant::now(),
        masters: HashMap::new(),
        fewer: HashMap::new(),
    });
}

/// How many there are, once that is steady, and how many are to stay.
pub async fn survey(master: &Pinned, amount: Amount) -> Result<Vec<Change>, Failure> {
    takes_signals(master)?;
    let now = steady(master).await?;
    // What stands still counts from here on, whatever an earlier guardian may have told: it is what is put back.
    if told(&master.epoch()).is_none() {
        tell(&master.epoch(), now);
        settle(&master.epoch());
    }
    let wanted = wanted(now, amount)?;
    if wanted >= now {
        return Ok(Vec::new());
    }
    let ours = vec![PARTLY.to_owned(), wanted.to_string()];
    Ok(vec![Change::new(KEY, now.to_string(), ours)])
}

/// Rounded to whole workers, and one always stays.
pub fn wanted(prior: usize, amount: Amount) -> Result<usize, Failure> {
    match amount {
        Amount::Keep(kept) => Ok(((prior as f64 * kept.clamp(0.0, 100.0) / 100.0).round() as usize).max(1)),
        Amount::Whole => Ok(1),
        Amount::Bytes(_) => Err(Failure::unsupported("workers are throttled to a share: write `to = \"50%\"`")),
    }
}

/// The fewer, the stricter; on their way they are neither.
pub fn strictness(value: &str) -> Option<f64> {
    value.parse::<u32>().ok().map(|workers| -f64::from(workers))
}

pub async fn read(master: &Pinned, change: &Change) -> Result<String, Failure> {
    let epoch = master.epoch();
    let prior: usize = change.prior.parse().map_err(|_| Failure::unsupported("no number of workers in the journal"))?;
    let lowest = change.ours.iter().filter_map(|ours| ours.parse().ok()).min().unwrap_or(prior);
    let until = Instant::now() + SETTLE;
    loop {
        let now = count(master)?;
        let told = told(&epoch);
        let pending = is_pending(master);
        let is_true = !pending && told.map_or(now == lowest, |told| told.count == now);
        let least = told.filter(|told| told.settled).map_or(lowest, |told| told.count);
        if now >= least {
            replaced(&epoch);
        }
        if is_true {
            settle(&epoch);
        }
        if is_true || !pending && told.is_none() && !is_young() && is_known(change, now) {
            return Ok(now.to_string());
        }
        if Instant::now() < until {
            sleep(POLL).await;
            continue;
        }
        if now < least {
            goes_on(master)?;
            lasts(&epoch, now, least)?;
        }
        let is_theirs = now < lowest || now > prior || !pending && told.is_some_and(|told| told.settled);
        return match told {
            _ if is_theirs => Ok(now.to_string()),
            Some(_) => Ok(PARTLY.to_owned()),
            None if pending || is_young() => Err(Failure::timed_out(format!(
                "{now} workers: one may have been stopping since before the guardian started; known in {} s",
                LINGER.as_secs()
            ))),
            None => Ok(PARTLY.to_owned()),
        };
    }
}

/// Sends as many signals as it takes, one after the other.
pub async fn steer(master: &Pinned, target: usize) -> Result<(), Failure> {
    let epoch = master.epoch();
    takes_signals(master)?;
    let mut now = match told(&epoch).filter(|told| !told.settled) {
        Some(told) => arrived(master, told.count).await?,
        None => steady(master).await?,
    };
    while now != target {
        let (signal, next) = if now > target { (libc::SIGTTOU, now - 1) } else { (libc::SIGTTIN, now + 1) };
        let before = told(&epoch);
        // Before it is sent: nobody may take the number of workers for the truth from here on.
        tell(&epoch, next);
        master.signal(signal).map_err(|errno| master.unsent(errno))?;
        let answer = arrived(master, next).await;
        if answer.is_err() && is_pending(master) && goes_on(master).is_err() {
            // Stopped before it took the signal: what lets it go on discards these two (signal(7)).
            recall(&epoch, before);
        }
        now = answer?;
    }
    Ok(())
}

/// The number of workers, once it is what the master was told.
async fn arrived(master: &Pinned, told: usize) -> Result<usize, Failure> {
    let until = Instant::now() + STEP;
    loop {
        let now = count(master)?;
        if !is_pending(master) && told == now {
            settle(&master.epoch());
            return Ok(now);
        }
        goes_on(master)?;
        if Instant::now() > until {
            return Err(Failure::timed_out(format!(
                "{now} workers after {} s and not yet {}: is one of them at a long request?",
                STEP.as_secs(),
                told
            )));
        }
        sleep(POLL).await;
    }
}

async fn steady(master: &Pinned) -> Result<usize, Failure> {
    let until = Instant::now() + SETTLE;
    let mut known = (count(master)?, Instant::now());
    while known.1.elapsed() < STEADY || known.0 == 0 {
        if Instant::now() > until {
            return Err(Failure::unreachable("the number of workers does not stand still: do they die as they start?"));
        }
        sleep(POLL).await;
        let now = count(master)?;
        if now != known.0 {
            known = (now, Instant::now());
        }
    }
    Ok(known.0)
}

/// Whoever does not catch them would be stopped by them.
pub fn takes_signals(master: &Pinned) -> Result<(), Failure> {
    let status = status(master)?;
    goes_on(master)?;
    if has(status.caught, libc::SIGTTOU) && has(status.caught, libc::SIGTTIN) {
        return master.may_signal();
    }
    Err(Failure::unsupported(format!(
        "process {} does not take SIGTTOU and SIGTTIN, so it is not a gunicorn master, or still starting: name its \
         pid file (`--pid`)",
        master.pid
    )))
}

fn goes_on(master: &Pinned) -> Result<(), Failure> {
    if !master.stat().ok_or_else(|| Failure::epoch_changed("gunicorn"))?.is_stopped() {
        return Ok(());
    }
    Err(Failure::timed_out(format!("gunicorn is stopped: `kill -CONT {}` lets it go on", master.pid)))
}

/// Children with a name of their own are helpers.
pub fn count(master: &Pinned) -> Result<usize, Failure> {
    let own = master.stat().ok_or_else(|| Failure::epoch_changed("gunicorn"))?.command;
    let children = table::children(master.pid)
        .map_err(|error| Failure::unsupported(format!("this kernel does not list a process's children: {error}")))?;
    let is_worker =
        |stat: &table::Stat| !stat.is_over() && (stat.command == own || stat.command.starts_with("gunicorn: worke"));
    Ok(children.into_iter().filter_map(table::stat).filter(|stat| stat.parent == master.pid && is_worker(stat)).count())
}

fn status(master: &Pinned) -> Result<Status, Failure> {
    table::status(master.pid).ok_or_else(|| Failure::unreachable(format!("cannot read /proc/{}/status", master.pid)))
}

fn is_pending(master: &Pinned) -> bool {
    let pending = table::status(master.pid).map_or(0, |status| status.pending);
    has(pending, libc::SIGTTOU) || has(pending, libc::SIGTTIN)
}

fn is_known(change: &Change, now: usize) -> bool {
    let now = now.to_string();
    change.prior == now || change.ours.contains(&now)
}

/// What an earlier guardian may have told a master is over with no later than this.
fn is_young() -> bool {
    MEMORY.with_borrow(|memory| memory.born.elapsed() < LINGER)
}

fn told(epoch: &str) -> Option<Told> {
    MEMORY.with_borrow(|memory| memory.masters.get(epoch).copied()).filter(Told::holds)
}

fn tell(epoch: &str, count: usize) {
    MEMORY.with_borrow_mut(|memory| {
        if memory.masters.len() >= MOST_MASTERS {
            memory.masters.retain(|_, told| told.holds() && !told.settled);
        }
        memory.masters.insert(epoch.to_owned(), Told { count, at: Instant::now(), settled: false });
    });
}

/// That there are fewer than there should be is meant where it lasts.
fn lasts(epoch: &str, now: usize, least: usize) -> Result<(), Failure> {
    let since = MEMORY.with_borrow_mut(|memory| {
        if memory.fewer.len() >= MOST_MASTERS {
            memory.fewer.clear();
        }
        *memory.fewer.entry(epoch.to_owned()).or_insert_with(Instant::now)
    });
    if since.elapsed() >= LASTS {
        return Ok(());
    }
    Err(Failure::timed_out(format!(
        "{now} workers instead of {least}: gunicorn has not replaced one yet, or somebody wants fewer; known in {} s",
        LASTS.as_secs()
    )))
}

fn replaced(epoch: &str) {
    MEMORY.with_borrow_mut(|memory| memory.fewer.remove(epoch));
}

fn recall(epoch: &str, before: Option<Told>) {
    MEMORY.with_borrow_mut(|memory| match before {
        Some(told) => memory.masters.insert(epoch.to_owned(), told),
        None => memory.masters.remove(epoch),
    });
}

fn settle(epoch: &str) {
    MEMORY.with_borrow_mut(|memory| {
        if let Some(told) = memory.masters.get_mut(epoch) {
            told.settled = true;
        }
    });
}

impl Told {
    fn holds(&self) -> bool {
        self.settled || self.at.elapsed() < LINGER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_always_stays() {
        for (kept, workers) in [(50.0, 2), (25.0, 1), (1.0, 1), (0.0, 1), (90.0, 4)] {
            assert_eq!(wanted(4, Amount::Keep(kept)).unwrap(), workers, "{kept} %");
        }
        assert_eq!((wanted(1, Amount::Keep(50.0)).unwrap(), wanted(9, Amount::Whole).unwrap()), (1, 1));
    }
}
