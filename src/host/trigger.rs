//! Pressure triggers: the kernel wakes the loop (POLLPRI) when tasks begin to stall, which costs nothing until then.
//!
//! Measured: with CAP_SYS_RESOURCE a window of 500 ms wakes after some 70 ms of solid stall on Linux 6.1 and 6.12, and
//! 6.1 refuses shorter windows; without it 6.12 and 6.18 grant only multiples of 2 s, and such a trigger was not seen to
//! wake within 2.5 s of stall. A trigger lives as long as its descriptor. Nothing is ever written to a file that is not the kernel's own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::fuse::Fuse;
use crate::policy::action::pause_after;
use crate::policy::moment::Moment;
use crate::status::BlindSpot;

/// The shortest window that every kernel grants, and the shortest without privilege.
const WINDOWS_US: [u32; 2] = [500_000, 2_000_000];

/// What to watch, and the share of the window in percent in which some task must have stalled. Memory is to wake early;
/// a disk and a CPU that tasks wait for now and then are at work.
const WATCHED: [(Stall, &str, u32); 3] =
    [(Stall::Memory, "memory", 10), (Stall::Io, "io", 20), (Stall::Cpu, "cpu", 50)];

/// One that was armed for so long was well.
const LASTED: Duration = Duration::from_secs(60);

/// What tasks wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stall {
    Memory,
    Io,
    Cpu,
}

#[derive(Debug, Default)]
pub struct Triggers {
    armed: Vec<Armed>,
    blind_spots: Vec<BlindSpot>,
}

/// A trigger that the kernel has granted once.
#[derive(Debug)]
struct Armed {
    stall: Stall,
    path: PathBuf,
    share: u32,
    /// `None` where it is no more.
    file: Option<File>,
    since: Option<Moment>,
    tries: u32,
    /// When to arm it anew; `None`: nobody knows yet that it is no more.
    due: Option<Moment>,
}

/// What a look at the triggers found.
#[derive(Debug, PartialEq, Eq)]
pub struct Mended {
    pub place: usize,
    pub what: String,
    /// Why it is not armed; `None`: it is again.
    pub why: Option<String>,
}

impl Triggers {
    /// Arms what can be armed; what cannot is a blind spot.
    #[must_use]
    pub fn arm(proc_root: &Path) -> Self {
        let mut triggers = Self::default();
        let mut shortest = true;
        // Opening one of those could hang.
        let fuse = Fuse::find(proc_root, proc_root);
        let arm = |path: &Path, share| if fuse.serves(path) { Err(foreign()) } else { arm_one(path, share) };
        for (stall, resource, share) in WATCHED {
            let path = proc_root.join("pressure").join(resource);
            match arm(&path, share) {
                Ok((file, window_us)) => {
                    shortest &= window_us == WINDOWS_US[0];
                    triggers.armed.push(Armed::new(stall, path, share, file));
                }
                Err(error) => triggers.tell(&name_of(&path), &not_armed(resource, &error)),
            }
        }
        if !shortest {
            triggers.tell("pressure triggers", "without CAP_SYS_RESOURCE, pressure alerts can be up to 2 s late");
        }
        triggers
    }

    fn tell(&mut self, what: &str, why: &str) {
        self.blind_spots.push(BlindSpot { what: what.to_owned(), why: why.to_owned() });
    }

    /// To be polled with POLLPRI, each with its place. POLLERR means that the trigger is no more.
    pub fn fds(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.armed.iter().enumerate().filter_map(|(place, armed)| Some((place, armed.file.as_ref()?.as_fd())))
    }

    #[must_use]
    pub fn fd(&self, place: usize) -> Option<BorrowedFd<'_>> {
        self.armed.get(place)?.file.as_ref().map(AsFd::as_fd)
    }

    /// What the trigger at this place is about.
    #[must_use]
    pub fn stall(&self, place: usize) -> Option<Stall> {
        self.armed.get(place).map(|armed| armed.stall)
    }

    /// The trigger at this place is no more.
    pub fn lose(&mut self, place: usize) {
        if let Some(armed) = self.armed.get_mut(place) {
            (armed.file, armed.due) = (None, None);
        }
    }

    /// Arms anew what is no more, with growing pauses; each turn is told once. One that is no more as soon as it is armed
    /// is not tried any faster.
    pub fn mend(&mut self, now: Moment) -> Vec<Mended> {
        let mut mended = Vec::new();
        for (place, armed) in self.armed.iter_mut().enumerate().filter(|(_, armed)| armed.file.is_none()) {
            let what = name_of(&armed.path);
            match armed.due {
                None => {
                    if armed.since.is_none_or(|since| now.since(since) >= LASTED) {
                        armed.tries = 0;
                    }
                    armed.postpone(now);
                    let why = "the kernel has ended it, so such a stall does not wake the guardian early; it is set \
                               again at least once a minute";
                    mended.push(Mended { place, what, why: Some(why.to_owned()) });
                }
                Some(due) if now < due => {}
                Some(_) => match arm_one(&armed.path, armed.share) {
                    Ok((file, _)) => {
                        (armed.file, armed.since) = (Some(file), Some(now));
                        mended.push(Mended { place, what, why: None });
                    }
                    Err(_) => armed.postpone(now),
                },
            }
        }
        mended
    }

    #[must_use]
    pub fn blind_spots(&self) -> &[BlindSpot] {
        &self.blind_spots
    }

    /// One that was armed as this.
    #[cfg(test)]
    pub fn holding(stall: Stall, path: &Path, file: File) -> Self {
        Self { armed: vec![Armed::new(stall, path.to_owned(), 10, file)], blind_spots: Vec::new() }
    }
}

impl Armed {
    const fn new(stall: Stall, path: PathBuf, share: u32, file: File) -> Self {
        Self { stall, path, share, file: Some(file), since: None, tries: 0, due: None }
    }

    fn postpone(&mut self, now: Moment) {
        self.due = Some(now + pause_after(self.tries));
        self.tries += 1;
    }
}

fn name_of(path: &Path) -> String {
    format!("trigger on {}", path.display())
}

fn not_armed(resource: &str, error: &io::Error) -> String {
    format!(
        "{error}: {resource} pressure does not wake the guardian early; it needs Linux 5.2, and CAP_SYS_RESOURCE \
         where the \
         kernel asks for it"
    )
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "not a file of the kernel")
}

/// The trigger, and its window.
fn arm_one(path: &Path, share: u32) -> io::Result<(File, u32)> {
    let mut refused = io::Error::from(io::ErrorKind::Unsupported);
    for window_us in WINDOWS_US {
        let mut file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if fstatfs(&file)?.filesystem_type() != PROC_SUPER_MAGIC {
            return Err(foreign());
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
    }
}
