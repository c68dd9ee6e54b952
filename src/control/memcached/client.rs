//! One connection to memcached, kept open so that a full table of connections cannot lock the guardian out. Every
//! conversation begins with `stats`, which says which life of the server answers.

use super::survey::MIB;
use crate::control::address::Address;
use crate::control::boot_id;
use crate::control::failure::Failure;
use crate::control::resident;
use crate::control::said::clip;
use crate::control::stranger;
use crate::control::stream;
use crate::control::wire::{self, Broken, Foreign, Manner, Wire};

const MANNER: Manner =
    Manner { service: "memcached", when_silent: "is the process stopped, or are all its connections (`-c`) taken?" };
/// Between a process's start by the kernel's count and by its own: it reads whole seconds of the wall clock.
const START_SLACK: u64 = 5;

pub struct Client {
    address: Address,
    wire: Option<Wire>,
}

/// What memcached says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Which life of it this is.
    pub epoch: String,
    pub version: String,
    /// `limit_maxbytes`
    pub limit: u64,
    /// Its process, where that is seen from here beyond doubt.
    pub process: Option<u32>,
}

/// A page is a mebibyte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slabs {
    pub pages: u64,
    /// Of the class with most pages.
    pub largest: Option<Class>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    pub id: u32,
    pub pages: u64,
}

/// A whole list of `STAT name value`, as it came: what is not asked for takes no room.
#[derive(Debug)]
pub struct Stats(String);

impl Stats {
    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.strip_prefix("STAT ")?.split_once(' '))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Client {
    pub const fn new(address: Address) -> Self {
        Self { address, wire: None }
    }

    /// Starts a conversation.
    pub async fn begin(&mut self) -> Result<Server, Failure> {
        if let Some(mut wire) = self.wire.take() {
            wire.extend();
            match wire.ask(b"stats\r\n", end_of_stats()).await {
                Ok(answer) => return self.greeted(wire, answer),
                // It restarted, or closed an idle connection: nothing was asked of it yet.
                Err(Broken::Closed) => {}
                Err(broken) => return Err(wire.failure(broken).await),
            }
        }
        let mut wire = Wire::dial(&MANNER, &self.address).await?;
        match wire.ask(b"stats\r\n", end_of_stats()).await {
            Ok(answer) => self.greeted(wire, answer),
            Err(broken) => Err(wire.failure(broken).await),
        }
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.extend();
        }
    }

    /// `stats settings`
    pub async fn stats(&mut self, command: &str) -> Result<Stats, Failure> {
        let answer = self.exchange(format!("{command}\r\n").as_bytes(), end_of_stats()).await?;
        parse(&answer).ok_or_else(|| complaint(command, &text(answer)))
    }

    pub async fn slabs(&mut self) -> Result<Slabs, Failure> {
        slabs(&self.stats("stats slabs").await?).ok_or_else(|| untold("its slabs"))
    }

    /// What it says to a command of one line.
    pub async fn say(&mut self, command: &str) -> Result<String, Failure> {
        Ok(text(self.exchange(format!("{command}\r\n").as_bytes(), wire::line()).await?))
    }

    /// A command that answers `OK` when it worked.
    pub async fn order(&mut self, command: &str) -> Result<(), Failure> {
        let said = self.say(command).await?;
        if said == "OK" { Ok(()) } else { Err(complaint(command, &said)) }
    }

    /// Both in one packet: it carries out the second also where nobody is left to read what it says to the first.
    pub async fn order_both(&mut self, first: &str, second: &str) -> Result<(), Failure> {
        let said = [
            text(self.exchange(format!("{first}\r\n{second}\r\n").as_bytes(), wire::line()).await?),
            text(self.exchange(b"", wire::line()).await?),
        ];
        match [first, second].into_iter().zip(said).find(|(_, said)| said != "OK") {
            None => Ok(()),
            Some((command, said)) => Err(complaint(command, &said)),
        }
    }

    fn greeted(&mut self, wire: Wire, answer: Vec<u8>) -> Result<Server, Failure> {
        let stats = parse(&answer).ok_or_else(|| complaint("stats", &text(answer)))?;
        let server = server(&stats, &wire).ok_or_else(|| untold("its pid, age and limit"))?;
        self.wire = Some(wire);
        Ok(server)
    }

    async fn exchange(
        &mut self,
        request: &[u8],
        end: impl FnMut(&[u8]) -> Result<Option<usize>, Foreign>,
    ) -> Result<Vec<u8>, Failure> {
        let Some(mut wire) = self.wire.take() else {
            return Err(Failure::timed_out("the connection to memcached broke in the middle of this"));
        };
        let sent = if request.is_empty() { Ok(()) } else { wire.send(request).await };
        let heard = match sent {
            Ok(()) => wire.hear(end).await,
            Err(broken) => Err(broken),
        };
        match heard {
            Ok(answer) => {
                self.wire = Some(wire);
                Ok(answer)
            }
            Err(broken) => Err(wire.failure(broken).await),
        }
    }
}

/// `limit_maxbytes` and who it is. Both `time` and `uptime` are counted from one tick, so that their difference is the
/// same as long as it lives.
fn server(stats: &Stats, wire: &Wire) -> Option<Server> {
    let number = |name: &str| stats.get(name)?.parse::<u64>().ok();
    let (pid, started) = (u32::try_from(number("pid")?).ok()?, number("time")?.checked_sub(number("uptime")?)?);
    let peer = wire.peer();
    let boot = if peer.is_here { boot_id() } else { "" };
    let process = match peer.pid {
        Some(pid) => Some(pid).filter(|pid| is_memcached(*pid)),
        // Its pid may be one of another container.
        None => Some(pid).filter(|pid| peer.is_here && is_memcached(*pid) && began_at(*pid, started)),
    };
    Some(Server {
        epoch: format!("{boot}:{pid}:{started}"),
        version: clip(stats.get("version").unwrap_or_default()),
        limit: number("limit_maxbytes")?,
        process,
    })
}

