//! Pressure triggers: the kernel wakes the loop (POLLPRI) when tasks begin to stall, which costs nothing until then.
//!
//! Measured: with CAP_SYS_RESOURCE a window of 500 ms wakes after some 70 ms of solid stall on Linux 6.1 and 6.12, and
//! 6.1 refuses shorter windows; without it 6.12 and 6.18 grant only multiples of 2 s, and such a trigger was not seen to
//! wake within 2.5 s of stall. A trigger lives as long as its descriptor. Nothing is ever written to a file that is not the kernel's own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::status::BlindSpot;

/// The shortest window that every kernel grants, and the shortest without privilege.
const WINDOWS_US: [u32; 2] = [500_000, 2_000_000];

/// What to watch, and the share of the window in percent in which some task must have stalled. Memory is to wake early;
/// a disk and a CPU that tasks wait for now and then are at work.
const WATCHED: [(&str, u32, Kind); 3] =
    [("memory", 10, Kind::Stall), ("io", 20, Kind::Queue), ("cpu", 50, Kind::Queue)];

/// What a trigger tells of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Memory is short: it may get worse within milliseconds.
    Stall,
    /// Tasks wait for a CPU or a disk. On a busy node they often do, so it is worth a look and not a closer watch.
    Queue,
}

#[derive(Debug, Default)]
pub struct Triggers {
    armed: Vec<(File, Kind)>,
    blind_spots: Vec<BlindSpot>,
}

impl Triggers {
    /// Arms what can be armed; what cannot is a blind spot.
    #[must_use]
    pub fn arm(proc_root: &Path) -> Self {
        let mut triggers = Self::default();
        let mut shortest = true;
        for (resource, share, kind) in WATCHED {
            let path = proc_root.join("pressure").join(resource);
            match arm_one(&path, share) {
                Ok((file, window_us)) => {
                    shortest &= window_us == WINDOWS_US[0];
                    triggers.armed.push((file, kind));
                }
                Err(error) => triggers.tell(&format!("trigger on {}", path.display()), &not_armed(resource, &error)),
            }
        }
        if !shortest {
            triggers
                .tell("pressure triggers", "without CAP_SYS_RESOURCE the kernel grants windows of 2 s: they wake late");
        }
        triggers
    }

    fn tell(&mut self, what: &str, why: &str) {
        self.blind_spots.push(BlindSpot { what: what.to_owned(), why: why.to_owned() });
    }

    /// To be polled with POLLPRI. POLLERR means that the trigger is no more.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.armed.iter().map(|(file, _)| file.as_fd())
    }

    /// Of the descriptor at this place of [`Triggers::fds`].
    #[must_use]
    pub fn kind(&self, index: usize) -> Option<Kind> {
        self.armed.get(index).map(|(_, kind)| *kind)
    }

    #[must_use]
    pub fn blind_spots(&self) -> &[BlindSpot] {
        &self.blind_spots
    }
}

fn not_armed(resource: &str, error: &io::Error) -> String {
    format!(
        "{error}: {resource} pressure does not wake the guardian early; it needs Linux 5.2, and CAP_SYS_RESOURCE where the \
         kernel asks for it"
    )
}

/// The trigger, and its window.
fn arm_one(path: &Path, share: u32) -> io::Result<(File, u32)> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for window_us in WINDOWS_US {
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if fstatfs(&file)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "not a file of the kernel"));
        }
        // One write with the closing zero: a partial one would arm nothing.
        match file.write_all(format!("some {} {window_us}\0", window_us / 100 * share).as_bytes()) {
            Ok(()) => return Ok((file, window_us)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pressure/memory");
        std::fs::create_dir(folder.path().join("pressure")).unwrap();
        std::fs::write(&file, "some avg10=0.00\n").unwrap();
        let triggers = Triggers::arm(folder.path());
        assert_eq!(triggers.fds().count(), 0);
        assert_eq!(triggers.blind_spots().len(), 3);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "some avg10=0.00\n");
    }

    #[test]
    fn each_resource_is_armed_or_a_blind_spot() {
        let triggers = Triggers::arm(Path::new("/proc"));
        let refused = triggers.blind_spots().iter().filter(|spot| spot.what.starts_with("trigger on")).count();
        assert_eq!(triggers.fds().count() + refused, WATCHED.len());
        if refused == 0 {
            let kinds: Vec<_> = (0..4).filter_map(|index| triggers.kind(index)).collect();
            assert_eq!(kinds, [Kind::Stall, Kind::Queue, Kind::Queue]);
        }
    }
}
