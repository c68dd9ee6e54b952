//! A conversation in text with a service, over a unix socket or TCP: one deadline for silence, one bound on the size of an
//! answer, and the same words for each way in which it can fail. What an answer looks like is the service's to know. A
//! wire that failed is never used again, so that a late answer cannot be taken for another's.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::DEADLINE;
use super::failure::{Failure, connecting};
use super::target::Address;

/// Far more than any answer that is asked for; what sends more is something else.
const ANSWER_BYTES: usize = 1 << 20;

/// What sentences say about a kind of service.
pub struct Manner {
    /// `memcached`
    pub service: &'static str,
    /// What to look at where it says nothing.
    pub when_silent: &'static str,
}

/// Something else than this service answers.
#[derive(Debug)]
pub struct Foreign;

/// The length of the first whole answer, once it is there.
pub type End = fn(&[u8]) -> Result<Option<usize>, Foreign>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    Closed,
    Silent,
    Foreign,
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// It runs under this kernel.
    pub is_here: bool,
    /// Who listens on a unix socket, where that process can be seen from here.
    pub pid: Option<u32>,
}

pub struct Wire {
    manner: &'static Manner,
    place: String,
    io: Box<dyn Io>,
    peer: Peer,
    unread: Vec<u8>,
    deadline: Instant,
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl Io for UnixStream {}
impl Io for TcpStream {}

impl Wire {
    pub async fn dial(manner: &'static Manner, address: &Address) -> Result<Self, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let place = place(address);
        match timeout_at(deadline, connect(manner, address)).await {
            Ok(connected) => {
                let (io, peer) = connected?;
                Ok(Self { manner, place, io, peer, unread: Vec::new(), deadline })
            }
            Err(_) => Err(failure(manner, &place, Broken::Silent)),
        }
    }

    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    /// One request, one answer.
    pub async fn ask(&mut self, request: &[u8], end: End) -> Result<Vec<u8>, Broken> {
        if !self.unread.is_empty() {
            return Err(Broken::Foreign);
        }
        self.send(request).await?;
        self.hear(end).await
    }

    pub async fn send(&mut self, request: &[u8]) -> Result<(), Broken> {
        match timeout_at(self.deadline, self.io.write_all(request)).await {
            Ok(written) => written.map_err(|_| Broken::Closed),
            Err(_) => Err(Broken::Silent),
        }
    }

    /// The next answer.
    pub async fn hear(&mut self, end: End) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(length) = end(&self.unread).map_err(|Foreign| Broken::Foreign)? {
                let rest = self.unread.split_off(length.min(self.unread.len()));
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            if self.unread.len() > ANSWER_BYTES {
                return Err(Broken::Foreign);
            }
            match timeout_at(self.deadline, self.io.read_buf(&mut self.unread)).await {
                Ok(Ok(0) | Err(_)) => return Err(Broken::Closed),
                Ok(Ok(_)) => {}
                Err(_) => return Err(Broken::Silent),
            }
        }
    }

    pub fn failure(&self, broken: Broken) -> Failure {
        failure(self.manner, &self.place, broken)
    }
}

/// Up to the end of the first line.
pub fn line(buffer: &[u8]) -> Result<Option<usize>, Foreign> {
    Ok(buffer.iter().position(|&byte| byte == b'\n').map(|at| at + 1))
}

pub fn place(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(host) => host.clone(),
    }
}

/// Enough of a stranger's text to recognise it, on one line.
pub fn clip(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

fn failure(manner: &Manner, place: &str, broken: Broken) -> Failure {
    let service = manner.service;
    match broken {
        Broken::Closed => {
            Failure::timed_out(format!("{service} closed {place} in the middle of an answer: did it restart?"))
        }
        Broken::Silent => Failure::timed_out(format!(
            "no whole answer from {service} on {place} within {} ms: {}",
            DEADLINE.as_millis(),
            manner.when_silent
        )),
        Broken::Foreign => {
            Failure::unsupported(format!("what answers on {place} does not speak {service}'s text protocol"))
        }
    }
}

async fn connect(manner: &Manner, address: &Address) -> Result<(Box<dyn Io>, Peer), Failure> {
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| connecting(manner.service, path, &error))?;
            // 0 is a process of another namespace.
            let pid = stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok()).filter(|pid| *pid != 0);
            Ok((Box::new(stream), Peer { is_here: true, pid }))
        }
        Address::Tcp(host) => {
            let stream = TcpStream::connect(host).await.map_err(|error| tcp_failure(manner.service, host, &error))?;
            // An answer waits for nothing: only a matter of speed where it is refused.
            stream.set_nodelay(true).ok();
            // Only a connection of the node with itself has one address at both ends.
            let ends = stream.local_addr().ok().zip(stream.peer_addr().ok());
            let is_here = ends.is_some_and(|(mine, theirs)| mine.ip() == theirs.ip());
            Ok((Box::new(stream), Peer { is_here, pid: None }))
        }
    }
}

fn tcp_failure(service: &str, host: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Failure::unreachable(format!("nobody listens on {host}: is {service} running, and bound to this address?"))
        }
        _ => Failure::unreachable(format!("cannot connect to {service} on {host}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_is_clipped_to_one_line() {
        assert_eq!(clip("a\r\n\tb  c\n"), "a b c");
        assert_eq!(clip(&"x".repeat(500)).len(), 120);
    }

    #[test]
    fn each_way_to_break_has_its_outcome() {
        use crate::policy::mitigation::Outcome;
        const MANNER: Manner = Manner { service: "memcached", when_silent: "is it stopped?" };
        let outcome = |broken| failure(&MANNER, "/run/m.sock", broken).outcome;
        assert_eq!(outcome(Broken::Closed), Outcome::TimedOut);
        assert_eq!(outcome(Broken::Silent), Outcome::TimedOut);
        assert_eq!(outcome(Broken::Foreign), Outcome::Unsupported);
    }
}
