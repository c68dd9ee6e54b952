//! Trims caches on disk, those first that were not used for longest. In two passes, so that a million files need no list:
//! the first counts bytes by age, the second removes what is older than the age that the first found. Runs on a thread of
//! its own, for a bounded time; a disk that hangs holds up that thread alone.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::AtFlags;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, faccessat};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ages::{Ages, Cut};
use super::walk::{self, Next};
use crate::clock;
use crate::control::DEADLINE;
use crate::control::consent::{ASK_EVERY, Consent};
use crate::control::failure::Failure;
use crate::control::service::Done;
use crate::policy::mitigation::{Amount, Outcome};
use crate::policy::unit::Unit;

/// 1,600 files are removed in 78 ms; a million in less than this where the disk keeps up.
const BUDGET: Duration = Duration::from_secs(10);
/// That, and the look before it.
pub const LONGEST: Duration = Duration::from_secs(BUDGET.as_secs() + 5);
/// Three levels of directories at a time.
const STACK_BYTES: usize = 256 << 10;

/// The one thread that looks after the caches of one control.
#[derive(Default)]
pub struct Pruner {
    busy: Arc<AtomicBool>,
}

struct Limits {
    until: Instant,
    now: i64,
    /// Why nobody wants it any more.
    unwanted: Arc<OnceLock<&'static str>>,
}

impl Limits {
    fn are_reached(&self) -> bool {
        self.unwanted.get().is_some() || Instant::now() >= self.until
    }
}

#[derive(Default)]
struct Removed {
    files: u64,
    bytes: u64,
    /// Named like a file of nginx's, without its header.
    strange: u64,
    refused: Option<Failure>,
}

impl Pruner {
    /// As long as it is wanted.
    pub async fn prune(&self, caches: Vec<PathBuf>, keep: Amount, consent: &Consent<'_>) -> Result<Done, Failure> {
        let unwanted = Arc::new(OnceLock::new());
        let told = Arc::clone(&unwanted);
        if !self.busy.load(Ordering::Acquire) {
            consent.begin();
        }
        let mut trimmed = pin!(self.apart(BUDGET + DEADLINE, move || trim(&caches, keep, &told)));
        loop {
            if let Ok(done) = timeout(ASK_EVERY, &mut trimmed).await {
                return done;
            }
            if let (None, Err(why)) = (unwanted.get(), consent.goes_on().await) {
                // Nobody else sets it.
                unwanted.set(why).ok();
            }
        }
    }

    /// Whether each can be read and written. Changes nothing.
    pub async fn probe(&self, caches: Vec<PathBuf>) -> Result<(), Failure> {
        self.apart(DEADLINE, move || caches.iter().try_for_each(|cache| look(cache))).await
    }

    /// On a thread of its own, where a disk may hang.
    pub async fn apart<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(Failure::timed_out("the disk of the caches has not answered the earlier request yet"));
        }
        let (answer, answered) = oneshot::channel();
        let busy = Arc::clone(&self.busy);
        let started = thread::Builder::new().name("caches".to_owned()).stack_size(STACK_BYTES).spawn(move || {
            let done = work();
            busy.store(false, Ordering::Release);
            // Nobody waits for it any more: then it took too long.
            answer.send(done).ok();
        });
        if let Err(error) = started {
            self.busy.store(false, Ordering::Release);
            return Err(Failure::refused(format!("no thread to look after the caches: {error}")));
        }
        match timeout(patience, answered).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(Failure::timed_out(format!(
                "the disk of the caches has not answered within {} s; does it hang?",
                patience.as_secs()
            ))),
        }
    }
}

fn look(cache: &Path) -> Result<(), Failure> {
    let top = walk::open(cache)?;
    let all = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    // As it is for `access`, a user other than root would have no capability.
    faccessat(&top, ".", all, AtFlags::AT_EACCESS).map_err(|errno| walk::refused(cache, errno))
}

fn trim(caches: &[PathBuf], keep: Amount, unwanted: &Arc<OnceLock<&'static str>>) -> Result<Done, Failure> {
    let now = i64::try_from(clock::unix_ms() / 1000).unwrap_or(i64::MAX);
    let limits = Limits { until: Instant::now() + BUDGET, now, unwanted: Arc::clone(unwanted) };
    let free_before = free(caches);
    let (ages, counted) = count(caches, &limits)?;
    if let Some(why) = limits.unwanted.get() {
        return Err(Failure::expired(why));
    }
    let mut cut = ages.cut(kept_bytes(ages.bytes(), keep));
    let removed = remove(caches, &limits, &mut cut)?;
    if let Some(refused) = removed.refused.filter(|_| removed.files == 0) {
        return Err(refused);
    }
    let show = |bytes: u64| Unit::Bytes.show(bytes as f64);
    let mut detail = format!(
        "removed {} of {} cached files, those unused for longest: {} → {} on disk, {} free → {}",
        removed.files,
        ages.files(),
        show(ages.bytes()),
        show(ages.bytes().saturating_sub(removed.bytes)),
        show(free_before),
        show(free(caches)),
    );
    if removed.strange > 0 {
        detail.push_str(&format!("; {} files that nginx did not write are left alone", removed.strange));
    }
    if let Some(why) = limits.unwanted.get() {
        detail.push_str(&format!("; stopped, there is more: {why}"));
    } else if counted == Next::Stop || Instant::now() >= limits.until {
        detail.push_str(&format!("; stopped after {} s, there is more", BUDGET.as_secs()));
    }
    let outcome = if removed.bytes == 0 { Outcome::NoEffect } else { Outcome::Applied };
    // Nothing of this is resident memory.
    Ok(Done { outcome, detail, freed_bytes: None })
}

