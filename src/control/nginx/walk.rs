//! Goes through the files of nginx's caches without ever leaving their directories: each is opened from the one above and
//! no link is followed, because whoever owns the cache could otherwise have us remove another's files.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, read, unlinkat};

use crate::control::failure::Failure;

/// The MD5 of a key in hexadecimal digits names its file.
const NAME: usize = 32;
/// As many levels as `levels=` may have.
const DEEPEST: usize = 3;
/// What nginx writes behind a header of 336 bytes at the start of each file, before the key (nginx 1.22).
const KEY: &[u8] = b"\nKEY: ";

/// A file of a cache.
pub struct Found<'a> {
    pub name: &'a CStr,
    pub folder: BorrowedFd<'a>,
    pub stat: FileStat,
}

/// What is to become of the walk after a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    GoOn,
    Stop,
}

const FOLDER: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The directory itself may not be a link either.
pub fn open(cache: &Path) -> Result<OwnedFd, Failure> {
    nix::fcntl::open(cache, FOLDER, Mode::empty()).map_err(|errno| refused(cache, errno))
}

/// Shows each file of the cache, in no order.
pub fn each(cache: &Path, visit: &mut dyn FnMut(&Found<'_>) -> Next) -> Result<Next, Failure> {
    let top = open(cache)?;
    Walk { visit, digits: String::new() }.folder(top, 0).map_err(|errno| refused(cache, errno))
}

struct Walk<'v> {
    visit: &'v mut dyn FnMut(&Found<'_>) -> Next,
    /// What names end with below the folder that is being read.
    digits: String,
}

impl Walk<'_> {
    fn folder(&mut self, folder: OwnedFd, depth: usize) -> Result<Next, Errno> {
        let beside = folder.try_clone().map_err(|_| Errno::EMFILE)?;
        let at = beside.as_fd();
        let mut entries = Dir::from_fd(folder)?;
        for entry in entries.iter() {
            let entry = entry?;
            let next = match entry.file_type() {
                Some(Type::Directory) if depth < DEEPEST => self.below(at, entry.file_name(), depth)?,
                Some(Type::File) | None => self.file(at, entry.file_name()),
                Some(_) => Next::GoOn,
            };
            if next == Next::Stop {
                return Ok(next);
            }
        }
        Ok(Next::GoOn)
    }

    fn below(&mut self, at: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<Next, Errno> {
        let Some(digits) = name.to_str().ok().filter(|name| matches!(name.len(), 1 | 2) && is_hex(name)) else {
            return Ok(Next::GoOn);
        };
        let folder = match openat(at, name, FOLDER, Mode::empty()) {
            Ok(folder) => folder,
            // Removed just now, or a link: nothing of nginx's.
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => return Ok(Next::GoOn),
            Err(errno) => return Err(errno),
        };
        let kept = self.digits.len();
        self.digits.insert_str(0, digits);
        let next = self.folder(folder, depth + 1);
        self.digits.drain(..self.digits.len() - kept);
        next
    }

    fn file(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Next {
        if !name.to_str().is_ok_and(|name| is_entry(name, &self.digits)) {
            return Next::GoOn;
        }
        match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if is_regular(&stat) => (self.visit)(&Found { name, folder, stat }),
            Ok(_) | Err(_) => Next::GoOn,
        }
    }
}

/// `levels=1:2` has …029c in `c/29/`.
fn is_entry(name: &str, digits: &str) -> bool {
    name.len() == NAME && is_hex(name) && name.ends_with(digits)
}

fn is_hex(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_regular(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG
}

impl Found<'_> {
    /// What it takes on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // Of another link to it, nothing would be freed.
        if self.stat.st_nlink > 1 { 0 } else { u64::try_from(self.stat.st_blocks).unwrap_or(0).saturating_mul(512) }
    }

    /// When it was last read or written, in seconds.
    #[must_use]
    pub fn used(&self) -> i64 {
        self.stat.st_atime.max(self.stat.st_mtime)
    }

    /// Whether nginx wrote it. `Err` where it may not be read.
    pub fn is_nginx(&self) -> Result<bool, Errno> {
        let how = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOATIME | OFlag::O_CLOEXEC;
        let plain = how.difference(OFlag::O_NOATIME);
        let opened = openat(self.folder, self.name, how, Mode::empty());
        // Only its owner may leave no trace.
        let file = match opened {
            Err(Errno::EPERM) => openat(self.folder, self.name, plain, Mode::empty())?,
            other => other?,
        };
        let mut start = [0; 1024];
        let length = read(&file, &mut start)?;
        Ok(start[..length].windows(KEY.len()).any(|window| window == KEY))
    }

    /// Whether it went: one that nginx did not write stays, whatever lies beside it.
    pub fn remove_if_nginx(&self) -> Result<bool, Errno> {
        if !self.is_nginx()? {
            return Ok(false);
        }
        unlinkat(self.folder, self.name, UnlinkatFlags::NoRemoveDir).map(|()| true)
    }
}

pub fn refused(cache: &Path, errno: Errno) -> Failure {
    let shown = cache.display();
    match errno {
        Errno::ENOENT => Failure::unreachable(format!(
            "{shown} is not there: nginx makes it when it starts; does its proxy_cache_path name it?"
        )),
        Errno::EACCES | Errno::EPERM | Errno::EROFS => Failure::refused(format!(
            "the guardian may not trim {shown} ({}): give its unit `ReadWritePaths=-{shown}`, \
             `CapabilityBoundingSet=CAP_DAC_OVERRIDE` and `AmbientCapabilities=CAP_DAC_OVERRIDE`, as nginx opens a cache \
             to its own user alone",
            errno.desc()
        )),
        Errno::ELOOP | Errno::ENOTDIR => {
            Failure::refused(format!("{shown} is not a directory, or a link to one: write its real path in `caches`"))
        }
        errno => Failure::refused(format!("{shown}: {}", errno.desc())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_lie_where_nginx_would_put_them() {
        let hash = "b7f54b2df7773722d382f4809d65029c";
        for digits in ["", "c", "29c", "029c"] {
            assert!(is_entry(hash, digits), "{digits}");
        }
        assert!(!is_entry(hash, "d"));
        for name in ["b7f5", "B7F54B2DF7773722D382F4809D65029C", "b7f54b2df7773722d382f4809d65029c.0000000001", ""] {
            assert!(!is_entry(name, ""), "{name}");
        }
    }
}
