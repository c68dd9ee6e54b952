//! Groups of the idle class: `cpu.idle` = 1 (`CPUWeight=idle` of a unit). Their work makes way for all other work, as niced work
//! does, and /proc/stat books it like any other. The slow thread finds the groups, now and then; the loop reads what they used,
//! which is one number of each. Processes that chose that class themselves are the matter of [`super::idle_tasks`].

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::scan::number;
use super::slot::{Slot, View};
use super::usage::parse_usage;
use crate::policy::moment::Moment;

/// More are counted like any other: a node has a few, or one with everything below it.
const MOST: usize = 16;
/// So many groups are looked at. A node with a thousand containers has some thousands of them.
const LOOKED_AT: usize = 8192;
const DEEPEST: usize = 12;
/// cpu.stat has 300 bytes.
const STAT_BYTES: usize = 1024;

/// Found by the slow thread, with what it used open to be read.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    inode: u64,
    usage: File,
}

impl PartialEq for Group {
    /// Not one that was made anew under the same name.
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.inode == other.inode
    }
}

/// Which there are now; what is known already stays open.
#[must_use]
pub fn find(mounted: &Path, known: &[Arc<Group>]) -> Vec<Arc<Group>> {
    let mut found = Vec::new();
    let mut waiting: Vec<(PathBuf, usize)> = hierarchies(mounted).into_iter().map(|root| (root, 0)).collect();
    let mut looked_at = 0;
    while let Some((folder, depth)) = waiting.pop().filter(|_| found.len() < MOST && looked_at < LOOKED_AT) {
        looked_at += 1;
        let idle = fs::read(folder.join("cpu.idle")).ok();
        match idle.as_deref().map(<[u8]>::trim_ascii) {
            Some(b"1") => {
                let inode = fs::metadata(&folder).map_or(0, |group| group.ino());
                let same = known.iter().find(|group| group.path == folder && group.inode == inode).map(Arc::clone);
                found.extend(same.or_else(|| Group::open(folder, inode).map(Arc::new)));
            }
            // Without the controller here, nothing below has it either; the root of version 2 never has the file.
            None if depth > 0 => {}
            Some(_) | None if depth < DEEPEST => {
                let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
                let folders = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                waiting.extend(folders.map(|entry| (entry.path(), depth + 1)));
            }
            Some(_) | None => {}
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Where the controller is: its own hierarchy in version 1, else the one of version 2.
fn hierarchies(mounted: &Path) -> Option<PathBuf> {
    let names = ["cpu", "cpu,cpuacct", "cpuacct,cpu"];
    names.map(|name| mounted.join(name)).into_iter().find(|root| root.is_dir()).or_else(|| Some(mounted.to_owned()))
}

impl Group {
    fn open(path: PathBuf, inode: u64) -> Option<Self> {
        // Version 1 has it in nanoseconds; mounted alone, in another hierarchy.
        let apart =
            path.components().map(|part| if part.as_os_str() == "cpu" { "cpuacct".as_ref() } else { part.as_os_str() });
        let apart: PathBuf = apart.collect();
        let files = [path.join("cpuacct.usage"), apart.join("cpuacct.usage"), path.join("cpu.stat")];
        // The cpu.stat of version 1 says nothing of that, and the other hierarchy may get the group later.
        let usage = files.iter().find_map(|file| File::open(file).ok().filter(|usage| used(usage).is_some()))?;
        Some(Self { path, inode, usage })
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Of what makes way for all others.
pub trait Used {
    /// Nanoseconds since it began; `None` where it is gone.
    fn used(&self) -> Option<u64>;
}

impl Used for Group {
    fn used(&self) -> Option<u64> {
        used(&self.usage)
    }
}

/// Nanoseconds, less those of niced work, which are counted as such.
fn used(usage: &File) -> Option<u64> {
    let mut text = [0; STAT_BYTES];
    let length = usage.read_at(&mut text, 0).ok()?;
    let text = &text[..length];
    number(text.trim_ascii()).or_else(|| parse_usage(text))
}

/// What they used, for the loop.
#[derive(Debug)]
pub struct Idle<T> {
    found: View<Vec<Arc<T>>>,
    /// Of each, in that order.
    used: Vec<Option<u64>>,
    at: Option<Moment>,
}

impl<T> Default for Idle<T> {
    fn default() -> Self {
        Self { found: View::of(Arc::default()), used: Vec::new(), at: None }
    }
}

impl<T: Used> Idle<T> {
    /// In percent of so many CPUs, since the last call.
    pub fn share(&mut self, now: Moment, found: &Slot<Vec<Arc<T>>>, cpus: u32) -> f64 {
        let before = Arc::clone(&self.found.value);
        if self.found.refresh(found) {
            let last = |one: &Arc<T>| {
                let at = before.iter().position(|known| Arc::ptr_eq(known, one))?;
                self.used.get(at).copied().flatten()
            };
            self.used = self.found.value.iter().map(last).collect();
        }
        let mut used = 0;
        for (group, last) in self.found.value.iter().zip(&mut self.used) {
            let now = group.used();
            used += last.zip(now).map_or(0, |(before, now)| now.saturating_sub(before));
            *last = now;
        }
        let elapsed = self.at.replace(now).map_or(Duration::ZERO, |at| now.since(at)).as_nanos() * u128::from(cpus);
        if elapsed == 0 { 0.0 } else { (100.0 * used as f64 / elapsed as f64).min(100.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn tree(groups: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, idle, stat) in groups {
            let path = folder.path().join(path);
            fs::create_dir_all(&path).unwrap();
            if !idle.is_empty() {
                fs::write(path.join("cpu.idle"), idle).unwrap();
            }
            fs::write(path.join("cpu.stat"), stat).unwrap();
        }
        folder
    }

    #[test]
    fn groups_are_found_wherever_the_controller_reaches() {
        let none = "usage_usec 0\n";
        let folder = tree(&[
            ("", "", none),
            ("batch.slice", "1\n", none),
            ("batch.slice/a.service", "1\n", none),
            ("system.slice", "0\n", none),
            ("system.slice/backup.service", "1\n", none),
            ("system.slice/web.service", "0\n", none),
            ("user.slice/without/controller", "1\n", none),
        ]);
        let found = find(folder.path(), &[]);
        let paths: Vec<_> = found.iter().map(|group| group.path.strip_prefix(folder.path()).unwrap()).collect();
        assert_eq!(paths, [Path::new("batch.slice"), Path::new("system.slice/backup.service")]);
        let again = find(folder.path(), &found);
        assert!(found.iter().zip(&again).all(|(a, b)| Arc::ptr_eq(a, b)), "they stay open");
    }

    #[test]
    fn what_they_used_is_a_share_of_all_cpus_without_what_is_niced() {
        let folder = tree(&[("", "", ""), ("batch", "1\n", "usage_usec 5000000\nnice_usec 1000000\n")]);
        let (slot, mut idle) = (Slot::default(), Idle::default());
        slot.offer(find(folder.path(), &[]));
        assert_eq!(idle.share(at(1), &slot, 2), 0.0, "nothing is known of the time before");
        fs::write(folder.path().join("batch/cpu.stat"), "usage_usec 6500000\nnice_usec 1500000\n").unwrap();
        assert_eq!(idle.share(at(2), &slot, 2), 50.0);
        let other = tree(&[("", "", ""), ("other", "1\n", "usage_usec 1\n")]);
        let known = [slot.get().to_vec(), find(other.path(), &[])].concat();
        slot.offer(known);
        fs::write(folder.path().join("batch/cpu.stat"), "usage_usec 7500000\nnice_usec 1500000\n").unwrap();
        assert_eq!(idle.share(at(3), &slot, 2), 50.0, "another one is found, and this goes on");
        slot.offer(Vec::new());
        assert_eq!(idle.share(at(4), &slot, 2), 0.0);
    }

    #[test]
    fn version_1_says_it_in_its_own_hierarchies() {
        let folder = tree(&[("cpu/batch", "1\n", ""), ("cpu", "0\n", ""), ("cpuacct/batch", "", "")]);
        fs::write(folder.path().join("cpuacct/batch/cpuacct.usage"), "7000000000\n").unwrap();
        let found = find(folder.path(), &[]);
        assert_eq!(found.iter().map(|group| group.used()).collect::<Vec<_>>(), [Some(7_000_000_000)]);
    }
}
