//! What the slow thread finds: mounts, ports and links, with the readings of each.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::slot::Reading;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_reading_is_missing() {
        let mount = Mount::default();
        mount.used_percent.set(Some(50.0));
        mount.answered_ms.store(1000, Ordering::Relaxed);
        assert_eq!(mount.recent(&mount.used_percent, 900), Some(50.0));
        assert_eq!(mount.recent(&mount.used_percent, 15_999), Some(50.0));
        assert_eq!(mount.recent(&mount.used_percent, 16_000), None);
    }
}
