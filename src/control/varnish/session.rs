//! One conversation with Varnish's command line: the challenge is answered, then one command and one answer at a time. The
//! secret is read from its file at each connect and not kept.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::target::Varnish;
use crate::control::failure::Failure;
use crate::control::said::clip;
use crate::control::stream::{place, shown};
use crate::control::trust::{self, Expected};
use crate::control::wire::{Broken, Foreign, Manner, Wire};

const MANNER: Manner = Manner { service: "Varnish", when_silent: "is varnishd stopped, or its child stuck?" };
/// Status, length, and what ends that line (varnish-cli(7)).
const HEADER_BYTES: usize = 13;
const CHALLENGE_BYTES: usize = 32;
const SECRET_BYTES: u64 = 64 << 10;

pub const OK: u16 = 200;
/// It worked, and the answer is longer than `cli_limit` lets it be.
pub const CUT: u16 = 201;
/// What a command of the child's is while there is no child.
pub const UNKNOWN: u16 = 101;
/// Something is wrong with what the command is about.
pub const PARAMETER: u16 = 106;
/// Who asks is not known, or what is asked for is protected.
pub const AUTHENTICATE: u16 = 107;

pub struct Session {
    wire: Wire,
    /// `7.1.1`
    pub version: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: u16,
    pub text: String,
}

impl Session {
    pub async fn open(target: &Varnish) -> Result<Self, Failure> {
        let mut wire = Wire::dial(&MANNER, &target.address).await?;
        let mut greeting = next(&mut wire).await?;
        if greeting.status == AUTHENTICATE {
            let at = place(&target.address);
            let Some(file) = &target.secret_file else {
                return Err(Failure::refused(format!("Varnish on {at} asks for its secret: set `secret_file`")));
            };
            let (Some(challenge), true) = (greeting.text.get(..CHALLENGE_BYTES), greeting.text.is_ascii()) else {
                return Err(wire.failure(Broken::Foreign).await);
            };
            // Whoever has an answer to a challenge of its own may guess the secret at leisure.
            trust::check(wire.stream(), &target.address, Expected::listener(target.listener))?;
            let answer = response(challenge, &read_secret(file)?);
            if let Err(broken) = wire.send(format!("auth {answer}\n").as_bytes()).await {
                return Err(wire.failure(broken).await);
            }
            greeting = next(&mut wire).await?;
            // 107 again, or 500 and a closed connection.
            if !matches!(greeting.status, OK | CUT) {
                return Err(Failure::refused(format!(
                    "Varnish on {at} rejects the secret in {}: name the file that its `-S` names, or copy it again \
                     and restart the guardian",
                    file.display()
                )));
            }
        }
        Ok(Self { wire, version: version(&greeting.text) })
    }

    pub fn is_here(&self) -> bool {
        self.wire.peer().is_here
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        self.wire.extend();
    }

    pub async fn ask(&mut self, command: &str) -> Result<Reply, Failure> {
        self.send(command).await?;
        next(&mut self.wire).await
    }

    /// A command that works or says why not.
    pub async fn order(&mut self, command: &str) -> Result<String, Failure> {
        let reply = self.ask(command).await?;
        if reply.status == OK { Ok(reply.text) } else { Err(complaint(command, &reply)) }
    }

    pub async fn send(&mut self, commands: &str) -> Result<(), Failure> {
        match self.wire.send(format!("{commands}\n").as_bytes()).await {
            Ok(()) => Ok(()),
            Err(broken) => Err(self.wire.failure(broken).await),
        }
    }

    /// The next answer, which may take until then.
    pub async fn hear_until(&mut self, until: Instant) -> Result<Reply, Failure> {
        loop {
            self.wire.extend();
            match self.wire.hear(end).await {
                Ok(answer) => return read(&self.wire, &answer).await,
                Err(Broken::Silent) if Instant::now() < until => {}
                Err(broken) => return Err(self.wire.failure(broken).await),
            }
        }
    }
}

async fn next(wire: &mut Wire) -> Result<Reply, Failure> {
    match wire.hear(end).await {
        Ok(answer) => read(wire, &answer).await,
        Err(broken) => Err(wire.failure(broken).await),
    }
}

async fn read(wire: &Wire, answer: &[u8]) -> Result<Reply, Failure> {
    match parse(answer) {
        Some(reply) => Ok(reply),
        None => Err(wire.failure(Broken::Foreign).await),
    }
}

