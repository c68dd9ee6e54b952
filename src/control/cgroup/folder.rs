//! One life of a cgroup, held by a descriptor of its directory: what is written goes to that life or to nobody, whatever has
//! its path by now. A directory that was removed and made anew has another inode, which the kernel gives to one only.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::control::boot_id;
use crate::control::failure::Failure;

/// Version 2 alone, and beside version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// `memory.stat` has 4 KiB.
const LONGEST: u64 = 64 << 10;

/// Where the tree is mounted.
#[derive(Clone, Debug)]
pub struct Tree(Option<PathBuf>);

/// One directory of it.
#[derive(Debug)]
pub struct Folder {
    /// For people.
    path: PathBuf,
    descriptor: OwnedFd,
    inode: u64,
}

impl Tree {
    /// The kernel's.
    pub fn mounted() -> Self {
        let is_version_2 =
            |root: &&&str| statfs(**root).is_ok_and(|found| found.filesystem_type() == CGROUP2_SUPER_MAGIC);
        Self(ROOTS.iter().find(is_version_2).map(PathBuf::from))
    }

    #[cfg(test)]
    pub fn at(root: &Path) -> Self {
        Self(Some(root.to_owned()))
    }

    /// `None` where there is no such cgroup.
    ///
    /// # Errors
    /// Where nobody can tell.
    pub fn find(&self, path: &str) -> Result<Option<Folder>, Failure> {
        let Some(root) = &self.0 else {
            return Err(Failure::unsupported(format!(
                "no cgroup tree of version 2 is mounted at {}: boot with `systemd.unified_cgroup_hierarchy=1`",
                ROOTS.join(" or ")
            )));
        };
        let path = root.join(path);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let descriptor = match open(&path, flags, Mode::empty()) {
            Ok(descriptor) => descriptor,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV) => return Ok(None),
            Err(errno) => return Err(Failure::unreachable(format!("cannot open {}: {errno}", path.display()))),
        };
        let inode = fstat(&descriptor).map_err(|errno| unread(&path, errno))?.st_ino;
        Ok(Some(Folder { path, descriptor, inode }))
    }

    /// # Errors
    /// Where there is no such cgroup, or nobody can tell.
    pub fn open(&self, path: &str) -> Result<Folder, Failure> {
        self.find(path)?.ok_or_else(|| {
            Failure::unreachable(format!(
                "there is no cgroup {path}: is its service running? `systemctl show -p ControlGroup UNIT` names it"
            ))
        })
    }
}

impl Folder {
    /// Which life this is, of all that any boot of the node has seen.
    pub fn epoch(&self) -> String {
        format!("{}:{}", boot_id(), self.inode)
    }

    /// # Errors
    /// Where it is not there, or must not be read.
    pub fn read(&self, file: &str) -> Result<String, Failure> {
        let opened = openat(&self.descriptor, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let opened = opened.map_err(|errno| self.denied(file, errno))?;
        let mut text = String::new();
        let read = File::from(opened).take(LONGEST).read_to_string(&mut text);
        read.map_err(|error| self.failed(file, &error))?;
        Ok(text)
    }

    /// Whether it could be written. Changes nothing.
    ///
    /// # Errors
    /// Where not, with what to do about it.
    pub fn may_write(&self, file: &str) -> Result<(), Failure> {
        openat(&self.descriptor, file, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
            .map(drop)
            .map_err(|errno| self.denied(file, errno))
    }

    /// # Errors
    /// Where it was not written.
    pub fn write(&self, file: &str, value: &str) -> Result<(), Failure> {
        self.put(file, value).map_err(|error| match error.raw_os_error() {
            Some(number) => self.denied(file, Errno::from_raw(number)),
            None => self.failed(file, &error),
        })
    }

    /// The same, for whoever knows what an error means. From Linux 6.16 on the kernel does not make a lower limit wait for
    /// what is above it (`O_NONBLOCK`).
    pub fn put(&self, file: &str, value: &str) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = openat(&self.descriptor, file, flags, Mode::empty())?;
        File::from(opened).write_all(value.as_bytes())
    }

    fn failed(&self, file: &str, error: &io::Error) -> Failure {
        match error.raw_os_error() {
            Some(number) if number == libc::ENODEV => Failure::epoch_changed("the cgroup"),
            _ => Failure::unreachable(format!("cannot read {}: {error}", self.path.join(file).display())),
        }
    }

    fn denied(&self, file: &str, errno: Errno) -> Failure {
        let path = self.path.join(file);
        let shown = path.display();
        match errno {
            Errno::ENODEV => Failure::epoch_changed("the cgroup"),
            Errno::ENOENT if !self.is_there() => Failure::epoch_changed("the cgroup"),
            Errno::ENOENT => Failure::unsupported(format!("{shown} is not there: {}", controller(file))),
            Errno::EACCES | Errno::EPERM => Failure::refused(format!(
                "may not write {shown}: `chgrp node-guardian` and `chmod g+w` it where the cgroup is created \
                 (ExecStartPost=+ of its unit)"
            )),
            Errno::EROFS => Failure::refused(format!(
                "{shown} is read-only here: set ProtectControlGroups=no for the guardian's unit, or mount the tree writable \
                 into its container"
            )),
            errno => Failure::refused(format!("cannot write {shown}: {}", errno.desc())),
        }
    }

    /// Under its path still.
    fn is_there(&self) -> bool {
        nix::sys::stat::stat(&self.path).is_ok_and(|found| found.st_ino == self.inode)
    }
}

fn unread(path: &Path, errno: Errno) -> Failure {
    Failure::unreachable(format!("cannot read {}: {errno}", path.display()))
}

/// What switches this file on.
fn controller(file: &str) -> String {
    match file.split('.').next() {
        Some("cgroup") => "it needs Linux 5.2 or newer".to_owned(),
        Some(controller) => format!(
            "the {controller} controller is off for this cgroup. Give its unit a setting of that kind (CPUWeight=100, \
             MemoryAccounting=yes), or write `+{controller}` into the cgroup.subtree_control above it"
        ),
        None => String::new(),
    }
}