fn kept_bytes(all: u64, keep: Amount) -> u64 {
    match keep {
        Amount::Whole => 0,
        Amount::Keep(kept) => (all as f64 * kept.clamp(0.0, 100.0) / 100.0) as u64,
        Amount::Bytes(bytes) => bytes,
    }
}

/// The first file of each cache must be nginx's: in a directory of others' files nobody looks on.
fn count(caches: &[PathBuf], limits: &Limits) -> Result<(Ages, Next), Failure> {
    // Half of the time is for removing.
    let until = limits.until - BUDGET / 2;
    let mut ages = Ages::default();
    for cache in caches {
        let mut first = Some(cache);
        let mut stranger = None;
        let went = walk::each(cache, &mut |found| {
            if let Some(cache) = first.take() {
                stranger = match found.is_nginx() {
                    Ok(true) => None,
                    Ok(false) => Some(not_a_cache(cache)),
                    Err(errno) => Some(walk::refused(cache, errno)),
                };
            }
            ages.add(limits.now - found.used(), found.bytes());
            if stranger.is_some() || limits.unwanted.get().is_some() || Instant::now() >= until {
                Next::Stop
            } else {
                Next::GoOn
            }
        })?;
        if let Some(stranger) = stranger {
            return Err(stranger);
        }
        if went == Next::Stop {
            return Ok((ages, went));
        }
    }
    Ok((ages, Next::GoOn))
}

fn remove(caches: &[PathBuf], limits: &Limits, cut: &mut Cut) -> Result<Removed, Failure> {
    let mut removed = Removed::default();
    for cache in caches {
        walk::each(cache, &mut |found| {
            if cut.is_done() || limits.are_reached() {
                return Next::Stop;
            }
            let bytes = found.bytes();
            if cut.takes(limits.now - found.used(), bytes) {
                match found.remove_if_nginx() {
                    Ok(true) => {
                        removed.files += 1;
                        removed.bytes += bytes;
                    }
                    Ok(false) => removed.strange += 1,
                    // nginx was quicker.
                    Err(nix::errno::Errno::ENOENT) => {}
                    Err(errno) => removed.refused = Some(walk::refused(cache, errno)),
                }
            }
            Next::GoOn
        })?;
    }
    Ok(removed)
}

/// Of the file systems that the caches are on, each counted once as far as they can be told apart.
fn free(caches: &[PathBuf]) -> u64 {
    let mut seen: Vec<u64> = Vec::new();
    let mut free = 0_u64;
    for found in caches.iter().filter_map(|cache| statvfs(cache).ok()) {
        let id = wide(found.filesystem_id());
        if !seen.contains(&id) {
            seen.push(id);
            let available = wide(found.blocks_available()).saturating_mul(wide(found.fragment_size()));
            free = free.saturating_add(available);
        }
    }
    free
}

/// The width of these numbers differs by platform.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

fn not_a_cache(cache: &Path) -> Failure {
    Failure::refused(format!(
        "{} has files that nginx did not write, so nothing of it is removed: name in `caches` directories of \
         proxy_cache_path alone",
        cache.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_wants_any_more_is_left_where_it_is() {
        let cache = tempfile::tempdir().unwrap();
        let file = cache.path().join("b7f54b2df7773722d382f4809d65029c");
        std::fs::write(&file, "\nKEY: it").unwrap();
        let (caches, unwanted) = ([cache.path().to_owned()], Arc::new(OnceLock::new()));
        unwanted.set("its rule does not want it any more").unwrap();
        let expired = trim(&caches, Amount::Whole, &unwanted).unwrap_err();
        assert_eq!((expired.outcome, file.exists()), (Outcome::Expired, true), "{}", expired.detail);
        let limits = Limits { until: Instant::now() + BUDGET, now: i64::MAX, unwanted };
        let mut ages = Ages::default();
        ages.add(0, 4096);
        let removed = remove(&caches, &limits, &mut ages.cut(0)).unwrap();
        assert_eq!((removed.files, file.exists()), (0, true));
        let wanted = Arc::new(OnceLock::new());
        assert_eq!(trim(&caches, Amount::Whole, &wanted).unwrap().outcome, Outcome::Applied);
        assert!(!file.exists());
    }

    #[test]
    fn a_disk_that_hangs_holds_up_one_thread_and_nobody_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (pruner, (release, hung)) = (Pruner::default(), std::sync::mpsc::channel::<()>());
        let asked = |patience| pruner.apart(Duration::from_millis(patience), || Ok("answered"));
        let hang = pruner.apart(Duration::from_millis(20), move || {
            hung.recv().ok();
            Ok("late")
        });
        assert!(runtime.block_on(hang).unwrap_err().detail.contains("does it hang?"));
        assert!(runtime.block_on(asked(5000)).unwrap_err().detail.contains("has not answered the earlier request"));
        release.send(()).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while runtime.block_on(asked(5000)).is_err() {
            assert!(Instant::now() < until, "it answers again");
        }
    }
}
