//! How full a file system is: statvfs, called by the slow thread alone, because on a hung disk it does not return.

use std::path::Path;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::counter::percent;
use super::found::Mount;

/// What a file system answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    pub size_bytes: u64,
    pub free_bytes: u64,
    /// To users; the rest is root's.
    pub available_bytes: u64,
    /// 0 where the file system has no fixed number.
    pub inodes: u64,
    pub inodes_free: u64,
    /// The mount or its file system is.
    pub read_only: bool,
    /// The mount is a single file, as those that containers are given.
    pub is_file: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Derived {
    pub used_percent: Option<f64>,
    pub free_bytes: f64,
    pub inodes_used_percent: f64,
}

/// Asks the file system itself, as `df` does: by its mount point and nothing inside, which may be closed to us (0700 of a
/// database's user) while its space is no secret.
///
/// # Errors
/// What the kernel says.
pub fn ask(point: &Path) -> Result<Space, Errno> {
    let answer = statvfs(point)?;
    let unit = wide(answer.fragment_size());
    Ok(Space {
        size_bytes: wide(answer.blocks()).saturating_mul(unit),
        free_bytes: wide(answer.blocks_free()).saturating_mul(unit),
        available_bytes: wide(answer.blocks_available()).saturating_mul(unit),
        inodes: wide(answer.files()),
        inodes_free: wide(answer.files_free()),
        read_only: answer.flags().contains(FsFlags::ST_RDONLY),
        is_file: std::fs::metadata(point).is_ok_and(|known| !known.is_dir()),
    })
}

/// The width of these numbers differs by platform.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// A file system without a fixed number of inodes cannot run out of them: it uses 0 %.
#[must_use]
pub fn derive(space: &Space) -> Derived {
    let used = space.size_bytes.saturating_sub(space.free_bytes) as f64;
    let inodes_used = space.inodes.saturating_sub(space.inodes_free) as f64;
    Derived {
        used_percent: percent(used, used + space.available_bytes as f64),
        free_bytes: space.available_bytes as f64,
        inodes_used_percent: percent(inodes_used, space.inodes as f64).unwrap_or(0.0),
    }
}

/// Writes what a file system answered where the sampler looks for it.
pub fn publish(mount: &Mount, space: &Space) {
    let derived = derive(space);
    mount.used_percent.set(derived.used_percent);
    mount.free_bytes.set(Some(derived.free_bytes));
    mount.inodes_used_percent.set(Some(derived.inodes_used_percent));
    mount.size_bytes.store(space.size_bytes, Ordering::Relaxed);
    let was_writable = mount.mounted_writable || mount.seen_writable.load(Ordering::Relaxed);
    let read_only = space.read_only && !mount.is_veiled();
    mount.read_only.set(Some(f64::from(u8::from(read_only && was_writable))));
    if !read_only {
        mount.seen_writable.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_as_df_counts_it() {
        let space = Space {
            size_bytes: 100,
            free_bytes: 30,
            available_bytes: 20,
            inodes: 8,
            inodes_free: 6,
            ..Space::default()
        };
        let derived = derive(&space);
        assert_eq!(derived.used_percent.map(f64::round), Some(78.0));
        assert_eq!((derived.free_bytes, derived.inodes_used_percent), (20.0, 25.0));
        assert_eq!(derive(&Space::default()).used_percent, None);
        assert_eq!(derive(&Space { free_bytes: u64::MAX, ..space }).used_percent, Some(0.0));
    }

    #[test]
    fn only_what_was_writable_can_turn_read_only() {
        let read_only = Space { read_only: true, ..Space::default() };
        let image = Mount::default();
        publish(&image, &read_only);
        assert_eq!(image.read_only.get(), Some(0.0), "it was mounted so");
        publish(&image, &Space::default());
        publish(&image, &read_only);
        assert_eq!(image.read_only.get(), Some(1.0), "it turned so before our eyes");
        let failed = Mount { mounted_writable: true, ..Mount::default() };
        publish(&failed, &read_only);
        assert_eq!(failed.read_only.get(), Some(1.0), "it had turned so before we looked");
    }

    #[test]
    fn a_sandbox_does_not_pass_for_a_failed_disk_nor_hide_one() {
        let read_only = Space { read_only: true, ..Space::default() };
        let disk = Mount { file_system_writable: true.into(), ..Mount::default() };
        publish(&disk, &read_only);
        assert_eq!(disk.read_only.get(), Some(0.0), "only we may not write");
        disk.file_system_writable.store(false, Ordering::Relaxed);
        publish(&disk, &read_only);
        assert_eq!(disk.read_only.get(), Some(1.0), "nobody may any more");
    }

    #[test]
    fn a_file_is_told_from_a_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(ask(file.path()).unwrap().is_file);
        assert!(!ask(Path::new("/")).unwrap().is_file);
        assert_eq!(ask(Path::new("/nowhere/at/all")), Err(Errno::ENOENT));
    }
}
