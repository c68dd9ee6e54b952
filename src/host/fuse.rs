//! Files that FUSE serves instead of the kernel, as lxcfs does in containers: a reader waits for that program. They are
//! found by the mount table, since opening the file itself would wait too.

use std::path::{Path, PathBuf};

use super::mounts::{self, Entry};
use super::scan::lines;
use crate::config::settings::Sampling;

/// Where such file systems are mounted, of those that the guardian reads from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fuse(Vec<PathBuf>);

impl Fuse {
    /// Reads the mount table. A node has thousands of mounts, and none of this kind: only those are parsed.
    #[must_use]
    pub fn find(proc_root: &Path, sys_root: &Path) -> Self {
        let table = std::fs::read(proc_root.join("self/mountinfo")).unwrap_or_default();
        let told = lines(&table).filter(|line| line.windows(FUSE.len()).any(|part| part == FUSE));
        let entries: Vec<Entry> = told.filter_map(mounts::parse_line).collect();
        Self::among(&entries, proc_root, sys_root)
    }

    #[must_use]
    pub fn of(entries: &[Entry], sampling: &Sampling) -> Self {
        Self::among(entries, &sampling.proc_root, &sampling.sys_root)
    }

    fn among(entries: &[Entry], proc_root: &Path, sys_root: &Path) -> Self {
        let counts =
            |point: &Path| [proc_root, sys_root].iter().any(|root| point.starts_with(root) || root.starts_with(point));
        let served = entries.iter().filter(|entry| entry.is_served() && counts(&entry.point));
        Self(served.map(|entry| entry.point.clone()).collect())
    }

    /// Whether that file is on one of them. Nothing is asked, and nothing allocated.
    #[must_use]
    pub fn serves(&self, path: &Path) -> bool {
        self.0.iter().any(|point| path.starts_with(point))
    }
}

const FUSE: &[u8] = b" - fuse";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_told_by_the_table() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("proc");
        std::fs::create_dir_all(root.join("self")).unwrap();
        let shown = root.display();
        let table = format!(
            "22 1 0:21 / {shown} rw - proc proc rw\n\
             40 22 0:50 /proc/meminfo {shown}/meminfo rw - fuse.lxcfs lxcfs rw\n\
             41 22 0:50 /proc/pressure {shown}/pressure rw - fuse.lxcfs lxcfs rw\n\
             42 1 0:51 / /home/fuse rw - fuse.sshfs away rw\n\
             43 22 0:52 / {shown}/vmstat rw - tmpfs fuse rw\n\
             44 22 0:53 / /sys/fs/fuse/connections rw - fusectl fusectl rw\n"
        );
        std::fs::write(root.join("self/mountinfo"), &table).unwrap();
        let fuse = Fuse::find(&root, Path::new("/sys"));
        let served = |name: &str| fuse.serves(&root.join(name));
        assert!(served("meminfo") && served("pressure/memory"));
        assert!(!served("stat") && !served("vmstat") && !served("meminfo2"));
        assert!(!fuse.serves(Path::new("/sys/fs/fuse/connections/x")) && !fuse.serves(Path::new("/home/fuse/x")));
        let sampling = Sampling { proc_root: root.clone(), sys_root: "/sys".into(), ..Sampling::default() };
        assert_eq!(Fuse::of(&mounts::parse(table.as_bytes()), &sampling), fuse);
        std::fs::write(root.join("self/mountinfo"), "5 1 0:9 / / rw - fuse.image image rw\n").unwrap();
        assert!(Fuse::find(&root, Path::new("/sys")).serves(&root.join("stat")), "all of it");
    }
}
