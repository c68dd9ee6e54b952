//! Two guardians never change one target: who acts on it first holds its marks, and who comes second only watches. A mark is
//! an abstract unix socket, which the kernel frees with the process, and which containers that share a network share too.
//! There is one for each name by which the target is known: its address, and where the service tells who it is, this life
//! of it, because two guardians may reach one service by two addresses. Anybody may take such a name, so that one counts
//! only where the kernel says that its holder is who could act anyway: root, the package's user, or our own. Each mark ends
//! in a number of its own, and the kernel lists which there are: however many names a stranger takes, there is another one,
//! and none is overlooked.
//!
//! Takes no thread, waits for nobody, and costs a descriptor or two for each target that is acted on.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, BufRead as _, BufReader, ErrorKind};
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

use super::address::Identity;
use super::digest;
use super::failure::Failure;
use super::target::Target;
use crate::ending;
use crate::policy::mitigation::Verb;

/// Of the network that this thread is in: a line for each socket, abstract names with an `@` before them.
const SOCKETS: &str = "/proc/thread-self/net/unix";
/// In the fourth column, of sockets that listen.
const LISTENS: &[u8] = b"00010000";
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
    socket: UnixListener,
}

/// Who has a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Holder {
    pid: i32,
    uid: u32,
    number: u64,
}

/// Takes the marks of a target, or keeps those that this process holds: of its address and of these lives of it. None where
/// it needs none.
///
/// # Errors
/// `Refused` where another guardian has one of them, or it cannot be seen whether one has.
pub async fn take(target: &Target, lives: &[String]) -> Result<Vec<Arc<Mark>>, Failure> {
    let mut marks = Vec::new();
    for name in names(target, lives) {
        marks.push(take_one(name).await?);
    }
    Ok(marks)
}

async fn take_one(name: String) -> Result<Arc<Mark>, Failure> {
    if let Some(mark) = known(&name) {
        mark.tend();
        return Ok(mark);
    }
    refuse_if_held(&name)?;
    let (number, socket) = bind_any(&name).map_err(|error| {
        Failure::refused(format!(
            "this target cannot be reserved against other guardians, so it is only watched: {error}"
        ))
    })?;
    // Both may have looked before either was there: the lower number stays.
    if let Some(holder) = holder(&name)? {
        if holder.number < number {
            return Err(held_by(holder));
        }
        sleep(GIVES_WAY).await;
        refuse_if_held(&name)?;
    }
    let mark = Arc::new(Mark { socket });
    let mut ours = ours().lock().unwrap_or_else(PoisonError::into_inner);
    ours.retain(|_, mark| mark.strong_count() > 0);
    ours.insert(name, Arc::downgrade(&mark));
    Ok(mark)
}

/// Whether another guardian has one of them. Takes nothing. Where one is ours, those who looked since are let in: once as
/// many wait as the kernel lets wait, nobody could see any more that it is held.
///
/// # Errors
/// `Refused`, and who has it.
pub fn look(target: &Target, lives: &[String]) -> Result<(), Failure> {
    names(target, lives).iter().try_for_each(|name| {
        let Some(mark) = known(name) else { return refuse_if_held(name) };
        mark.tend();
        Ok(())
    })
}

/// Whether another guardian acts on one of these lives, which are of the same family as the target's. In one reading: there
/// may be thousands.
///
/// # Errors
/// `Refused`, and who does.
pub fn look_around(target: &Target, relatives: &[String]) -> Result<(), Failure> {
    if relatives.is_empty() {
        return Ok(());
    }
    let names: HashSet<String> = relatives.iter().map(|life| name_of(target, life)).collect();
    let marks = marks(&names).map_err(|error| unseen(&error))?;
    match { marks }.iter().filter_map(|(name, number)| held(name, *number)).find(is_another) {
        None => Ok(()),
        Some(Holder { pid, uid, .. }) => Err(Failure::refused(format!(
            "pid {pid} (uid {uid}) already controls a process that this one has started, or that has started it: this \
             guardian only watches it. Leave the family to one of the two"
        ))),
    }
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

/// What all guardians call a target. None where nothing is ever changed at it.
fn names(target: &Target, lives: &[String]) -> Vec<String> {
    if target.verbs().iter().all(|verb| *verb == Verb::Notify) {
        return Vec::new();
    }
    address(target).into_iter().chain(lives.iter().map(|life| name_of(target, life))).collect()
}

/// Nobody else need read what a service says of itself.
fn name_of(target: &Target, life: &str) -> String {
    let text = format!("{} {life}", target.kind());
    // Two guardians need not be of one version.
    format!("node-guardian/life:{:016x}", digest::of(&text))
}

/// Not by its path, which differs between containers. None where it is not there.
fn address(target: &Target) -> Option<String> {
    let what = match target.place().identity() {
        Identity::File(path) => {
            let found = fs::metadata(path).ok()?;
            format!("{}:{}", found.dev(), found.ino())
        }
        Identity::Tcp(at) => at.to_ascii_lowercase().replace("localhost:", "127.0.0.1:"),
        Identity::Group(path) => path.trim_matches('/').to_owned(),
    };
    // The kernel lists names between blanks.
    let is_plain = what.len() <= ROOM && !what.contains(char::is_whitespace);
    let short = if !is_plain { format!("{:08x}", crc32fast::hash(what.as_bytes())) } else { what };
    Some(format!("node-guardian/{short}"))
}

fn bind_any(name: &str) -> io::Result<(u64, UnixListener)> {
    loop {
        let number = RandomState::new().hash_one(name);
        match bind(name, number) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return Ok((number, bound?)),
        }
    }
}

