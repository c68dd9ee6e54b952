//! Two guardians never change one target: who acts on it first holds a mark, and who comes second only watches. The mark is
//! an abstract unix socket named after the target, which the kernel frees with the process, and which containers that share
//! a network share too. Anybody may take such a name, so that one counts only where the kernel says that its holder is who
//! could act anyway: root, the package's user, or our own.
//!
//! Takes no thread, waits for nobody, and costs one descriptor for each target that is acted on.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use nix::unistd::{Uid, User};
use tokio::time::sleep;

use super::failure::Failure;
use super::target::{Identity, Target};
use crate::policy::mitigation::Verb;

/// For guardians that try for one target, and strangers who take names in vain.
const SLOTS: u32 = 32;
/// As the package makes it.
const USER: &str = "node-guardian";
/// In which another one that began at the same moment sees us and gives way.
const GIVES_WAY: Duration = Duration::from_millis(20);
/// A name has room for 107 bytes.
const ROOM: usize = 80;
/// Of those who looked, at a time.
const MOST_SEEN: usize = 256;

/// Held while it lives.
#[derive(Debug)]
pub struct Mark {
    name: String,
    socket: UnixListener,
}

/// Who has a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Holder {
    pid: i32,
    uid: u32,
    slot: u32,
}

/// Takes the mark of a target, or keeps the one that is held. `None` where it needs none, or none can be had.
///
/// # Errors
/// `Refused` where another guardian has it.
pub async fn take(target: &Target, held: Option<Arc<Mark>>) -> Result<Option<Arc<Mark>>, Failure> {
    let Some(name) = name(target) else { return Ok(None) };
    if let Some(mark) = held.filter(|mark| mark.name == name).or_else(|| known(&name)) {
        mark.tend();
        return Ok(Some(mark));
    }
    refuse_if_held(&name)?;
    let Some((slot, socket)) = bind_first_free(&name) else { return Ok(None) };
    // Both may have looked before either was there: the lower slot stays.
    if let Some(holder) = holder(&name) {
        if holder.slot < slot {
            return Err(held_by(holder));
        }
        sleep(GIVES_WAY).await;
        refuse_if_held(&name)?;
    }
    let mark = Arc::new(Mark { name: name.clone(), socket });
    let mut ours = ours().lock().unwrap_or_else(PoisonError::into_inner);
    ours.retain(|_, mark| mark.strong_count() > 0);
    ours.insert(name, Arc::downgrade(&mark));
    Ok(Some(mark))
}

/// Whether another guardian has it. Takes nothing. Where it is ours, those who looked since are let in: once as many wait as
/// the kernel lets wait, nobody could see any more that it is held.
///
/// # Errors
/// `Refused`, and who has it.
pub fn look(target: &Target) -> Result<(), Failure> {
    let Some(name) = name(target) else { return Ok(()) };
    let Some(mark) = known(&name) else { return refuse_if_held(&name) };
    mark.tend();
    Ok(())
}

impl Mark {
    /// Makes room for the next who look.
    fn tend(&self) {
        let seen = (0..MOST_SEEN).map_while(|_| self.socket.accept().ok());
        seen.for_each(drop);
    }
}

/// Of this process: several controls may lead to one target.
fn ours() -> &'static Mutex<HashMap<String, Weak<Mark>>> {
    static OURS: OnceLock<Mutex<HashMap<String, Weak<Mark>>>> = OnceLock::new();
    OURS.get_or_init(Mutex::default)
}

fn known(name: &str) -> Option<Arc<Mark>> {
    ours().lock().unwrap_or_else(PoisonError::into_inner).get(name)?.upgrade()
}

/// What all guardians call a target: not by its path, which differs between containers. None where it is not there, or
/// nothing is ever changed at it.
fn name(target: &Target) -> Option<String> {
    if target.verbs().iter().all(|verb| *verb == Verb::Notify) {
        return None;
    }
    let what = match target.place().identity() {
        Identity::File(path) => {
            let found = fs::metadata(path).ok()?;
            format!("{}:{}", found.dev(), found.ino())
        }
        Identity::Tcp(at) => at.to_ascii_lowercase().replace("localhost:", "127.0.0.1:"),
        Identity::Group(path) => path.trim_matches('/').to_owned(),
    };
    let short = if what.len() > ROOM { format!("{:08x}", crc32fast::hash(what.as_bytes())) } else { what };
    Some(format!("node-guardian/{short}"))
}

fn bind_first_free(name: &str) -> Option<(u32, UnixListener)> {
    (0..SLOTS).find_map(|slot| Some((slot, bind(&format!("{name}/{slot}")).ok()?)))
}

fn bind(name: &str) -> io::Result<UnixListener> {
    let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn refuse_if_held(name: &str) -> Result<(), Failure> {
    holder(name).map_or(Ok(()), |holder| Err(held_by(holder)))
}

fn held_by(Holder { pid, uid, .. }: Holder) -> Failure {
    Failure::refused(format!(
        "pid {pid} (uid {uid}) already controls this target: this guardian only watches it. Leave it to one of the two"
    ))
}

/// The first that counts, and is not this process.
fn holder(name: &str) -> Option<Holder> {
    let own = i32::try_from(std::process::id()).ok();
    (0..SLOTS).filter_map(|slot| held(name, slot)).find(|holder| Some(holder.pid) != own && counts(holder.uid))
}

/// `None`: nobody has this slot, or nobody can tell who. Never waits, also where somebody lets nobody in.
fn held(name: &str, slot: u32) -> Option<Holder> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    let address = UnixAddr::new_abstract(format!("{name}/{slot}").as_bytes()).ok()?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(_) => return None,
    }
    let peer = getsockopt(&socket, PeerCredentials).ok()?;
    Some(Holder { pid: peer.pid(), uid: peer.uid(), slot })
}

/// Nobody else can keep a target from being guarded.
fn counts(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw() || packaged() == Some(uid)
}

fn packaged() -> Option<u32> {
    static PACKAGED: OnceLock<Option<u32>> = OnceLock::new();
    *PACKAGED.get_or_init(|| User::from_name(USER).ok().flatten().map(|user| user.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::target::{Address, Redis};

    /// Nobody else has it.
    fn somewhere() -> Target {
        Target::Redis(Redis {
            listener: None,
            address: Address::Tcp(format!("mark-test-{}:1", std::process::id())),
            username: None,
            password_file: None,
            cache_only: false,
            flush_pattern: None,
            client_buffers: None,
        })
    }

    /// Guardians that only watch look every half minute, for weeks.
    #[tokio::test]
    async fn one_that_many_have_looked_at_is_still_seen() {
        let target = somewhere();
        let mark = take(&target, None).await.unwrap().unwrap();
        let looked = (0..100_000).take_while(|_| held(&mark.name, 0).is_some()).count();
        assert!(looked > 0 && looked < 100_000, "{looked} looked, and all are still let wait");
        (0..=looked / MOST_SEEN).for_each(|_| look(&target).unwrap());
        assert!(held(&mark.name, 0).is_some(), "held, and nobody sees it");
    }
}
