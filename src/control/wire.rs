//! A conversation in text with a service: one deadline for silence, one bound on what is kept of an answer, and the same
//! words for each way in which it can fail. What an answer looks like is the service's to know. A wire that failed is never
//! used again, so that a late answer cannot be taken for another's.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::DEADLINE;
use super::address::Address;
use super::failure::Failure;
use super::stranger;
use super::stream::{Stream, TooMuch, breathe, place, shown};

/// Of one answer, at once. Far more than any that is asked for; a table is read row by row.
pub const KEPT_BYTES: usize = 256 << 10;
/// What a buffer begins with, and grows from.
const FIRST_BYTES: usize = 4096;
/// A row of a table.
const ROW_BYTES: usize = 16 << 10;
/// Then the time is looked at.
const LINES_AT_ONCE: u32 = 64;

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

/// Whether and where the first whole answer ends. Told of the same bytes and more each time, so it need not look at what
/// it has seen.
type Ended = Result<Option<usize>, Foreign>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    Closed,
    Silent,
    Foreign,
    TooLong,
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
    address: Address,
    io: Stream,
    unread: Vec<u8>,
    /// It has answered as this service does.
    is_known: bool,
    deadline: Instant,
}

impl Wire {
    pub async fn dial(manner: &'static Manner, address: &Address) -> Result<Self, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let silent = || failure(manner, &place(address), Broken::Silent);
        let io = Stream::dial(manner.service, address, deadline, silent).await?;
        Ok(Self { manner, address: address.clone(), io, unread: Vec::new(), is_known: false, deadline })
    }

    pub fn peer(&self) -> Peer {
        Peer { is_here: self.io.is_here(), pid: self.io.pid().and_then(|pid| u32::try_from(pid).ok()) }
    }

    pub const fn stream(&self) -> &Stream {
        &self.io
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    /// Gives the rest of this conversation no longer than this.
    pub fn hurry(&mut self, until: Instant) {
        self.deadline = self.deadline.min(until);
    }

    /// One request, one answer.
    pub async fn ask(&mut self, request: &[u8], end: impl FnMut(&[u8]) -> Ended) -> Result<Vec<u8>, Broken> {
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
    pub async fn hear(&mut self, mut end: impl FnMut(&[u8]) -> Ended) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(length) = end(&self.unread).map_err(|Foreign| Broken::Foreign)? {
                self.is_known = true;
                let rest = self.unread.split_off(length.min(self.unread.len()));
                return Ok(std::mem::replace(&mut self.unread, rest));
            }
            self.more(KEPT_BYTES).await?;
        }
    }

    /// Each line of the next answer as it comes, up to the line that ends it, which is not whole. Nothing else is kept.
    pub async fn hear_lines(
        &mut self,
        is_end: fn(&[u8]) -> Result<bool, Foreign>,
        mut heard: impl FnMut(&str),
    ) -> Result<(), Broken> {
        let mut seen = 0;
        loop {
            if !self.is_known && stranger::name(&self.unread).is_some_and(|name| !name.is(self.manner.service)) {
                return Err(Broken::Foreign);
            }
            let (mut start, mut lines) = (0, 0);
            while let Some(at) = self.unread[seen.max(start)..].iter().position(|&byte| byte == b'\n') {
                let at = seen.max(start) + at;
                heard(&shown(&self.unread[start..at]));
                (start, lines) = (at + 1, lines + 1);
                // A line may be one byte, and thousands come with one reading.
                if lines % LINES_AT_ONCE == 0 {
                    breathe().await;
                }
            }
            self.unread.drain(..start);
            if is_end(&self.unread).map_err(|Foreign| Broken::Foreign)? {
                self.is_known = true;
                self.unread.clear();
                return Ok(());
            }
            seen = self.unread.len();
            self.more(ROW_BYTES).await?;
        }
    }

    async fn more(&mut self, most: usize) -> Result<(), Broken> {
        let length = self.unread.len();
        if length >= most {
            return Err(Broken::TooLong);
        }
        if length == self.unread.capacity() {
            self.unread.reserve_exact(length.max(FIRST_BYTES).min(most - length));
        }
        match timeout_at(self.deadline, self.io.read_buf(&mut self.unread)).await {
            Ok(Ok(0)) => Err(Broken::Closed),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<TooMuch>()) => Err(Broken::TooLong),
            Ok(Err(_)) => Err(Broken::Closed),
            Err(_) => Err(Broken::Silent),
        }
    }

    /// What has come of an answer that is not whole.
    pub fn unread(&self) -> &[u8] {
        &self.unread
    }

    /// In words, by what came; where nothing did, by what the other end says to a stranger.
    pub async fn failure(&self, broken: Broken) -> Failure {
        let place = place(&self.address);
        let name = match stranger::name(&self.unread) {
            Some(name) if !self.is_known => Some(name),
            None if !self.is_known && self.unread.is_empty() && broken != Broken::TooLong => {
                stranger::asked(&self.address).await
            }
            Some(_) | None => None,
        };
        match name.filter(|name| !name.is(self.manner.service)) {
            Some(name) => Failure::unsupported(format!("{place} answers as {name}, not as {}", self.manner.service)),
            None => failure(self.manner, &place, broken),
        }
    }
}

/// Up to the end of the first line.
pub fn line() -> impl FnMut(&[u8]) -> Ended {
    let mut seen = 0;
    move |heard| {
        let found = heard[seen..].iter().position(|&byte| byte == b'\n').map(|at| seen + at + 1);
        seen = heard.len();
        Ok(found)
    }
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
        Broken::Foreign => Failure::unsupported(format!("the program on {place} does not speak {service}'s protocol")),
        Broken::TooLong => Failure::unsupported(format!(
            "{place} answers with more than anything that {service} is asked for ({} KiB): is it {service}?",
            KEPT_BYTES >> 10
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_break_has_its_outcome() {
        use crate::policy::mitigation::Outcome;
        const MANNER: Manner = Manner { service: "memcached", when_silent: "is it stopped?" };
        let outcome = |broken| failure(&MANNER, "/run/m.sock", broken).outcome;
        assert_eq!(outcome(Broken::Closed), Outcome::TimedOut);
        assert_eq!(outcome(Broken::Silent), Outcome::TimedOut);
        assert_eq!(outcome(Broken::Foreign), Outcome::Unsupported);
        assert_eq!(outcome(Broken::TooLong), Outcome::Unsupported);
    }

    #[test]
    fn the_end_of_a_line_is_found_over_any_cut() {
        let mut end = line();
        assert!(end(b"ab").unwrap().is_none() && end(b"abc").unwrap().is_none());
        assert_eq!(end(b"abc\nd").unwrap(), Some(4));
    }
}
