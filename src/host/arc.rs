//! The cache of ZFS: /proc/spl/kstat/zfs/arcstats. The kernel counts it as used, and ZFS frees it when memory is short.
//! Without it an idle file server would look like one that is out of memory.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fuse::Fuse;
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use crate::policy::moment::Moment;

/// ZFS may be loaded at any time; to look costs a microsecond.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Arc {
    path: PathBuf,
    /// The memory that is counted is the kernel's own. Where a container is shown one of its own in its place (lxcfs), the
    /// node's cache is no part of it.
    is_nodes: bool,
    /// `None` where there is no ZFS.
    stats: Option<Kept>,
    look_at: Moment,
    reclaimable_bytes: u64,
}

impl Arc {
    #[must_use]
    pub fn new(proc_root: &Path, fuse: &Fuse) -> Self {
        let meminfo = proc_root.join("meminfo");
        let device = |path: &Path| std::fs::metadata(path).ok().map(|known| known.dev());
        Self {
            path: proc_root.join("spl/kstat/zfs/arcstats"),
            is_nodes: !fuse.serves(&meminfo) && device(&meminfo) == device(proc_root),
            stats: None,
            look_at: Moment::ORIGIN,
            reclaimable_bytes: 0,
        }
    }

    pub fn sample(&mut self, now: Moment, reader: &mut Reader) {
        if self.stats.is_none() && self.is_nodes && now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            let without = "the part of the ZFS cache that can be freed counts as used";
            self.stats = self.path.exists().then(|| Kept::new(self.path.clone(), Shape::Whole, without));
        }
        if let Some(stats) = &mut self.stats {
            self.reclaimable_bytes = reader.take(stats, now, parse).unwrap_or(0);
        }
    }

    /// At the last full sample.
    #[must_use]
    pub(crate) const fn reclaimable_bytes(&self) -> u64 {
        self.reclaimable_bytes
    }
}

/// What is above the cache's own least size, and no more than ZFS calls evictable, where it says (since 0.7).
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<u64> {
    let (mut size, mut least, mut evictable) = (None, None, None);
    for line in lines(bytes) {
        let mut words = fields(line);
        let name = words.next();
        let mut value = || words.nth(1).and_then(super::scan::number);
        match name {
            Some(b"size") => size = value(),
            Some(b"c_min") => least = value(),
            Some(
                b"mru_evictable_data" | b"mru_evictable_metadata" | b"mfu_evictable_data" | b"mfu_evictable_metadata",
            ) => {
                evictable = Some(value()?.saturating_add(evictable.unwrap_or(0)));
            }
            _ => {}
        }
    }
    let above = size?.saturating_sub(least?);
    Some(evictable.map_or(above, |evictable: u64| above.min(evictable)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "13 1 0x01 96 26112 5 9\nname                            type data\nhits 4 9\nc_min 4 100\nc 4 \
                       900\nsize 4 700\n";

    #[test]
    fn what_the_cache_of_zfs_gives_back() {
        assert_eq!(parse(OLD.as_bytes()), Some(600));
        let new = format!("{OLD}mru_evictable_data 4 50\nmru_evictable_metadata 4 10\nmfu_evictable_data 4 200\n");
        assert_eq!(parse(new.as_bytes()), Some(260));
        assert_eq!(parse(b"c_min 4 100\nsize 4 70\n"), Some(0));
        assert_eq!(parse(b"name type data\n"), None);
    }
    #[test]
    fn zfs_may_come_later() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("meminfo"), "").unwrap();
        let (mut arc, mut reader) = (Arc::new(folder.path(), &Fuse::default()), Reader::default());
        let at = |seconds| Moment::at(Duration::from_secs(seconds));
        arc.sample(at(1), &mut reader);
        assert_eq!(arc.reclaimable_bytes(), 0);
        let stats = folder.path().join("spl/kstat/zfs");
        std::fs::create_dir_all(&stats).unwrap();
        std::fs::write(stats.join("arcstats"), OLD).unwrap();
        arc.sample(at(61), &mut reader);
        assert_eq!(arc.reclaimable_bytes(), 600);
        assert!(reader.blind.spots().is_empty(), "a node without ZFS lacks nothing");
    }
}
