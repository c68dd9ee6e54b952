//! Whose process has the other end of a TCP connection of this node with itself: one question to the kernel's socket
//! monitoring (sock_diag(7)) about that one connection, never a walk over all of them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use tokio::net::TcpStream;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listener {
    /// On another host or in another network namespace, where nobody here could listen; or the kernel does not say.
    Elsewhere,
    /// Nobody has taken the connection, and nobody listens any more.
    Gone,
    User(u32),
}

/// linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const EVERY_STATE: u32 = u32::MAX;
/// In an answer.
const UID_AT: usize = HEADER_BYTES + 64;
const INODE_AT: usize = UID_AT + 4;

/// What the kernel says of one socket.
struct Found {
    uid: u32,
    /// 0: nobody has accepted it yet, and then the user says nothing.
    inode: u32,
}

pub fn listener(stream: &TcpStream) -> Listener {
    let (Ok(mine), Ok(theirs)) = (stream.local_addr(), stream.peer_addr()) else { return Listener::Elsewhere };
    if !(theirs.ip().is_loopback() || theirs.ip() == mine.ip()) {
        return Listener::Elsewhere;
    }
    let nobody = SocketAddr::new(if mine.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) }, 0);
    match ask(theirs, mine) {
        Some(Found { uid, inode: 1.. }) => Listener::User(uid),
        Some(Found { inode: 0, .. }) => ask(theirs, nobody).map_or(Listener::Gone, |found| Listener::User(found.uid)),
        None => Listener::Elsewhere,
    }
}

fn ask(from: SocketAddr, to: SocketAddr) -> Option<Found> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag).ok()?;
    send(netlink.as_raw_fd(), &request(from, to), MsgFlags::empty()).ok()?;
    let mut answer = [0; 512];
    // The kernel has answered when it has taken the question.
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).ok()?;
    parse(answer.get(..length)?)
}

fn request(from: SocketAddr, to: SocketAddr) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        request[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(&u32::try_from(REQUEST_BYTES).unwrap_or_default().to_ne_bytes());
    put(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(&NLM_F_REQUEST.to_ne_bytes());
    put(&[0; 8]);
    let family = if from.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    put(&[u8::try_from(family).unwrap_or_default(), u8::try_from(libc::IPPROTO_TCP).unwrap_or_default(), 0, 0]);
    put(&EVERY_STATE.to_ne_bytes());
    put(&from.port().to_be_bytes());
    put(&to.port().to_be_bytes());
    put(&octets(from.ip()));
    put(&octets(to.ip()));
    put(&[0; 4]);
    // No cookie.
    put(&[0xff; 8]);
    request
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&address.octets());
            octets
        }
        IpAddr::V6(address) => address.octets(),
    }
}

fn parse(answer: &[u8]) -> Option<Found> {
    let number = |at: usize| answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let kind = answer.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)?;
    (kind == SOCK_DIAG_BY_FAMILY).then_some(Found { uid: number(UID_AT)?, inode: number(INODE_AT)? })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    async fn told(listen: &str, connect: &str) -> (Listener, TcpListener, TcpStream) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect(format!("{connect}:{port}")).await.unwrap();
        (super::listener(&stream), listener, stream)
    }

    #[tokio::test]
    async fn whoever_listens_is_known_before_and_after_it_accepts() {
        let me = Listener::User(nix::unistd::geteuid().as_raw());
        for (listen, connect) in
            [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("127.0.0.2:0", "127.0.0.2")]
        {
            let (found, listener, stream) = told(listen, connect).await;
            assert_eq!(found, me, "{listen}");
            let _accepted = listener.accept().unwrap();
            assert_eq!(super::listener(&stream), me, "{listen}");
        }
    }

    #[tokio::test]
    async fn one_that_takes_both_protocols_is_known_too() {
        let Ok(probe) = TcpListener::bind("[::]:0") else { return };
        drop(probe);
        let (found, ..) = told("[::]:0", "127.0.0.1").await;
        assert_eq!(found, Listener::User(nix::unistd::geteuid().as_raw()));
    }

    #[tokio::test]
    async fn one_that_has_closed_is_not_taken_for_another_host() {
        let (_, listener, stream) = told("127.0.0.1:0", "127.0.0.1").await;
        let accepted = listener.accept().unwrap();
        drop(listener);
        assert_ne!(super::listener(&stream), Listener::Elsewhere, "the connection is known");
        drop(accepted);
    }

    #[test]
    fn any_answer_is_survived() {
        assert!(parse(&[]).is_none() && parse(&[0xff; 40]).is_none());
    }
}
