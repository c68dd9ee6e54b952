//! The directory of flag files. A flag of ours says so in its first line; any other is an operator's, and is neither
//! written nor removed. A flag appears whole or not at all: one without its first line could never be taken away again.
//! The directory lies in memory and each call is short, so they are made where they are needed.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, linkat, read, unlinkat, write};

use super::level::{self, ABSENT};
use crate::control::boot_id;
use crate::control::failure::Failure;
use crate::policy::mitigation::Outcome;

const OURS: &[u8] = b"set by node-guardian, which removes this file when it is over\n";
/// What a flag that is not ours reads as.
const THEIRS: &str = "somebody else's";
/// Where a flag is written before it appears under its name.
const DRAFT: &str = ".node-guardian";
/// nginx's workers run as another user, who must get through and need read nothing.
const OPEN_TO_ALL: u32 = 0o755;
/// `FS_APPEND_FL` of linux/fs.h.
const APPEND_ONLY: libc::c_long = 0x20;
const USABLE: AccessFlags = AccessFlags::W_OK.union(AccessFlags::X_OK);

pub struct Flags {
    directory: OwnedFd,
}

impl Flags {
    /// # Errors
    /// `EpochChanged` where there is none: with it went what was set.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self { directory }),
            Err(Errno::ENOENT) => Err(gone(path)),
            Err(errno) => Err(unusable(path, errno)),
        }
    }

    /// The same, made where it is not there.
    pub fn make(path: &Path) -> Result<Self, Failure> {
        match fs::DirBuilder::new().mode(OPEN_TO_ALL).create(path) {
            Ok(()) => {
                let made = Self::open(path)?;
                // Our mask took what others need away.
                fchmod(&made.directory, Mode::from_bits_truncate(OPEN_TO_ALL))
                    .map_err(|errno| unusable(path, errno))?;
                Ok(made)
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Self::open(path),
            Err(error) => {
                let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
                Err(unusable(path, errno))
            }
        }
    }

    /// Names this directory: another one in its place has none of the flags that were set in this one.
    pub fn epoch(&self) -> Result<String, Failure> {
        let inode = fstat(&self.directory).map_err(|errno| told(errno, "the directory of flags"))?.st_ino;
        let in_memory = fstatfs(&self.directory).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC);
        // A number of memory's comes back after a reboot; on a disk a directory outlives one.
        Ok(format!("{}:{inode}", if in_memory { boot_id() } else { "disk" }))
    }

    /// The level as a percentage where the flag is ours, nothing where there is none.
    pub fn read(&self, flag: u8) -> Result<String, Failure> {
        let how = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let name = level::file(flag);
        let file = match openat(self.directory.as_fd(), name.as_str(), how, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(ABSENT.to_owned()),
            // What we cannot even open, a link among them, we did not make.
            Err(Errno::ELOOP | Errno::EACCES | Errno::ENXIO) => return Ok(THEIRS.to_owned()),
            Err(errno) => return Err(told(errno, &name)),
        };
        let mut start = [0; OURS.len()];
        match read(&file, &mut start) {
            Ok(length) if start[..length] == *OURS => Ok(level::set(flag)),
            Ok(_) | Err(Errno::EISDIR) => Ok(THEIRS.to_owned()),
            Err(errno) => Err(told(errno, &name)),
        }
    }

    /// Makes it be there, or not. What is somebody else's stays as it is.
    pub fn write(&self, flag: u8, value: &str) -> Result<(), Failure> {
        let live = self.read(flag)?;
        if live == value {
            return Ok(());
        }
        if live == THEIRS {
            return Err(Failure::refused(format!("{} is not a flag of ours, so it stays", level::file(flag))));
        }
        if value == ABSENT { self.remove(&level::file(flag)) } else { self.create(&level::file(flag)) }
    }

    fn create(&self, name: &str) -> Result<(), Failure> {
        let at = self.directory.as_fd();
        let failed = |errno| told(errno, name);
        // Left behind by a guardian that was killed right here.
        unlinkat(at, DRAFT, UnlinkatFlags::NoRemoveDir).or_else(missing_is_fine).map_err(failed)?;
        let how = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(at, DRAFT, how, Mode::from_bits_truncate(0o644)).map_err(failed)?;
        let written =
            write(&file, OURS).and_then(|length| if length == OURS.len() { Ok(()) } else { Err(Errno::ENOSPC) });
        // Unlike a rename, this never takes the place of a file that appeared meanwhile.
        let linked = written
            .and_then(|()| fchmod(&file, Mode::from_bits_truncate(0o644)))
            .and_then(|()| linkat(at, DRAFT, at, name, AtFlags::empty()));
        unlinkat(at, DRAFT, UnlinkatFlags::NoRemoveDir).or_else(missing_is_fine).map_err(failed)?;
        linked.map_err(failed)
    }

    /// A directory that only takes files would keep each flag for ever.
    fn may_be_removed(&self, path: &Path) -> Result<(), Failure> {
        let mut attributes: libc::c_long = 0;
        // SAFETY: this request writes one int, into the room of a long.
        let told = unsafe { libc::ioctl(self.directory.as_raw_fd(), libc::FS_IOC_GETFLAGS as _, &raw mut attributes) };
        // Most file systems have no such attributes.
        if told == 0 && attributes & APPEND_ONLY != 0 {
            return Err(Failure::refused(format!(
                "a flag in {} could not be removed again: take the append-only attribute away, `chattr -a {0}`",
                path.display()
            )));
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let removed = unlinkat(self.directory.as_fd(), name, UnlinkatFlags::NoRemoveDir);
        removed.or_else(missing_is_fine).map_err(|errno| told(errno, name))
    }
}