/// `200 15      `, a line end, so many bytes, a line end.
fn end(buffer: &[u8]) -> Result<Option<usize>, Foreign> {
    match buffer.get(..HEADER_BYTES) {
        Some(header) => {
            let (_, length) = header_of(header).ok_or(Foreign)?;
            let whole = HEADER_BYTES + length + 1;
            Ok((buffer.len() >= whole).then_some(whole))
        }
        // Whoever else says something says it without these digits.
        None if buffer.iter().take(3).all(u8::is_ascii_digit) => Ok(None),
        None => Err(Foreign),
    }
}

fn header_of(header: &[u8]) -> Option<(u16, usize)> {
    let (header, end) = std::str::from_utf8(header).ok()?.split_at_checked(HEADER_BYTES - 1)?;
    let (status, length) = header.split_once(' ')?;
    if end != "\n" || status.len() != 3 {
        return None;
    }
    Some((status.parse().ok()?, length.trim().parse().ok()?))
}

fn parse(answer: &[u8]) -> Option<Reply> {
    let (header, body) = answer.split_at_checked(HEADER_BYTES)?;
    let (status, length) = header_of(header)?;
    Some(Reply { status, text: shown(body.get(..length)?).into_owned() })
}

/// SHA-256 over challenge, secret and challenge again, in lower case (varnish-cli(7)).
fn response(challenge: &str, secret: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [challenge.as_bytes(), b"\n", secret, challenge.as_bytes(), b"\n"] {
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_secret(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = || -> io::Result<Vec<u8>> {
        let mut secret = Vec::new();
        // To open a pipe waits for whoever writes to it, else.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
        file.take(SECRET_BYTES).read_to_end(&mut secret)?;
        Ok(secret)
    };
    read().map_err(|error| {
        Failure::refused(format!(
            "cannot read the secret of Varnish in {}: {error}; hand it over with `LoadCredential=`",
            file.display()
        ))
    })
}

/// `varnish-7.1.1 revision …` on a line of the greeting.
fn version(greeting: &str) -> String {
    let found = greeting.lines().find_map(|line| line.strip_prefix("varnish-"));
    clip(found.and_then(|rest| rest.split(' ').next()).unwrap_or("of unknown version"))
}

/// What Varnish says instead of doing it.
pub fn complaint(command: &str, reply: &Reply) -> Failure {
    let said = clip(&reply.text);
    if reply.status == CUT {
        return Failure::refused(format!(
            "Varnish cuts its answer to `{command}` short: `varnishadm param.set cli_limit 64k`, and set it in its unit"
        ));
    }
    if reply.status != UNKNOWN {
        return Failure::refused(format!("Varnish refuses `{command}` ({}): {said}", reply.status));
    }
    if said.contains("child not running") {
        return Failure::refused("Varnish's child does not run: `varnishadm start`, and see `varnishadm panic.show`");
    }
    Failure::unsupported(format!("this Varnish does not know `{command}`: it takes version 6.5 or newer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Outcome;

    #[test]
    fn an_answer_is_as_long_as_its_header_says() {
        let answer = b"200 5       \nhello\n";
        assert_eq!(end(answer).unwrap(), Some(answer.len()));
        assert_eq!(end(&answer[..10]).unwrap(), None);
        assert_eq!(end(&answer[..16]).unwrap(), None);
        assert_eq!(parse(answer), Some(Reply { status: 200, text: "hello".into() }));
    }

    #[test]
    fn what_is_no_answer_is_not_taken_for_one() {
        for stranger in [&b"220 mail.example ESMTP\r\n"[..], b"hello", b"200 99999999999999999999\n", b"200 x       \n"]
        {
            assert!(end(stranger).is_err() || stranger.len() < HEADER_BYTES, "{stranger:?}");
        }
        assert!(end(b"SSH").is_err());
        assert!(end(b"").unwrap().is_none());
    }

    #[test]
    fn the_challenge_is_answered_as_the_manual_shows() {
        // varnish-cli(7), of the challenge `ixslvvxrgkjptxmcgnnsdxsvdmvfympg` and the secret `foo\n`.
        let answer = response("ixslvvxrgkjptxmcgnnsdxsvdmvfympg", b"foo\n");
        assert_eq!(answer, "455ce847f0073c7ab3b1465f74507b75d3dc064c1e7de3b71e00de9092fdc89a");
    }

    #[test]
    fn complaints_are_told_apart() {
        let outcome = |status, text: &str| complaint("pid", &Reply { status, text: text.into() }).outcome;
        assert_eq!(outcome(106, "Must be at least 100 (thread_pool_min)"), Outcome::Refused);
        assert_eq!(outcome(101, "Unknown request in manager process (child not running)."), Outcome::Refused);
        assert_eq!(outcome(101, "Unknown request."), Outcome::Unsupported);
        assert_eq!(version("-----\nvarnish-7.1.1 revision 7cee\n"), "7.1.1");
    }
}
