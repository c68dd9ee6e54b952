//! One guardian per journal: a lock on the directory that the kernel lets go with the process. Never waits.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::JournalError;
use super::place::leads_to;
use crate::ending;

/// Held until dropped; the lock leaves no file behind.
#[derive(Debug)]
pub struct Lock {
    directory: File,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// To write.
    Alone,
    /// To look, beside others who look.
    Together,
}

impl Lock {
    /// # Errors
    /// When another process has it, named where the kernel tells, or the directory cannot be opened.
    pub fn take(directory: &Path, sharing: Sharing) -> Result<Self, JournalError> {
        let refused = |error| JournalError::io("lock", directory, error);
        let file = File::open(directory).map_err(refused)?;
        let taken = match sharing {
            Sharing::Alone => file.try_lock(),
            Sharing::Together => file.try_lock_shared(),
        };
        match taken {
            Ok(()) => Ok(Self { directory: file }),
            Err(TryLockError::WouldBlock) => Err(held(directory, holder(&file))),
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }

    /// Whether this path leads to what is locked.
    pub fn is_of(&self, path: &Path) -> bool {
        leads_to(path, &self.directory)
    }
}

fn held(directory: &Path, pid: Option<u32>) -> JournalError {
    let directory = directory.to_owned();
    match pid {
        Some(pid) if ending::is_ending(pid) => JournalError::Ending { directory, pid },
        _ => JournalError::Held { directory, pid },
    }
}

fn holder(file: &File) -> Option<u32> {
    pid_of_lock(&fs::read_to_string("/proc/locks").ok()?, file.metadata().ok()?.ino())
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`: the inode alone, since some file systems report another device
/// here than to `stat`.
fn pid_of_lock(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid, place) = (words.next()?, words.nth(2)?, words.next()?);
        let same = place.rsplit(':').next()?.parse() == Ok(inode);
        (kind == "FLOCK" && same).then(|| pid.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_among_other_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 fe:00:77 0 EOF\n";
        assert_eq!(pid_of_lock(locks, 77), Some(14));
        assert_eq!(pid_of_lock(locks, 79), None);
        assert_eq!(pid_of_lock("nonsense\n\n1:\n", 79), None);
    }
}
