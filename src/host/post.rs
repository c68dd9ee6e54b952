//! What the slow thread, those stuck before it, and the sampler share: what was found, and which thread is in office.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::place::Place;
use super::shared::Shared;
use super::space::{self, Space};
use crate::config::settings::Sampling;

/// How long a file system may take to answer. Long, since on a node in distress this thread may not get to run either.
const PATIENCE: Duration = Duration::from_secs(5);

type Ask = Arc<dyn Fn(&Path) -> Result<Space, Errno> + Send + Sync>;

/// How file systems are asked; another one in tests, where a real hung disk is hard to come by.
#[derive(Clone)]
pub struct Probe {
    pub ask: Ask,
    pub patience: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self { ask: Arc::new(space::ask), patience: PATIENCE }
    }
}

pub(crate) struct Post {
    pub shared: Shared,
    pub sampling: Sampling,
    pub place: Arc<Place>,
    pub probe: Probe,
    watch: Mutex<Watch>,
    started: Instant,
    /// Milliseconds from the start to when the file system that is being asked was; 0 while none is.
    asking_since_ms: AtomicU64,
    stop: AtomicBool,
}

#[derive(Default)]
struct Watch {
    /// Counts the threads; only the last one is in office.
    office: u64,
    asking: PathBuf,
    hung: Vec<PathBuf>,
}

/// Whether a thread holds the office.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seat {
    Taken,
    Vacant,
}

impl Post {
    #[must_use]
    pub fn new(sampling: &Sampling, place: Arc<Place>, probe: Probe) -> Self {
        Self {
            shared: Shared::default(),
            sampling: sampling.clone(),
            place,
            probe,
            watch: Mutex::default(),
            started: Instant::now(),
            asking_since_ms: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        }
    }

    /// No thread is in office from here on.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use]
    pub(crate) fn in_office(&self, office: u64) -> bool {
        !self.stop.load(Ordering::Relaxed) && self.lock().office == office
    }

    #[must_use]
    pub(crate) fn is_hung(&self, point: &Path) -> bool {
        self.lock().hung.iter().any(|hung| hung == point)
    }

    /// Asks a file system. `None` where this thread was given up meanwhile: it must end and touch nothing.
    pub(crate) fn ask(&self, office: u64, point: &Path) -> Option<Result<Space, Errno>> {
        self.risk(office, point, || (self.probe.ask)(point))
    }

    /// Does what may hang with this.
    pub(crate) fn risk<T>(&self, office: u64, point: &Path, work: impl FnOnce() -> T) -> Option<T> {
        self.lock().asking = point.to_owned();
        self.asking_since_ms.store(self.now_ms(), Ordering::Release);
        let answer = work();
        let mut watch = self.lock();
        if watch.office != office {
            watch.hung.retain(|hung| hung != point);
            return None;
        }
        self.asking_since_ms.store(0, Ordering::Release);
        Some(answer)
    }

    /// The office of the thread to start next, if one is needed now.
    pub(crate) fn relieve(&self, seat: Seat) -> Option<u64> {
        let since = self.asking_since_ms.load(Ordering::Acquire);
        let stuck = since != 0 && u128::from(self.now_ms().saturating_sub(since)) > self.probe.patience.as_millis();
        if !stuck && seat == Seat::Taken {
            return None;
        }
        let mut watch = self.watch.try_lock().ok()?;
        if stuck {
            // It may have answered between the two looks.
            self.asking_since_ms.compare_exchange(since, 0, Ordering::AcqRel, Ordering::Relaxed).ok()?;
            let point = std::mem::take(&mut watch.asking);
            watch.hung.push(point);
        }
        watch.office += 1;
        Some(watch.office)
    }

    #[must_use]
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(probe: Probe) -> Post {
        Post::new(&Sampling::default(), Arc::default(), probe)
    }

    #[test]
    fn who_answers_stays_in_office() {
        let post = post(Probe { ask: Arc::new(|_| Ok(Space::default())), patience: Duration::ZERO });
        assert_eq!(post.ask(0, Path::new("/a")), Some(Ok(Space::default())));
        assert_eq!(post.relieve(Seat::Taken), None);
        assert!(!post.is_hung(Path::new("/a")));
    }

    #[test]
    fn who_does_not_answer_is_relieved_and_passed_over_until_it_does() {
        let post = post(Probe { ask: Arc::new(|_| Ok(Space::default())), patience: Duration::ZERO });
        post.lock().asking = PathBuf::from("/a");
        post.asking_since_ms.store(1, Ordering::Relaxed);
        while post.now_ms() < 2 {}
        assert_eq!(post.relieve(Seat::Taken), Some(1));
        assert_eq!(post.relieve(Seat::Taken), None, "once");
        assert!(post.is_hung(Path::new("/a")) && post.in_office(1) && !post.in_office(0));
        assert_eq!(post.ask(0, Path::new("/a")), None, "the first comes back and goes");
        assert!(!post.is_hung(Path::new("/a")));
    }

    #[test]
    fn a_vacant_office_is_filled() {
        assert_eq!(post(Probe::default()).relieve(Seat::Vacant), Some(1));
    }
}
