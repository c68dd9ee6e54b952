//! Which of the mounts are watched, found out by asking them, for the slow thread alone: any of them may hang.
//!
//! Containers are given single files as mounts, and some places cannot be reached by the user that we are. So of the places
//! where a file system is mounted the first one counts that is a folder and answers. Where none answers the best one is
//! watched all the same, so that it is named as what cannot be seen.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{major, minor};

use super::found::Mount;
use super::mounts::{self, Entry};
use super::post::Post;
use super::space::Space;

/// More file systems than this are not watched: a row of each is kept, told and exported.
pub const MOST: usize = 256;

/// Of the places of one file system, or of the data sets of one pool, so many are asked.
const ASKED: usize = 256;

/// Data sets of a pool say within this much the same where only the pool limits them.
const SAME_SPACE: f64 = 0.99;

/// What is watched, and how many file systems more there are.
#[derive(Debug, Default)]
pub struct Watched {
    pub mounts: Vec<Mount>,
    pub left_out: usize,
}

/// The thread that asks.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub post: &'a Post,
    pub office: u64,
}

enum Seat<'e> {
    /// What it answered; nothing where it was not asked, or did not answer.
    Folder(&'e Entry, Option<Space>),
    File(&'e Entry),
}

impl Asker<'_> {
    /// Those that the operator named.
    #[must_use]
    pub fn named(&self, points: &[std::path::PathBuf], entries: &[Entry]) -> Watched {
        let mount = |point: &std::path::PathBuf| self.mount(point, mounts::holding(entries, point));
        Watched { mounts: points.iter().map(mount).collect(), left_out: 0 }
    }

    /// All that are local. `None` where this thread was given up meanwhile.
    #[must_use]
    pub fn choose(&self, entries: &[Entry]) -> Option<Watched> {
        let (mut chosen, mut files) = (Vec::new(), Vec::new());
        for group in mounts::choose(entries) {
            match self.seat(&group)? {
                Seat::Folder(entry, space) => {
                    chosen.push(entry);
                    chosen.extend(self.limited(&group, entry, space)?);
                }
                Seat::File(entry) => files.push(entry),
            }
        }
        if chosen.is_empty() {
            chosen.extend(last_resort(entries, &files));
        }
        let left_out = chosen.len().saturating_sub(MOST);
        chosen.truncate(MOST);
        let mounts = chosen.into_iter().map(|entry| self.mount(&entry.point, Some(entry))).collect();
        Some(Watched { mounts, left_out })
    }

    /// The place by which a file system is watched.
    fn seat<'e>(&self, group: &[&'e Entry]) -> Option<Seat<'e>> {
        let first = *group.first()?;
        if group.len() == 1 && first.is_whole() {
            return Some(Seat::Folder(first, None));
        }
        let (mut file, mut silent) = (None, None);
        for entry in group.iter().take(ASKED) {
            match self.ask(entry)? {
                Ok(space) if space.is_file => file = file.or(Some(*entry)),
                Ok(space) => return Some(Seat::Folder(entry, Some(space))),
                Err(Errno::ENOTDIR) => file = file.or(Some(*entry)),
                Err(_) => silent = silent.or(Some(*entry)),
            }
        }
        Some(match (silent, file) {
            (None, Some(file)) => Seat::File(file),
            (Some(silent), None | Some(_)) => Seat::Folder(silent, None),
            (None, None) => Seat::Folder(first, None),
        })
    }

    /// The data sets of a pool that have less room than the pool: a quota of their own ends before it does.
    fn limited<'e>(&self, group: &[&'e Entry], pool: &Entry, space: Option<Space>) -> Option<Vec<&'e Entry>> {
        let mut limited = Vec::new();
        let Some(space) = space.filter(|_| pool.is_of_pool()) else { return Some(limited) };
        for entry in group.iter().filter(|entry| entry.point != pool.point).take(ASKED) {
            let own = self.ask(entry)?;
            if own.is_ok_and(|own| (own.available_bytes as f64) < space.available_bytes as f64 * SAME_SPACE) {
                limited.push(*entry);
            }
        }
        Some(limited)
    }

    /// What is known to hang is not asked.
    fn ask(&self, entry: &Entry) -> Option<Result<Space, Errno>> {
        if self.post.is_hung(&entry.point) {
            return Some(Err(Errno::ETIMEDOUT));
        }
        self.post.ask(self.office, &entry.point)
    }

    fn mount(&self, point: &Path, entry: Option<&Entry>) -> Mount {
        Mount {
            point: point.to_owned(),
            name: point.to_string_lossy().into_owned(),
            device: entry.and_then(device),
            source: entry.map(|entry| entry.source.clone()).unwrap_or_default(),
            file_system: entry.map(|entry| entry.file_system.clone()).unwrap_or_default(),
            mounted_writable: entry.is_some_and(|entry| entry.writable && !self.is_meant_to_be_read(entry)),
            file_system_writable: entry.is_some_and(|entry| entry.file_system_writable && !entry.is_image()).into(),
            ..Mount::default()
        }
    }

    /// A writable mount of something that nobody can write to: an image, a verified or write-protected device.
    fn is_meant_to_be_read(&self, entry: &Entry) -> bool {
        let is_locked = || {
            let (major, minor) = device(entry)?;
            let protected = self.post.sampling.sys_root.join(format!("dev/block/{major}:{minor}/ro"));
            Some(std::fs::read(protected).ok()?.trim_ascii() == b"1")
        };
        entry.is_image() || !entry.file_system_writable && is_locked() == Some(true)
    }
}

/// A container with nothing but single files for volumes: what it may write to is the layer above its image, or, where
/// that is read-only, the file system behind the files.
fn last_resort<'e>(entries: &'e [Entry], files: &[&'e Entry]) -> Option<&'e Entry> {
    let root = mounts::container_root(entries);
    let writable = |entry: &&Entry| entry.writable && entry.file_system_writable;
    let file = || files.iter().copied().find(writable);
    root.filter(writable).or_else(file).or(root).or(files.first().copied())
}

/// The block device: of the mount, or of its source where the file system makes up a number of its own (btrfs).
fn device(entry: &Entry) -> Option<(u32, u32)> {
    if entry.device.0 != 0 {
        return Some(entry.device);
    }
    let device = entry.source.starts_with("/dev/").then(|| std::fs::metadata(&entry.source).ok())??.rdev();
    Some((u32::try_from(major(device)).ok()?, u32::try_from(minor(device)).ok()?))
}
