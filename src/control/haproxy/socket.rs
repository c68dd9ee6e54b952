//! One conversation with HAProxy's runtime socket: a connection in prompt mode, one command and one answer at a time,
//! under one deadline and a bound on the size of an answer. Never sends two commands on one line: there an error in the
//! first does not stop the second.

use std::path::Path;

use tokio::time::Instant;

use super::rows::{Fault, Reader, Rows};
use crate::control::address::Address;
use crate::control::failure::Failure;
use crate::control::said::clip;
use crate::control::wire::{Broken, Foreign, KEPT_BYTES, Manner, Wire};

const MANNER: Manner =
    Manner { service: "HAProxy", when_silent: "is the process stopped, or are all its CLI slots taken?" };
/// What ends every answer in prompt mode, on a line of its own.
const PROMPT: &[u8] = b"> ";
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
    wire: Wire,
    shown: String,
}

impl Session {
    pub async fn open(socket: &Path) -> Result<Self, Failure> {
        let wire = Wire::dial(&MANNER, &Address::Unix(socket.to_owned())).await?;
        let mut session = Self { wire, shown: socket.display().to_string() };
        session.ask("prompt").await?;
        Ok(session)
    }

    /// Gives the rest of a long conversation a whole deadline again, until that moment at most.
    pub fn extend(&mut self, until: Instant) {
        self.wire.extend();
        self.wire.hurry(until);
    }

    /// The answer without the prompt and surrounding blank lines.
    pub async fn ask(&mut self, command: &str) -> Result<String, Failure> {
        let (mut answer, mut is_long) = (String::new(), false);
        let heard = self.exchange(command, |line| {
            is_long |= answer.len() + line.len() >= KEPT_BYTES;
            if !is_long {
                keep(&mut answer, line);
            }
        });
        heard.await?;
        if is_long {
            return Err(self.wire.failure(Broken::TooLong).await);
        }
        answer.truncate(answer.trim_end().len());
        let blank = answer.len() - answer.trim_start().len();
        answer.drain(..blank);
        Ok(answer)
    }

    /// The answer, unless it is that this may not be asked.
    pub async fn question(&mut self, command: &str) -> Result<String, Failure> {
        let answer = self.ask(command).await?;
        if is_refusal(&answer) { Err(complaint(&self.shown, command, &answer)) } else { Ok(answer) }
    }

    /// A table, of which only what is wanted is kept. `None` where it cannot be read wholly.
    pub async fn table<const N: usize>(
        &mut self,
        command: &str,
        mut reader: Reader<'_, N>,
    ) -> Result<Option<Rows<N>>, Failure> {
        let mut refusal = None;
        self.exchange(command, |line| {
            if is_refusal(line) && refusal.is_none() {
                refusal = Some(line.to_owned());
            }
            reader.line(line);
        })
        .await?;
        match (reader.rows(), refusal) {
            (Ok(rows), _) => Ok(Some(rows)),
            (Err(_), Some(refusal)) => Err(complaint(&self.shown, command, &refusal)),
            (Err(Fault::Unreadable), None) => Ok(None),
            (Err(Fault::TooMany), None) => Err(Failure::unsupported(format!(
                "`{command}` on {} tells of more servers than the guardian keeps ({} KiB): name fewer `backends`",
                self.shown,
                KEPT_BYTES >> 10
            ))),
        }
    }

    /// The beginning of an answer that may be long. It ends the conversation.
    pub async fn beginning(mut self, command: &str) -> Result<Beginning, Failure> {
        let (mut text, mut is_cut) = (String::new(), false);
        let heard = self.exchange(command, |line| {
            is_cut |= text.len() + line.len() >= BEGINNING_BYTES;
            if !is_cut {
                text.push_str(line);
                text.push('\n');
            }
        });
        match heard.await {
            // What comes after is not looked at, so its end need not be.
            Err(failure) if !is_cut => Err(failure),
            Ok(()) | Err(_) => Ok(Beginning { text, is_cut }),
        }
    }

    /// A command that answers nothing when it worked.
    pub async fn order(&mut self, command: &str) -> Result<(), Failure> {
        let answer = self.ask(command).await?;
        if answer.is_empty() { Ok(()) } else { Err(complaint(&self.shown, command, &answer)) }
    }

    async fn exchange(&mut self, command: &str, heard: impl FnMut(&str)) -> Result<(), Failure> {
        let done = match self.wire.send(format!("{command}\n").as_bytes()).await {
            Ok(()) => self.wire.hear_lines(is_over, heard).await,
            Err(broken) => Err(broken),
        };
        let Err(broken) = done else { return Ok(()) };
        if self.wire.unread().ends_with(PROMPT_OF_THE_MASTER) {
            return Err(Failure::unsupported(format!(
                "{} is the socket of HAProxy's master process: name in `socket` the one of a `stats socket` line",
                self.shown
            )));
        }
        Err(self.wire.failure(broken).await)
    }
}

/// In no more room than is kept: to double it would go beyond.
fn keep(answer: &mut String, line: &str) {
    let more = line.len() + 1;
    if answer.capacity() < answer.len() + more {
        let doubled = answer.len().min(KEPT_BYTES.saturating_sub(answer.len()));
        answer.reserve_exact(doubled.max(more));
    }
    answer.push_str(line);
    answer.push('\n');
}

/// By what has come of the last line.
fn is_over(line: &[u8]) -> Result<bool, Foreign> {
    if line.ends_with(PROMPT_OF_THE_MASTER) { Err(Foreign) } else { Ok(line == PROMPT) }
}

fn is_refusal(answer: &str) -> bool {
    REFUSALS.iter().any(|refusal| answer.starts_with(refusal))
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
