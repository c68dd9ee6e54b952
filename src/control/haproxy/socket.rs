//! One conversation with HAProxy's runtime socket: a connection in prompt mode, one command and one answer at a time,
//! under one deadline and a bound on the size of an answer. Never sends two commands on one line: there an error in the
//! first does not stop the second.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use crate::control::DEADLINE;
use crate::control::failure::{Failure, connecting};

/// About 2,500 servers in `show stat`, at 400 bytes each.
const ANSWER_BYTES: usize = 1 << 20;
/// What ends every answer in prompt mode.
const PROMPT: &[u8] = b"\n> ";
/// The process that manages the others has a socket of its own (`-S`).
const PROMPT_OF_THE_MASTER: &[u8] = b"master> ";
const REFUSALS: [&str; 2] = ["Permission denied", "Unknown command"];

/// The first of this many bytes of `show fd`, some 1,300 lines: listeners are opened before any connection.
const BEGINNING_BYTES: usize = 256 << 10;

/// As much of a long answer as is looked at.
pub struct Beginning {
    pub text: String,
    pub is_cut: bool,
}

impl Beginning {
    /// The whole ones.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &str> {
        let whole = if self.is_cut { self.text.rfind('\n').unwrap_or_default() } else { self.text.len() };
        self.text[..whole].lines()
    }
}

pub struct Session {
    stream: UnixStream,
    deadline: Instant,
    shown: String,
}

impl Session {
    pub async fn open(socket: &Path) -> Result<Self, Failure> {
        let deadline = Instant::now() + DEADLINE;
        let shown = socket.display().to_string();
        let stream = match timeout_at(deadline, UnixStream::connect(socket)).await {
            Ok(connected) => connected.map_err(|error| connecting("HAProxy", socket, &error))?,
            Err(_) => return Err(silent(&shown)),
        };
        let mut session = Self { stream, deadline, shown };
        session.ask("prompt").await?;
        Ok(session)
    }

    /// Gives the rest of a long conversation a whole deadline again, until that moment at most.
    pub fn extend(&mut self, until: Instant) {
        self.deadline = (Instant::now() + DEADLINE).min(until);
    }

    /// The answer without the prompt and surrounding blank lines.
    pub async fn ask(&mut self, command: &str) -> Result<String, Failure> {
        let deadline = self.deadline;
        match timeout_at(deadline, self.exchange(command)).await {
            Ok(answer) => answer,
            Err(_) => Err(silent(&self.shown)),
        }
    }

    /// The answer, unless it is that this may not be asked.
    pub async fn question(&mut self, command: &str) -> Result<String, Failure> {
        let answer = self.ask(command).await?;
        let is_refused = REFUSALS.iter().any(|refusal| answer.starts_with(refusal));
        if is_refused { Err(complaint(&self.shown, command, &answer)) } else { Ok(answer) }
    }

    /// The beginning of an answer that may be long. It ends the conversation.
    pub async fn beginning(mut self, command: &str) -> Result<Beginning, Failure> {
        let deadline = self.deadline;
        match timeout_at(deadline, self.begin(command)).await {
            Ok(answer) => answer,
            Err(_) => Err(silent(&self.shown)),
        }
    }

    async fn begin(&mut self, command: &str) -> Result<Beginning, Failure> {
        let line = format!("{command}\n");
        if self.stream.write_all(line.as_bytes()).await.is_err() {
            return Err(self.broken());
        }
        let mut answer = Vec::with_capacity(4096);
        while !answer.ends_with(PROMPT) && answer.len() < BEGINNING_BYTES {
            match self.stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => return Err(self.broken()),
                Ok(_) => {}
            }
        }
        let is_cut = !answer.ends_with(PROMPT);
        Ok(Beginning { text: String::from_utf8_lossy(&answer).into_owned(), is_cut })
    }

    /// A command that answers nothing when it worked.
    pub async fn order(&mut self, command: &str) -> Result<(), Failure> {
        let answer = self.ask(command).await?;
        if answer.is_empty() { Ok(()) } else { Err(complaint(&self.shown, command, &answer)) }
    }

    async fn exchange(&mut self, command: &str) -> Result<String, Failure> {
        let line = format!("{command}\n");
        if self.stream.write_all(line.as_bytes()).await.is_err() {
            return Err(self.broken());
        }
        let mut answer = Vec::with_capacity(4096);
        while !answer.ends_with(PROMPT) {
            if answer.ends_with(PROMPT_OF_THE_MASTER) {
                return Err(Failure::unsupported(format!(
                    "{} is the socket of HAProxy's master process: name in `socket` the one of a `stats socket` line",
                    self.shown
                )));
            }
            if answer.len() > ANSWER_BYTES {
                return Err(Failure::unsupported(format!(
                    "{} answered `{command}` with over {ANSWER_BYTES} bytes: is it HAProxy's runtime socket?",
                    self.shown
                )));
            }
            match self.stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => return Err(self.broken()),
                Ok(_) => {}
            }
        }
        answer.truncate(answer.len() - PROMPT.len());
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    fn broken(&self) -> Failure {
        Failure::timed_out(format!("HAProxy closed {} in the middle of an answer: did it restart?", self.shown))
    }
}

fn silent(shown: &str) -> Failure {
    Failure::timed_out(format!(
        "no whole answer from HAProxy on {shown} within {} ms: is the process stopped, or are all its CLI slots taken?",
        DEADLINE.as_millis()
    ))
}

/// What HAProxy says instead of doing it.
#[must_use]
pub fn complaint(shown: &str, command: &str, answer: &str) -> Failure {
    let first = answer.lines().next().unwrap_or_default();
    if first.starts_with("Permission denied") {
        return Failure::refused(format!(
            "HAProxy refuses `{command}` on {shown}: permission denied; give that `stats socket` line `level admin`"
        ));
    }
    if first.starts_with("Unknown command") {
        return Failure::unsupported(format!("this HAProxy does not know `{command}`"));
    }
    Failure::refused(format!("HAProxy refuses `{command}` on {shown}: {}", clip(first)))
}

/// Enough of a stranger's text to recognise it.
fn clip(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Outcome;

    #[test]
    fn complaints_are_told_apart() {
        let outcome = |answer| complaint("/run/h.sock", "set maxconn global 5", answer).outcome;
        assert_eq!(outcome("Permission denied\n"), Outcome::Refused);
        assert_eq!(outcome("Value out of range."), Outcome::Refused);
        assert_eq!(outcome("Unknown command, but maybe one of"), Outcome::Unsupported);
    }
}
