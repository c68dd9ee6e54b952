//! Wrong tokens, counted by who sent them: over loopback that is a user, elsewhere an address. Who guesses on is not listened
//! to for a while, and told; the right token of somebody else passes at once.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use super::credential;

/// A script with an old token and its retries.
const FREE: usize = 10;
/// After those, one for each of these: a token of ten random letters then takes a hundred million times the age of Linux.
const EACH: Duration = Duration::from_secs(1);
/// Who guesses on is told again after this long.
const TOLD_FOR: Duration = Duration::from_secs(60);
/// Of a network of guessers the oldest are forgotten.
const MOST: usize = 256;

/// Both ends of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    pub peer: SocketAddr,
    pub ours: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    User(Uid),
    Address(IpAddr),
}

#[derive(Debug)]
struct Guesser {
    who: Who,
    /// Their wrong ones, less one for each `EACH` since.
    wrong: usize,
    since: Instant,
    told: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Guesses(Mutex<Vec<Guesser>>);

/// What is to be told of a wrong token, if anything.
pub type News = Option<String>;

impl Guesses {
    /// How long this one has to wait before it is listened to; looked up only while somebody guesses.
    #[must_use]
    pub fn wait(&self, ends: Ends) -> Option<Duration> {
        let now = Instant::now();
        let mut guessers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guessers.iter_mut().for_each(|guesser| guesser.forgive(now));
        guessers.retain(|guesser| guesser.wrong > 0);
        if guessers.is_empty() {
            return None;
        }
        let who = who(ends);
        let guesser = guessers.iter().find(|guesser| guesser.who == who)?;
        (guesser.wrong >= FREE).then(|| EACH.saturating_sub(now.duration_since(guesser.since)))
    }

    /// One more wrong token.
    pub fn wrong(&self, ends: Ends) -> News {
        let (now, who) = (Instant::now(), who(ends));
        let mut guessers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = guessers.iter().position(|guesser| guesser.who == who);
        let at = known.unwrap_or_else(|| {
            if guessers.len() >= MOST {
                guessers.remove(0);
            }
            guessers.push(Guesser { who, wrong: 0, since: now, told: None });
            guessers.len() - 1
        });
        let guesser = &mut guessers[at];
        guesser.wrong += 1;
        guesser.since = now;
        guesser.news(now)
    }
}

impl Guesser {
    fn forgive(&mut self, now: Instant) {
        let passed = now.duration_since(self.since).as_secs() / EACH.as_secs();
        if passed > 0 {
            self.wrong = self.wrong.saturating_sub(usize::try_from(passed).unwrap_or(usize::MAX));
            self.since = now;
        }
    }

    fn news(&mut self, now: Instant) -> News {
        let fresh = self.told.is_none_or(|told| now.duration_since(told) > TOLD_FOR);
        if self.wrong < FREE || !fresh {
            return None;
        }
        self.told = Some(now);
        let who = match self.who {
            Who::User(uid) => credential::named(uid),
            Who::Address(address) => address.to_string(),
        };
        Some(format!("{who} sent {} wrong tokens; from now on it gets one try a second", self.wrong))
    }
}

fn who(ends: Ends) -> Who {
    let user = ends.peer.ip().to_canonical().is_loopback().then(|| user_of(ends)).flatten();
    user.map_or(Who::Address(ends.peer.ip().to_canonical()), Who::User)
}

/// Whose the other end of a connection within this node is.
fn user_of(ends: Ends) -> Option<Uid> {
    let table = if ends.peer.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let table = fs::read_to_string(table).ok()?;
    table.lines().find_map(|line| owner(line, ends.peer.port(), ends.ours.port()))
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode`
fn owner(line: &str, local: u16, remote: u16) -> Option<Uid> {
    let port = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
    let mut fields = line.split_whitespace().skip(1);
    if port(fields.next()?) != Some(local) || port(fields.next()?) != Some(remote) {
        return None;
    }
    fields.nth(4)?.parse().ok().map(Uid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn who_guesses_on_waits_and_nobody_else_does() {
        let guesses = Guesses::default();
        let ends = |peer: &str| Ends { peer: peer.parse().unwrap(), ours: "10.0.0.1:9977".parse().unwrap() };
        let (bad, good) = (ends("10.0.0.7:4000"), ends("10.0.0.8:4000"));
        let told: Vec<String> = (0..FREE + 5).filter_map(|_| guesses.wrong(bad)).collect();
        assert_eq!(told, ["10.0.0.7 sent 10 wrong tokens; from now on it gets one try a second"]);
        assert!(guesses.wait(bad).is_some_and(|wait| wait <= EACH));
        assert_eq!(guesses.wait(good), None);
        let mut guessers = guesses.0.lock().unwrap();
        let now = guessers[0].since + EACH * 7;
        guessers[0].forgive(now);
        assert_eq!(guessers[0].wrong, FREE - 2);
    }

    #[test]
    fn over_loopback_it_is_a_user() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ends = Ends { peer: stream.local_addr().unwrap(), ours: listener.local_addr().unwrap() };
        assert_eq!(who(ends), Who::User(nix::unistd::geteuid()));
        assert_eq!(owner("garbage", 1, 2), None);
    }
}
