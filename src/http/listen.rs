//! Opening the two ways in, so that a refusal says who is in the way and what to try.

use std::fs;
use std::io::{ErrorKind, Result as IoResult};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::{Gid, Group, Uid};

use super::credential;
use crate::{ending, privilege};

/// Its members may change things over the admin socket.
pub const ADMIN_GROUP: &str = "node-guardian";

/// `sun_path` less its terminating zero.
const LONGEST_PATH: usize = 107;

/// The admin socket; its file goes away with it, unless somebody has put another one there.
#[derive(Debug)]
pub struct Admin {
    pub listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Admin {
    /// Whether its file is still its own.
    pub fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if self.is_in_place() {
            fs::remove_file(&self.path).ok();
        }
    }
}

#[must_use]
pub fn admin_group() -> Option<Gid> {
    Group::from_name(ADMIN_GROUP).ok().flatten().map(|group| group.gid)
}

pub fn tcp(address: SocketAddr) -> Result<TcpListener, String> {
    let open = || -> IoResult<TcpListener> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        wait_in_line(&listener)?;
        defer(&listener)?;
        Ok(listener)
    };
    open().map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => {
                let holder = holder(address.port()).map_or_else(String::new, |holder| format!(" by {holder}"));
                return format!("port {} is taken{holder}; set http.listen to another address", address.port());
            }
            ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; set http.listen to a higher one"
            }
            ErrorKind::AddrNotAvailable => "no interface has this address; set http.listen to one of this node",
            _ => "set http.listen to another address, or to \"\" for none",
        };
        format!("cannot listen on {address}: {error}; {advice}")
    })
}