fn is_memcached(pid: u32) -> bool {
    resident::life(pid).is_some_and(|life| life.name == "memcached")
}

fn began_at(pid: u32, unix_seconds: u64) -> bool {
    resident::started_unix(pid).is_some_and(|began| began.abs_diff(unix_seconds) <= START_SLACK)
}

fn slabs(stats: &Stats) -> Option<Slabs> {
    let bytes: u64 = stats.get("total_malloced")?.parse().ok()?;
    let class = |(name, value): (&str, &str)| {
        Some(Class { id: name.strip_suffix(":total_pages")?.parse().ok()?, pages: value.parse().ok()? })
    };
    // Of two alike the first, so that the choice does not jump between them.
    let largest = stats.all().filter_map(class).max_by_key(|class| (class.pages, std::cmp::Reverse(class.id)));
    Some(Slabs { pages: bytes.div_ceil(MIB), largest })
}

fn end_of_stats() -> impl FnMut(&[u8]) -> Result<Option<usize>, Foreign> {
    const LAST: &[u8] = b"END\r\n";
    let mut line = wire::line();
    move |heard| {
        if stranger::name(heard).is_some_and(|name| !name.is(MANNER.service)) {
            return Err(Foreign);
        }
        let is_list = heard.starts_with(b"STAT ") || heard.starts_with(LAST);
        // An error is one line, and so is a stranger's greeting.
        if is_list { Ok(heard.ends_with(LAST).then_some(heard.len())) } else { line(heard) }
    }
}

/// `None` where it is no such list.
fn parse(answer: &[u8]) -> Option<Stats> {
    let list = std::str::from_utf8(answer).ok()?.strip_suffix("END\r\n")?;
    let is_stat = |line: &str| line.strip_prefix("STAT ").is_some_and(|stat| stat.contains(' '));
    list.lines().all(is_stat).then(|| Stats(list.to_owned()))
}

fn text(answer: Vec<u8>) -> String {
    let mut text = stream::text(answer);
    text.truncate(text.trim_end().len());
    text
}

fn untold(what: &str) -> Failure {
    Failure::unsupported(format!("memcached does not report {what}"))
}

/// What memcached says instead of doing it.
pub fn complaint(command: &str, said: &str) -> Failure {
    let shown = clip(said);
    if said == "ERROR" {
        return Failure::unsupported(format!(
            "this memcached does not know `{command}`: it takes version 1.6 or newer"
        ));
    }
    if said.starts_with("CLIENT_ERROR unauthenticated") {
        return Failure::refused(
            "this memcached wants a password (`-Y`), which the guardian does not give: let it listen on a unix socket \
             without one (`-s /run/memcached/memcached.sock -a 0660`)",
        );
    }
    if said.starts_with("CLIENT_ERROR flush_all not allowed") {
        return Failure::refused(
            "memcached was started with `-F`, which forbids flush_all: remove that, or only shrink it",
        );
    }
    if said.starts_with("MEMLIMIT_ADJUST_FAILED") {
        return Failure::refused(format!(
            "memcached cannot change its limit ({shown}): start it without `-L` and without `-e`"
        ));
    }
    let known =
        ["CLIENT_ERROR", "SERVER_ERROR", "MEMLIMIT", "BUSY", "NOSPARE", "BADCLASS", "NOTFULL", "SAME", "UNSAFE"];
    if known.iter().any(|word| said.starts_with(word)) {
        return Failure::refused(format!("memcached refuses `{command}`: {shown}"));
    }
    Failure::unsupported(format!(
        "the program that answers `{command}` with `{shown}` does not speak memcached's text protocol"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Outcome;

    #[test]
    fn a_list_ends_with_its_last_line_and_an_error_with_its_only_one() {
        let end = |text: &str| end_of_stats()(text.as_bytes()).unwrap();
        assert_eq!(end("STAT a 1\r\nSTAT b 2\r\n"), None);
        assert_eq!(end("STAT a 1\r\nEND\r\n"), Some(15));
        assert_eq!(end("END\r\n"), Some(5));
        assert_eq!(end("ERROR\r\nmore"), Some(7));
        assert_eq!(end("STA"), None);
    }

    #[test]
    fn the_class_with_most_pages_is_found() {
        let stats = parse(
            b"STAT 5:total_pages 3\r\nSTAT 13:total_pages 40\r\nSTAT 13:used_chunks 9\r\nSTAT total_malloced \
              45088768\r\nEND\r\n",
        );
        let slabs = slabs(&stats.unwrap()).unwrap();
        assert_eq!((slabs.pages, slabs.largest), (43, Some(Class { id: 13, pages: 40 })));
    }

    #[test]
    fn what_is_no_list_of_statistics_is_not_taken_for_one() {
        for answer in [&b"STAT a 1\r\n"[..], b"hello\r\nEND\r\n", b"STAT \xff 1\r\nEND\r\n", b"STAT alone\r\nEND\r\n"] {
            assert!(parse(answer).is_none());
        }
    }

    #[test]
    fn complaints_are_told_apart() {
        let outcome = |said| complaint("cache_memlimit 8", said).outcome;
        assert_eq!(outcome("ERROR"), Outcome::Unsupported);
        assert_eq!(outcome("MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m"), Outcome::Refused);
        assert_eq!(outcome("220 mail.example ESMTP"), Outcome::Unsupported);
    }
}
