//! One life of a process, held by a descriptor of it: a signal goes to that life or to nobody, whoever has its pid by now.
//! Whom the guardian must never signal is refused here, whatever the configuration says.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::table::{self, Life, Stat};
use crate::control::boot_id;
use crate::control::failure::Failure;
use crate::policy::mitigation::Outcome;

pub struct Pinned {
    pub pid: i32,
    pub start: u64,
    descriptor: OwnedFd,
}

impl Pinned {
    /// `None` where there is no such process.
    ///
    /// # Errors
    /// Where it must never be acted on, or nobody can tell.
    pub fn open(pid: i32) -> Result<Option<Self>, Failure> {
        if pid == 1 {
            return Err(Failure::refused("process 1 is never acted on: it is the whole node, or the whole container"));
        }
        if u32::try_from(pid) == Ok(std::process::id()) {
            return Err(Failure::refused("this is the guardian itself, which it never acts on"));
        }
        // SAFETY: a number and no flags; the kernel makes the descriptor close-on-exec.
        let descriptor = match Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) {
            Ok(descriptor) => i32::try_from(descriptor).map_err(|_| untold(pid, "no such descriptor"))?,
            Err(Errno::ESRCH) => return Ok(None),
            Err(Errno::ENOSYS) => {
                return Err(Failure::unsupported("this kernel has no pidfd_open: processes need Linux 5.3"));
            }
            // The second since Linux 6.15.
            Err(Errno::EINVAL | Errno::ENOENT) => {
                return Err(Failure::refused(format!("{pid} is a thread, not a process")));
            }
            Err(errno) => return Err(untold(pid, errno.desc())),
        };
        // SAFETY: the kernel has just given it to us alone.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let stat = table::stat(pid);
        // Read while it was alive, this is about it and not about whoever got its pid later.
        if is_over(&descriptor) {
            return Ok(None);
        }
        let Some(stat) = stat else {
            return Err(untold(pid, "/proc hides it: let the guardian's user see it (hidepid=, gid=)"));
        };
        if stat.is_kernel {
            return Err(Failure::refused(format!("{pid} is a thread of the kernel, which is never acted on")));
        }
        Ok(Some(Self { pid, start: stat.start, descriptor }))
    }

    /// The life that an undo is about. `None` where it is over.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub fn recall(epoch: &str) -> Result<Option<Self>, Failure> {
        let Some((boot, pid, start)) = parts(epoch) else {
            return Err(Failure::unsupported(format!("`{epoch}` names no process")));
        };
        if boot != boot_id() {
            return Ok(None);
        }
        match Self::open(pid) {
            // Nobody of those was ever acted on: one of them has the pid by now.
            Err(failure) if failure.outcome == Outcome::Refused => Ok(None),
            found => Ok(found?.filter(|process| process.start == start)),
        }
    }

    /// Whether this names a life that the node has not outlived.
    pub fn is_of_this_boot(epoch: &str) -> bool {
        epoch.split(':').next() == Some(boot_id())
    }

    /// Of the life that this names.
    pub fn pid_of(epoch: &str) -> Option<i32> {
        parts(epoch).map(|(_, pid, _)| pid)
    }

    /// The life that this names. `None` where the node has outlived it.
    pub fn life_of(epoch: &str) -> Option<Life> {
        let (boot, pid, start) = parts(epoch)?;
        (boot == boot_id()).then_some((pid, start))
    }

    pub fn epoch(&self) -> String {
        Self::epoch_of((self.pid, self.start))
    }

    pub fn epoch_of((pid, start): Life) -> String {
        format!("{}:{pid}:{start}", boot_id())
    }

    /// `None` where it is over.
    pub fn stat(&self) -> Option<Stat> {
        table::stat(self.pid).filter(|stat| stat.start == self.start && !is_over(&self.descriptor))
    }

    pub fn is_over(&self) -> bool {
        is_over(&self.descriptor)
    }

    /// 0 asks whether it may be signalled.
    ///
    /// # Errors
    /// As `kill` does; ESRCH where it is over.
    pub fn signal(&self, signal: i32) -> nix::Result<()> {
        self.send(signal, std::ptr::null())
    }

    /// With a number, as `sigqueue` does.
    ///
    /// # Errors
    /// As `sigqueue` does.
    pub fn queue(&self, signal: i32, value: i32) -> nix::Result<()> {
        let bytes = queued(signal, value);
        self.send(signal, bytes.0.as_ptr().cast())
    }

    fn send(&self, signal: i32, info: *const libc::siginfo_t) -> nix::Result<()> {
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: `info` is null or a whole siginfo_t that outlives the call.
        Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, descriptor, signal, info, 0) }).map(drop)
    }

    /// Why it may not be signalled, if so.
    ///
    /// # Errors
    /// With what to do about it.
    pub fn may_signal(&self) -> Result<(), Failure> {
        match self.signal(0) {
            Ok(()) => Ok(()),
            Err(errno) => Err(self.unsent(errno)),
        }
    }

    pub fn unsent(&self, errno: Errno) -> Failure {
        match errno {
            Errno::EPERM => Failure::refused(format!(
                "may not signal process {}, which runs as another user: give the guardian's unit CAP_KILL \
                 (AmbientCapabilities= and CapabilityBoundingSet=)",
                self.pid
            )),
            Errno::ESRCH => Failure::epoch_changed("the process"),
            errno => Failure::refused(format!("cannot signal process {}: {}", self.pid, errno.desc())),
        }
    }
}