/// Whether flags could be set there; and who may not see them. Changes nothing.
pub fn probe(path: &Path) -> Result<Option<String>, Failure> {
    let there = match Flags::open(path) {
        Ok(flags) => {
            faccessat(&flags.directory, ".", USABLE, AtFlags::AT_EACCESS).map_err(|errno| unusable(path, errno))?;
            flags.may_be_removed(path)?;
            path
        }
        Err(failure) if failure.outcome == Outcome::EpochChanged => {
            let above = path.parent().unwrap_or(path);
            faccessat(AT_FDCWD, above, USABLE, AtFlags::AT_EACCESS).map_err(|errno| unusable(above, errno))?;
            above
        }
        Err(failure) => return Err(failure),
    };
    Ok(there.ancestors().find(|folder| is_closed_to_others(folder)).map(|closed| {
        format!(
            "{} is closed to others, so nginx sees no flag unless its workers are let in: `chmod o+x`, or under \
             systemd \
             `RuntimeDirectoryMode=0755`",
            closed.display()
        )
    }))
}

fn is_closed_to_others(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 == 0)
}

fn missing_is_fine(errno: Errno) -> nix::Result<()> {
    if errno == Errno::ENOENT { Ok(()) } else { Err(errno) }
}

/// There is another directory now, or none.
pub fn gone(path: &Path) -> Failure {
    let detail = format!("{} was removed since, and with it the flags that were set", path.display());
    Failure { outcome: Outcome::EpochChanged, detail }
}

fn told(errno: Errno, what: &str) -> Failure {
    Failure::refused(format!("{what}: {}", errno.desc()))
}

fn unusable(path: &Path, errno: Errno) -> Failure {
    let shown = path.display();
    match errno {
        Errno::ENOENT => Failure::unreachable(format!(
            "{shown} is not there: make `flags` a directory in the guardian's own, /run/node-guardian/nginx"
        )),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Failure::refused(format!(
            "the guardian may not write to {shown} ({}): make `flags` a directory in its own, /run/node-guardian/nginx",
            errno.desc()
        )),
        Errno::ELOOP | Errno::ENOTDIR => {
            Failure::refused(format!("{shown} is not a directory, or a link to one: write its real path in `flags`"))
        }
        errno => Failure::refused(format!("{shown}: {}", errno.desc())),
    }
}
