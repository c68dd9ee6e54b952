//! A JVM's /tmp, as the JVM itself sees it: found below its root whatever links are there, and held open, so that nothing
//! that it changes afterwards leads elsewhere. What is made in it is made as the JVM's own user, and never through a link.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};

pub struct Folder(OwnedFd);

/// Where somebody listens, whatever becomes of its name.
pub struct Socket(OwnedFd);

impl Folder {
    pub fn of(pid: i32) -> Result<Self, Errno> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty())?;
        let below = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        match openat2(&root, "tmp", OpenHow::new().flags(flags).resolve(below)) {
            // Before 5.6, or under a filter that does not know it: then it is no link at all.
            Err(Errno::ENOSYS | Errno::EPERM) => openat(&root, "tmp", flags | OFlag::O_NOFOLLOW, Mode::empty()),
            opened => opened,
        }
        .map(Self)
    }

    pub fn may_write(&self) -> Result<(), Errno> {
        faccessat(&self.0, ".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS)
    }

    /// `None` where there is none of this name, or that is something else.
    pub fn socket(&self, name: &str) -> Option<Socket> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        is(&self.look(name)?, SFlag::S_IFSOCK).then_some(())?;
        let socket = openat(&self.0, name, flags, Mode::empty()).ok()?;
        let found = nix::sys::stat::fstat(&socket).ok()?;
        is(&found, SFlag::S_IFSOCK).then_some(Socket(socket))
    }

    /// An empty file of this user's.
    pub fn create(&self, name: &str, owner: Owner) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = || openat(&self.0, name, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let _as_owner = AsOwner::put_on(owner)?;
        match made() {
            Err(Errno::EEXIST) if self.is_left_over(name) => {
                self.remove(name);
                made()
            }
            other => other,
        }
        .map(drop)
        .map_err(io::Error::from)
    }

    pub fn remove(&self, name: &str) {
        // What is gone is gone.
        unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir).ok();
    }

    /// Of a guardian or a jcmd that was killed: a plain empty file.
    fn is_left_over(&self, name: &str) -> bool {
        self.look(name).is_some_and(|found| is(&found, SFlag::S_IFREG) && found.st_size == 0 && found.st_nlink == 1)
    }

    fn look(&self, name: &str) -> Option<FileStat> {
        fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }
}

impl Socket {
    /// A name for this socket alone.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_fd().as_raw_fd()))
    }
}

fn is(found: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == kind
}

/// Whose files a process makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    pub fn of(pid: i32, uid: u32) -> io::Result<Self> {
        Ok(Self { uid, gid: File::open(format!("/proc/{pid}"))?.metadata()?.gid() })
    }
}

/// The calling thread looks files up and makes them as somebody else, until this is dropped (setfsuid(2)).
struct AsOwner(Option<Owner>);

impl AsOwner {
    fn put_on(owner: Owner) -> io::Result<Self> {
        let own = Owner { uid: nix::unistd::geteuid().as_raw(), gid: nix::unistd::getegid().as_raw() };
        // Only root can, and only root need.
        if own.uid != 0 || owner.uid == 0 {
            return Ok(Self(None));
        }
        set(owner);
        let restored = Self(Some(own));
        // Neither call says whether it worked, but each says what was set before.
        if current_uid() == owner.uid { Ok(restored) } else { Err(Errno::EPERM.into()) }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if let Some(own) = self.0 {
            set(own);
        }
    }
}

fn set(owner: Owner) {
    // SAFETY: numbers alone, and of this thread alone. The group first: afterwards it may not be allowed any more.
    unsafe {
        libc::setfsgid(owner.gid);
        libc::setfsuid(owner.uid);
    }
}

fn current_uid() -> u32 {
    // SAFETY: no user has this number, so nothing is set.
    let uid = unsafe { libc::setfsuid(u32::MAX) };
    u32::try_from(uid).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder(at: &std::path::Path) -> Folder {
        Folder(open(at, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap())
    }

    #[test]
    fn what_is_made_is_its_owners_and_never_behind_a_link() {
        let place = tempfile::tempdir().unwrap();
        let (tmp, elsewhere) = (place.path().join("tmp"), place.path().join("elsewhere"));
        std::fs::create_dir(&tmp).unwrap();
        std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let folder = folder(&tmp);
        let me = nix::unistd::geteuid().as_raw();
        let owner = if me == 0 { Owner { uid: 12345, gid: 12345 } } else { Owner { uid: me, gid: me } };
        folder.create("wish", owner).unwrap();
        assert_eq!(std::fs::metadata(tmp.join("wish")).unwrap().uid(), owner.uid);
        folder.create("wish", owner).unwrap();
        symlink(&elsewhere, tmp.join("linked")).unwrap();
        assert!(folder.create("linked", owner).is_err() && !elsewhere.exists());
        // Nobody but root may make anything where only root may.
        let closed = self::folder(std::path::Path::new("/"));
        assert!(closed.create("node-guardian-test", owner).is_err());
        assert_eq!(current_uid(), me, "the thread is who it was");
        folder.remove("wish");
        assert!(!tmp.join("wish").exists());
    }

    #[test]
    fn a_link_is_no_socket() {
        let place = tempfile::tempdir().unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(place.path().join("real")).unwrap();
        symlink(place.path().join("real"), place.path().join("link")).unwrap();
        let folder = folder(place.path());
        let socket = folder.socket("real").unwrap();
        assert!(std::os::unix::net::UnixStream::connect(socket.path()).is_ok());
        assert!(folder.socket("link").is_none() && folder.socket("absent").is_none());
    }
}