/// The standard library lets 128 wait to be accepted. A probe that comes when the line is full tries again after a second.
/// The kernel lowers the number to what it allows; `nix` refuses more than musl's constant, which is 128.
fn wait_in_line(listener: &impl AsRawFd) -> IoResult<()> {
    const WAITING: libc::c_int = 1024;
    // SAFETY: two integers; the descriptor is open for as long as the listener lives.
    let answer = unsafe { libc::listen(listener.as_raw_fd(), WAITING) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Whoever connects and says nothing takes no seat, for a second at least.
fn defer(listener: &TcpListener) -> IoResult<()> {
    let seconds: libc::c_int = 1;
    // SAFETY: the kernel reads one int, which lives until after the call.
    let answer = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Binds beside the path and moves it there, so that nobody connects before the file has its mode and its group.
pub fn admin(path: &Path, group: Option<Gid>) -> Result<Admin, String> {
    let shown = path.display();
    let advice = |error: std::io::Error| format!("cannot open the admin socket {shown}: {error}; set http.socket");
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(advice)?;
        check(directory)?;
    }
    make_way(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    if beside.as_os_str().len() > LONGEST_PATH {
        return Err(format!("the path {shown} is too long for a socket (at most 100 bytes); set http.socket"));
    }
    fs::remove_file(&beside).or_else(missing_is_fine).map_err(advice)?;
    let listener = UnixListener::bind(&beside).map_err(advice)?;
    let finish = || -> IoResult<u64> {
        listener.set_nonblocking(true)?;
        wait_in_line(&listener)?;
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o660))?;
        if let Some(group) = group {
            // Without the right to give it away, the socket stays its owner's: stricter, never laxer.
            chown(&beside, None, Some(group.as_raw())).ok();
        }
        fs::rename(&beside, path)?;
        Ok(fs::symlink_metadata(path)?.ino())
    };
    let inode = finish().map_err(advice)?;
    Ok(Admin { listener, path: path.to_owned(), inode })
}

/// Whoever owns the directory, or may write in it, can put another socket in place of ours.
fn check(directory: &Path) -> Result<(), String> {
    const EVERYBODY_WRITES: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let shown = directory.display();
    for found in [fs::symlink_metadata(directory), fs::metadata(directory)].into_iter().flatten() {
        let (owner, mode) = (Uid::from_raw(found.uid()), found.permissions().mode());
        if !privilege::trusts(owner) {
            return Err(format!(
                "{shown} belongs to uid {owner}; set http.socket to a directory of the guardian's own"
            ));
        }
        // Root's is a volume of a container, in which there is nobody else.
        if found.is_dir() && !owner.is_root() && mode & (EVERYBODY_WRITES | STICKY) == EVERYBODY_WRITES {
            return Err(format!("everybody may write in {shown}; chmod o-w it, or set http.socket"));
        }
    }
    Ok(())
}

/// Only a socket on which nobody answers is in the way of nobody.
fn make_way(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(format!("{shown} exists and is not a socket; move it away, or set http.socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        Ok(peer) if is_ending(&peer) => Ok(()),
        Ok(_) => Err(format!("another node-guardian answers on {shown}; stop it, or set http.socket")),
        Err(error) => Err(format!("cannot tell whether {shown} is in use: {error}; remove it, or set http.socket")),
    }
}

/// It answers nobody, and the path is free for who does.
fn is_ending(peer: &UnixStream) -> bool {
    let pid = getsockopt(peer, PeerCredentials).ok().and_then(|peer| u32::try_from(peer.pid()).ok());
    pid.is_some_and(|pid| pid > 0 && ending::is_ending(pid))
}

fn missing_is_fine(error: std::io::Error) -> IoResult<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Who listens on a port: `nginx (pid 812), uid 33 (www-data)`. Processes of others may be hidden; whose socket it is never
/// is. Looked up only to explain a refusal.
fn holder(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let (inode, uid) = tables.iter().flat_map(|table| table.lines()).find_map(|line| listening(line, port))?;
    let owner = credential::named(uid);
    Some(process(inode).map_or_else(|| owner.clone(), |process| format!("{process}, {owner}")))
}

fn process(inode: &str) -> Option<String> {
    let link = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let holds = |process: &fs::DirEntry| {
        let mut files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str()))
    };
    let process = processes.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit()).find(holds)?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    // Whoever runs it chose its name.
    Some(format!("{} (pid {})", name.trim().escape_debug(), process.file_name().to_string_lossy()))
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode`; state `0A` is LISTEN.
fn listening(line: &str, port: u16) -> Option<(&str, Uid)> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, local_port) = fields.next()?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?;
    (state == "0A" && u16::from_str_radix(local_port, 16) == Ok(port)).then_some((inode, Uid::from_raw(uid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_gives_way_and_a_live_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/admin.sock");
        let first = admin(&path, None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(admin(&path, None).unwrap_err().contains("another node-guardian answers"));
        drop(first);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(admin(&path, None).unwrap());
        fs::write(&path, "mine").unwrap();
        assert!(admin(&path, None).unwrap_err().contains("is not a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let long = folder.path().join("x".repeat(100));
        assert!(admin(&long, None).unwrap_err().contains("too long"));
    }

    #[test]
    fn a_directory_in_which_others_may_put_sockets_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("run");
        fs::create_dir(&inside).unwrap();
        let path = inside.join("admin.sock");
        let root = nix::unistd::geteuid().is_root();
        if root {
            chown(&inside, Some(4_242_424), None).unwrap();
            assert!(admin(&path, None).unwrap_err().contains("belongs to uid 4242424; set http.socket"));
            chown(&inside, Some(0), None).unwrap();
        }
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(admin(&path, None).is_ok(), root, "root's is a volume");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o1777)).unwrap();
        drop(admin(&path, None).unwrap());
    }

    #[test]
    fn a_taken_port_is_told_with_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let told = tcp(taken.local_addr().unwrap()).unwrap_err();
        assert!(told.contains(&format!("(pid {})", std::process::id())), "{told}");
        assert!(told.contains(&format!("uid {}", nix::unistd::geteuid())), "{told}");
        assert!(told.contains("set http.listen"), "{told}");
    }

    #[test]
    fn whose_a_socket_is_is_known_where_its_process_is_hidden() {
        let line =
            "   0: 0100007F:26F9 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0000";
        assert_eq!(listening(line, 9977), Some(("4242", Uid::from_raw(1000))));
        assert_eq!((listening(line, 9978), listening(&line.replace(" 0A ", " 01 "), 9977)), (None, None));
        assert_eq!(process("no such inode"), None);
    }
}
