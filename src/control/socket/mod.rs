//! Anything that answers on a socket: what is sent and what an answer must say is the operator's recipe. Text with an
//! end, or PostgreSQL's own messages. Every answer is bounded in size and time.

mod postgres;
mod settings;
pub mod target;

use std::borrow::Cow;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::DEADLINE;
use super::failure::Failure;
use super::json::Picker;
use super::recipe::text::{Words, as_it_is, begins, fill};
use super::recipe::{Heard, Line, Peer, Request, Step};
use super::said::clip;
use super::stranger;
use super::stream::{Stream, place, text};
use super::trust::{self, Expected};
use super::wire::KEPT_BYTES;
use crate::policy::mitigation::Outcome;
use target::{Protocol, Socket};

/// What a buffer begins with, and grows from.
const FIRST_BYTES: usize = 4096;

pub struct Session {
    target: Socket,
    /// Kept between conversations where that is wanted.
    stream: Option<Stream>,
    /// Of this conversation.
    peer: Option<Peer>,
    deadline: Instant,
}

/// Why there is no answer.
enum Broken {
    Closed,
    TooLong,
    /// In the service's own words, or ours.
    Told(Failure),
}

type Answer = Result<String, Broken>;

#[async_trait(?Send)]
impl Line for Session {
    fn place(&self) -> String {
        place(&self.target.address)
    }

    async fn begin(&mut self, words: &Words<'_>) -> Result<Option<Peer>, Failure> {
        self.extend();
        if !self.target.keep_open || !self.stream.as_ref().is_some_and(Stream::is_quiet) {
            self.connect(words).await?;
        }
        self.peer = self.stream.as_ref().and_then(Peer::of);
        Ok(self.peer)
    }

    fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    async fn ask(&mut self, request: &Request, words: &Words<'_>, pointer: Option<&str>) -> Result<Heard, Failure> {
        if self.stream.is_none() && self.target.protocol.closes() {
            self.connect(words).await?;
            let now = self.stream.as_ref().and_then(Peer::of);
            // It closes after each answer: it must still be the same one.
            if now != self.peer {
                return Err(Failure::epoch_changed(&self.place()));
            }
        }
        let Some(mut stream) = self.stream.take() else { return Err(self.failed(Broken::Closed, &request.shown())) };
        let asked = async {
            match &self.target.protocol {
                Protocol::Postgres { .. } => postgres::query(&mut stream, &sent(request, words)).await,
                Protocol::Text { ends_with } => {
                    exchange(&mut stream, &sent(request, words), end(request).unwrap_or(ends_with)).await
                }
            }
        };
        let answer = match timeout_at(self.deadline, asked).await {
            Ok(answer) => answer,
            Err(_) => return Err(self.silent(&request.shown())),
        };
        // Where it does not speak the protocol, what comes next may be anything.
        let is_whole = match &answer {
            Ok(_) => true,
            Err(Broken::Told(failure)) => failure.outcome == Outcome::Refused,
            Err(Broken::Closed | Broken::TooLong) => false,
        };
        if is_whole && !self.target.protocol.closes() {
            self.stream = Some(stream);
        }
        let text = match answer {
            Ok(text) => text,
            Err(broken) => {
                let is_closed = matches!(broken, Broken::Closed);
                let failure = self.failed(broken, &request.shown());
                // With TLS, it hangs up on whoever speaks in the clear.
                return Err(if is_closed {
                    stranger::unless_tls(failure, &self.target.address).await
                } else {
                    failure
                });
            }
        };
        let found = pointer.and_then(|pointer| {
            let mut picker = Picker::new(pointer);
            picker.read(text.as_bytes());
            picker.found()
        });
        Ok(Heard { text, found })
    }
}

impl Session {
    #[must_use]
    pub fn new(target: Socket) -> Self {
        Self { target, stream: None, peer: None, deadline: Instant::now() }
    }

