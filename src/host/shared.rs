//! What the slow thread hands to the sampler. The sampler never waits here: numbers are atomics, tables change hands
//! under a lock that it only tries, and it looks at a table only when its version has changed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::facts::Facts;
use super::idle;
use super::listeners::Wanted;
use crate::status::BlindSpot;

/// One number, or nothing.
#[derive(Debug)]
pub struct Reading(AtomicU64);

impl Default for Reading {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl Reading {
    pub fn set(&self, value: Option<f64>) {
        self.0.store(value.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}

/// A value that changes seldom.
#[derive(Debug)]
pub struct Slot<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T: Default> Default for Slot<T> {
    fn default() -> Self {
        Self { version: AtomicU64::new(0), value: Mutex::new(Arc::new(T::default())) }
    }
}

impl<T: PartialEq> Slot<T> {
    /// Replaces the value if it is another one.
    pub fn offer(&self, value: T) {
        let mut held = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        if **held != value {
            *held = Arc::new(value);
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

impl<T> Slot<T> {
    /// For threads that may wait.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sampler's copy of a slot's value.
#[derive(Debug, Default)]
pub struct View<T> {
    seen: u64,
    pub value: Arc<T>,
}

impl<T> View<T> {
    /// Whether the value is another one than at the last call. A slot that is just being written is looked at next time.
    pub fn refresh(&mut self, slot: &Slot<T>) -> bool {
        let version = slot.version.load(Ordering::Acquire);
        if version == self.seen {
            return false;
        }
        let Ok(held) = slot.value.try_lock() else { return false };
        self.value = Arc::clone(&held);
        self.seen = version;
        true
    }
}

/// A mounted file system that is watched.
#[derive(Debug, Default)]
pub struct Mount {
    pub point: PathBuf,
    /// The point as instances are named.
    pub name: String,
    /// Major and minor number, where a block device is below it.
    pub device: Option<(u32, u32)>,
    pub source: String,
    pub file_system: String,
    /// The mount itself is writable; its file system may have turned read-only since (`errors=remount-ro`).
    pub mounted_writable: bool,
    /// Of the file system itself, by the last look at the mount table. What `statvfs` says is about the mount.
    pub file_system_writable: AtomicBool,
    pub seen_writable: AtomicBool,
    pub used_percent: Reading,
    pub free_bytes: Reading,
    pub inodes_used_percent: Reading,
    pub read_only: Reading,
    pub size_bytes: AtomicU64,
    /// When it last answered, by the slow thread's clock.
    pub answered_ms: AtomicU64,
}

impl PartialEq for Mount {
    /// The same file system at the same place, whatever it reads.
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
            && self.device == other.device
            && self.source == other.source
            && self.file_system == other.file_system
            && self.mounted_writable == other.mounted_writable
    }
}

/// Space is asked for every second; what is older than this is not what is there now.
const STALE_MS: u64 = 15_000;

impl Mount {
    #[must_use]
    pub fn age(&self, now_ms: u64) -> Duration {
        Duration::from_millis(now_ms.saturating_sub(self.answered_ms.load(Ordering::Relaxed)))
    }

    /// The reading, unless it is too old to go by.
    #[must_use]
    pub fn recent(&self, reading: &Reading, now_ms: u64) -> Option<f64> {
        let age_ms = now_ms.saturating_sub(self.answered_ms.load(Ordering::Relaxed));
        reading.get().filter(|_| age_ms < STALE_MS)
    }

    /// Read-only to us, and writable to others: whether it still is, only the mount table tells.
    #[must_use]
    pub fn is_veiled(&self) -> bool {
        !self.mounted_writable && self.file_system_writable.load(Ordering::Relaxed)
    }

    /// Whether it was ever seen that somebody may write to it: what is mounted read-only cannot run full.
    #[must_use]
    pub fn can_fill(&self) -> bool {
        let ever = [&self.file_system_writable, &self.seen_writable];
        self.mounted_writable || ever.iter().any(|seen| seen.load(Ordering::Relaxed))
    }

    #[must_use]
    pub fn is_of_pool(&self) -> bool {
        self.file_system == "zfs"
    }

    pub fn forget(&self) {
        for reading in [&self.used_percent, &self.free_bytes, &self.inodes_used_percent, &self.read_only] {
            reading.set(None);
        }
    }
}

/// A TCP port that somebody listens on.
#[derive(Debug)]
pub struct Port {
    pub number: u16,
    /// The number as instances are named.
    pub name: String,
    pub established: Reading,
    pub backlog_percent: Reading,
    pub drops_rate: Reading,
}

impl Port {
    #[must_use]
    pub fn new(number: u16) -> Self {
        Self {
            number,
            name: number.to_string(),
            established: Reading::default(),
            backlog_percent: Reading::default(),
            drops_rate: Reading::default(),
        }
    }

    pub fn forget(&self) {
        self.established.set(None);
        self.backlog_percent.set(None);
        self.drops_rate.set(None);
    }
}

impl PartialEq for Port {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// Bits per second of an interface's link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speed {
    pub interface: String,
    pub bits: u64,
}

/// Everything that the slow thread finds out.
#[derive(Debug, Default)]
pub struct Shared {
    /// In the order of their names.
    pub mounts: Slot<Vec<Arc<Mount>>>,
    /// In ascending order.
    pub ports: Slot<Vec<Arc<Port>>>,
    pub speeds: Slot<Vec<Speed>>,
    pub facts: Slot<Facts>,
    pub blind: Slot<Vec<BlindSpot>>,
    pub processes: Reading,
    /// The smaller of pid_max and threads-max.
    pub task_limit: Reading,
    pub conntrack_limit: Reading,
    /// From the sampler: which ports rules ask about, and how often somebody looks at what.
    pub ports_wanted: Slot<Wanted>,
    pub space_every: Pace,
    pub ports_every: Pace,
    pub idle_groups: Slot<Vec<Arc<idle::Group>>>,
    /// When ports were looked at last, by the slow thread's clock.
    pub ports_read_ms: AtomicU64,
}

/// How often something is to be found out: once a second, or as often as the loop looks.
#[derive(Debug)]
pub struct Pace(AtomicU64);

/// A disk fills at a few GB/s at most, so a second is soon enough where nothing is amiss.
const CALM: Duration = Duration::from_secs(1);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Pace {
    #[must_use]
    pub fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed)).min(CALM)
    }

    /// Somebody looks closely.
    #[must_use]
    pub fn is_in_need(&self) -> bool {
        self.0.load(Ordering::Relaxed) != u64::MAX
    }

    /// Whether it is shorter now. `None` is the calm one.
    pub fn set(&self, every: Option<Duration>) -> bool {
        let every = every.map_or(u64::MAX, |every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        self.0.swap(every, Ordering::Relaxed) > every
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_changes_when_its_slot_does() {
        let (slot, mut view) = (Slot::<Vec<u8>>::default(), View::default());
        assert!(!view.refresh(&slot));
        slot.offer(vec![1]);
        assert!(view.refresh(&slot) && *view.value == [1]);
        slot.offer(vec![1]);
        assert!(!view.refresh(&slot), "an equal value is no news");
    }

    #[test]
    fn a_slot_in_use_is_never_waited_for() {
        let (slot, mut view) = (Slot::<Vec<u8>>::default(), View::default());
        slot.offer(vec![1]);
        let held = slot.value.lock().unwrap();
        assert!(!view.refresh(&slot));
        drop(held);
        assert!(view.refresh(&slot), "nothing is lost by that");
    }

    #[test]
    fn an_old_reading_is_missing() {
        let mount = Mount::default();
        mount.used_percent.set(Some(50.0));
        mount.answered_ms.store(1000, Ordering::Relaxed);
        assert_eq!(mount.recent(&mount.used_percent, 900), Some(50.0));
        assert_eq!(mount.recent(&mount.used_percent, 15_999), Some(50.0));
        assert_eq!(mount.recent(&mount.used_percent, 16_000), None);
    }

    #[test]
    fn a_reading_may_be_missing() {
        let reading = Reading::default();
        assert_eq!(reading.get(), None);
        reading.set(Some(0.0));
        assert_eq!(reading.get(), Some(0.0));
        reading.set(None);
        assert_eq!(reading.get(), None);
    }
}