/// Boot, pid and start.
fn parts(epoch: &str) -> Option<(&str, i32, u64)> {
    let mut parts = epoch.splitn(3, ':');
    Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// As the kernel lays it out on 64 bits: signal, error, code, padding; pid, uid; value.
#[repr(C, align(8))]
struct Queued([u8; 128]);

fn queued(signal: i32, value: i32) -> Queued {
    let mut bytes = Queued([0; 128]);
    let pid = std::process::id();
    let uid = nix::unistd::getuid().as_raw();
    let parts = [
        (0, signal.to_ne_bytes()),
        (8, libc::SI_QUEUE.to_ne_bytes()),
        (16, pid.to_ne_bytes()),
        (20, uid.to_ne_bytes()),
        (24, value.to_ne_bytes()),
    ];
    for (at, part) in parts {
        bytes.0[at..at + 4].copy_from_slice(&part);
    }
    bytes
}

/// A descriptor of a process can be read once it has ended, whether or not somebody has waited for it.
fn is_over(descriptor: &OwnedFd) -> bool {
    let mut ends = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    poll(&mut ends, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn untold(pid: i32, why: &str) -> Failure {
    Failure::unreachable(format!("cannot tell what process {pid} is: {why}"))
}

/// # Errors
/// Where the guardian itself is among them.
pub fn tree(process: &Pinned) -> Result<Vec<i32>, Failure> {
    let told = |error: io::Error| {
        Failure::unsupported(format!("cannot list what process {} has started: {error}", process.pid))
    };
    let found = table::tree(process.pid).map_err(told)?;
    if found.iter().any(|pid| u32::try_from(*pid) == Ok(std::process::id())) {
        return Err(Failure::refused(format!("the guardian itself was started by process {}", process.pid)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_never_acted_on() {
        for pid in [1, i32::try_from(std::process::id()).unwrap()] {
            assert_eq!(Pinned::open(pid).err().unwrap().outcome, Outcome::Refused);
        }
    }

    #[test]
    fn nobody_else_is_taken_for_a_life_that_is_over() {
        let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap();
        let process = Pinned::open(parent).unwrap().unwrap();
        let again = Pinned::recall(&process.epoch()).unwrap().unwrap();
        assert_eq!((again.pid, again.start), (process.pid, process.start));
        let other = format!("{}:{}:{}", boot_id(), parent, process.start + 1);
        assert!(Pinned::recall(&other).unwrap().is_none());
        assert!(Pinned::recall(&format!("another:{parent}:{}", process.start)).unwrap().is_none());
        assert!(Pinned::recall("garbage").is_err());
    }

    /// Else its undo would be owed for as long as they live.
    #[test]
    fn a_life_is_over_whose_pid_nobody_may_touch_any_more() {
        let own = i32::try_from(std::process::id()).unwrap();
        let thread = table::threads(own).into_iter().find(|id| *id != own).unwrap();
        for pid in [own, thread] {
            assert!(Pinned::recall(&format!("{}:{pid}:7", boot_id())).unwrap().is_none());
        }
    }
}