fn bind(name: &str, number: u64) -> io::Result<UnixListener> {
    let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(numbered(name, number))?)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn numbered(name: &str, number: u64) -> String {
    format!("{name}/{number:016x}")
}

fn refuse_if_held(name: &str) -> Result<(), Failure> {
    holder(name)?.map_or(Ok(()), |holder| Err(held_by(holder)))
}

fn held_by(Holder { pid, uid, .. }: Holder) -> Failure {
    Failure::refused(format!(
        "pid {pid} (uid {uid}) already controls this target: this guardian only watches it. Leave it to one of the two"
    ))
}

/// The first that counts, and is not this process.
fn holder(name: &str) -> Result<Option<Holder>, Failure> {
    let numbers = numbers(name).map_err(|error| unseen(&error))?;
    let mut holders = numbers.into_iter().filter_map(|number| held(name, number));
    Ok(holders.find(is_another))
}

fn is_another(holder: &Holder) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    Some(holder.pid) != own && counts(holder.uid) && !is_ending(holder.pid)
}

fn unseen(error: &io::Error) -> Failure {
    Failure::refused(format!("cannot tell whether another guardian acts here: {SOCKETS}: {error}"))
}

/// Of all marks of this target, in ascending order.
fn numbers(name: &str) -> io::Result<Vec<u64>> {
    let found = marks(&HashSet::from([name.to_owned()]))?;
    let mut numbers: Vec<u64> = found.into_iter().map(|(_, number)| number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// All that have one of these names, each with its number. Read line by line: a node may have a hundred thousand sockets.
fn marks(names: &HashSet<String>) -> io::Result<Vec<(String, u64)>> {
    let mut sockets = BufReader::new(File::open(SOCKETS)?);
    let (mut line, mut found) = (Vec::new(), Vec::new());
    while sockets.read_until(b'\n', &mut line)? > 0 {
        let mark = mark(line.trim_ascii_end()).filter(|(name, _)| names.contains(*name));
        found.extend(mark.map(|(name, number)| (name.to_owned(), number)));
        line.clear();
    }
    Ok(found)
}

fn mark(line: &[u8]) -> Option<(&str, u64)> {
    let columns = || line.split(u8::is_ascii_whitespace).filter(|column| !column.is_empty());
    let (name, digits) = str::from_utf8(columns().nth(7)?.strip_prefix(b"@")?).ok()?.rsplit_once('/')?;
    (columns().nth(3)? == LISTENS).then_some(())?;
    Some((name, u64::from_str_radix(digits, 16).ok()?))
}

/// `None`: nobody has this number any more, or nobody can tell who. Never waits, also where somebody lets nobody in.
fn held(name: &str, number: u64) -> Option<Holder> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    let address = UnixAddr::new_abstract(numbered(name, number).as_bytes()).ok()?;
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(_) => return None,
    }
    let peer = getsockopt(&socket, PeerCredentials).ok()?;
    Some(Holder { pid: peer.pid(), uid: peer.uid(), number })
}

/// Nobody else can keep a target from being guarded.
fn counts(uid: u32) -> bool {
    uid == 0 || uid == Uid::effective().as_raw() || packaged() == Some(uid)
}

/// In another pid namespace it has no number here.
fn is_ending(pid: i32) -> bool {
    u32::try_from(pid).is_ok_and(|pid| pid > 0 && ending::is_ending(pid))
}

fn packaged() -> Option<u32> {
    static PACKAGED: OnceLock<Option<u32>> = OnceLock::new();
    *PACKAGED.get_or_init(|| User::from_name(USER).ok().flatten().map(|user| user.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::Address;
    use crate::control::target::Redis;

    /// Nobody else has it, no other test either.
    fn somewhere(port: u16) -> Target {
        Target::Redis(Redis {
            listener: None,
            address: Address::Tcp(format!("mark-test-{}:{port}", std::process::id())),
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
        let target = somewhere(1);
        let _marks = take(&target, &[]).await.unwrap();
        let name = &names(&target, &[])[0];
        let number = numbers(name).unwrap()[0];
        let looked = (0..100_000).take_while(|_| held(name, number).is_some()).count();
        assert!(looked > 0 && looked < 100_000, "{looked} looked, and all are still let wait");
        (0..=looked / MOST_SEEN).for_each(|_| look(&target, &[]).unwrap());
        assert!(held(name, number).is_some(), "held, and nobody sees it");
    }

    #[tokio::test]
    async fn a_life_has_one_name_at_every_address_and_one_of_its_own_in_every_kind() {
        let (target, life) = (somewhere(2), "one life".to_owned());
        let marks = take(&target, std::slice::from_ref(&life)).await.unwrap();
        assert_eq!(marks.len(), 2);
        let again = take(&target, &[life.clone(), "the next".to_owned()]).await.unwrap();
        assert!(marks.iter().zip(&again).all(|(known, kept)| Arc::ptr_eq(known, kept)) && again.len() == 3);
        assert!(names(&target, &[life]).iter().all(|name| numbered(name, u64::MAX).len() <= 107));
    }
}