    async fn connect(&mut self, words: &Words<'_>) -> Result<(), Failure> {
        self.stream = None;
        let (address, silent) = (&self.target.address, || self.silent("connecting"));
        let mut stream = Stream::dial("the service", address, self.deadline, silent).await?;
        if self.target.recipe.password_file.is_some() {
            trust::check(&stream, address, Expected::listener(self.target.listener))?;
        }
        match timeout_at(self.deadline, self.greet(&mut stream, words)).await {
            Ok(Ok(())) => {
                self.stream = Some(stream);
                Ok(())
            }
            Ok(Err(broken)) => Err(self.failed(broken, "connecting")),
            Err(_) => Err(self.silent("connecting")),
        }
    }

    async fn greet(&self, stream: &mut Stream, words: &Words<'_>) -> Result<(), Broken> {
        match &self.target.protocol {
            Protocol::Postgres { user, database } => postgres::greet(stream, user, database).await?,
            Protocol::Text { .. } => {}
        }
        for Step { request, expect, .. } in &self.target.on_connect {
            let bytes = sent(request, words);
            let answer = match &self.target.protocol {
                Protocol::Postgres { .. } => postgres::query(stream, &bytes).await?,
                Protocol::Text { ends_with } => exchange(stream, &bytes, end(request).unwrap_or(ends_with)).await?,
            };
            if expect.as_ref().is_some_and(|expected| !begins(expected, &answer)) {
                let line = clip(&answer);
                return Err(Broken::Told(Failure::refused(format!(
                    "{} answers `{line}` when it is connected to: check `on_connect`",
                    self.place()
                ))));
            }
        }
        Ok(())
    }

    fn silent(&self, request: &str) -> Failure {
        Failure::timed_out(format!(
            "no whole answer from {} to `{request}` within {} ms: is the service stopped or stuck, or does `ends_with` \
             name another end than its answers have?",
            self.place(),
            DEADLINE.as_millis()
        ))
    }

    fn failed(&self, broken: Broken, request: &str) -> Failure {
        match broken {
            Broken::Closed => Failure::timed_out(format!(
                "{} was closed before `{request}` was answered: did the service restart, or does it close after each \
                 answer (ends_with = \"\")?",
                self.place()
            )),
            Broken::TooLong => Failure::unsupported(format!(
                "{} answers `{request}` with over {} KiB: is it the right service?",
                self.place(),
                KEPT_BYTES >> 10
            )),
            Broken::Told(failure) => {
                Failure { detail: format!("{} on {}", failure.detail, self.place()), outcome: failure.outcome }
            }
        }
    }
}

fn sent<'a>(request: &'a Request, words: &Words<'_>) -> Cow<'a, [u8]> {
    match request {
        Request::Send { text, .. } => Cow::Owned(fill(text, words, as_it_is).into_bytes()),
        Request::Bytes { bytes, .. } => Cow::Borrowed(bytes),
        // The configuration puts none here.
        Request::Http { .. } => Cow::Borrowed(&[]),
    }
}

fn end(request: &Request) -> Option<&String> {
    match request {
        Request::Send { ends_with, .. } | Request::Bytes { ends_with, .. } => ends_with.as_ref(),
        Request::Http { .. } => None,
    }
}

/// Up to the text that ends it; up to the end of the connection where that is none.
async fn exchange(stream: &mut Stream, bytes: &[u8], ends_with: &str) -> Answer {
    stream.write_all(bytes).await.map_err(|_| Broken::Closed)?;
    let mut answer = Vec::new();
    while ends_with.is_empty() || !answer.ends_with(ends_with.as_bytes()) {
        if answer.len() >= KEPT_BYTES {
            return Err(Broken::TooLong);
        }
        if answer.len() == answer.capacity() {
            answer.reserve_exact(answer.len().max(FIRST_BYTES).min(KEPT_BYTES - answer.len()));
        }
        match stream.read_buf(&mut answer).await {
            Ok(0) if ends_with.is_empty() => break,
            Ok(0) | Err(_) => return Err(Broken::Closed),
            Ok(_) => {}
        }
    }
    Ok(text(answer))
}
