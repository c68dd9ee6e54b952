//! Anything that is told what to do over HTTP: requests and what their answers must say are the operator's recipe. A
//! connection lasts for one conversation; every answer is bounded in size and time.

mod settings;
pub mod target;

use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{HOST, USER_AGENT};
use tokio::time::{Instant, timeout_at};

use super::DEADLINE;
use super::address::Address;
use super::exchange::{Connection, Message};
use super::failure::Failure;
use super::json::Picker;
use super::recipe::text::{Words, as_it_is, fill, percent_encoded};
use super::recipe::{Heard, Line, Peer, Request};
use super::said::clip;
use super::stranger::{self, HTTP_SERVER};
use super::stream::{Stream, TooMuch, breathe, place, text};
use super::trust::{self, Expected};
use super::wire::KEPT_BYTES;
use target::Http;

/// What every server of HTTP understands.
pub const HELLO: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

pub struct Exchange {
    target: Http,
    connection: Option<Connection>,
    peer: Option<Peer>,
    deadline: Instant,
}

struct Answer {
    status: u16,
    heard: Heard,
}

#[async_trait(?Send)]
impl Line for Exchange {
    fn place(&self) -> String {
        place(&self.target.address)
    }

    async fn begin(&mut self, _words: &Words<'_>) -> Result<Option<Peer>, Failure> {
        self.extend();
        self.peer = self.connect().await?;
        Ok(self.peer)
    }

    fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    async fn ask(&mut self, request: &Request, words: &Words<'_>, pointer: Option<&str>) -> Result<Heard, Failure> {
        let shown = request.shown();
        let message = self.message(request, words)?;
        // Many close after each answer, or after some.
        if !self.is_open().await {
            let now = self.connect().await?;
            if now != self.peer {
                return Err(Failure::epoch_changed(&self.place()));
            }
        }
        let Some(connection) = self.connection.take() else { return Err(self.closed(&shown)) };
        let (answer, connection) =
            match timeout_at(self.deadline, connection.ask(message, async |response| read(response, pointer).await))
                .await
            {
                Ok(Ok(exchanged)) => exchanged,
                Ok(Err(error)) => {
                    let failure = self.broken(&shown, error.as_ref());
                    return Err(stranger::instead(failure, &self.target.address, HELLO, HTTP_SERVER).await);
                }
                Err(_) => return Err(self.silent(&shown)),
            };
        self.connection = connection;
        let Request::Http { status, .. } = request else { return Ok(answer.heard) };
        if status.map_or((200..300).contains(&answer.status), |status| status == answer.status) {
            return Ok(answer.heard);
        }
        let said = clip(&answer.heard.text);
        Err(Failure::refused(format!(
            "{} answers {shown} with status {}{}{said}",
            self.place(),
            answer.status,
            if said.is_empty() { "" } else { ": " }
        )))
    }
}

impl Exchange {
    #[must_use]
    pub fn new(target: Http) -> Self {
        Self { target, connection: None, peer: None, deadline: Instant::now() }
    }

    async fn connect(&mut self) -> Result<Option<Peer>, Failure> {
        self.connection = None;
        let (address, silent) = (&self.target.address, || self.silent("connecting"));
        let stream = Stream::dial("the service", address, self.deadline, silent).await?;
        if self.target.recipe.password_file.is_some() {
            trust::check(&stream, address, Expected::listener(self.target.listener))?;
        }
        let peer = Peer::of(&stream);
        let connection = Connection::over(stream).await.map_err(|_| self.closed("connecting"))?;
        self.connection = Some(connection);
        Ok(peer)
    }

    async fn is_open(&mut self) -> bool {
        match &mut self.connection {
            Some(connection) => connection.is_open().await,
            None => false,
        }
    }

    fn message(&self, request: &Request, words: &Words<'_>) -> Result<Message, Failure> {
        let Request::Http { method, path, headers, body, .. } = request else {
            return Err(Failure::unsupported("over HTTP nothing is just sent: write `get` or `post`"));
        };
        let host = match (&self.target.address, self.target.host.as_str()) {
            (Address::Unix(_), "") => "localhost",
            (Address::Tcp(address), "") => address,
            (_, host) => host,
        };
        let mut message = hyper::Request::builder()
            .method(method.as_str())
            .uri(fill(path, words, percent_encoded))
            .header(HOST, host)
            .header(USER_AGENT, "node-guardian");
        for (name, value) in self.target.headers.iter().chain(headers) {
            message = message.header(name, fill(value, words, as_it_is));
        }
        message
            .body(Full::new(Bytes::from(fill(body, words, as_it_is))))
            .map_err(|error| Failure::unsupported(format!("`{}` is not an HTTP request: {error}", request.shown())))
    }

    fn silent(&self, request: &str) -> Failure {
        Failure::timed_out(format!(
            "no whole answer from {} to {request} within {} ms: is the service stopped, or out of workers?",
            self.place(),
            DEADLINE.as_millis()
        ))
    }

    fn closed(&self, request: &str) -> Failure {
        Failure::timed_out(format!("{} was closed before {request} was answered: did it restart?", self.place()))
    }

    fn broken(&self, request: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
        if error.is::<TooLong>() || is_too_much(error) {
            return Failure::unsupported(format!(
                "{} answers {request} with over {} KiB: ask for less, or take a value by `json`",
                self.place(),
                KEPT_BYTES >> 10
            ));
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_parse() || error.is_parse_too_large()) {
            return Failure::unsupported(format!("the program on {} does not speak HTTP/1.1", self.place()));
        }
        self.closed(request)
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// More came than is kept.
#[derive(Debug)]
struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("too long an answer")
    }
}

impl std::error::Error for TooLong {}

/// As the stream says, somewhere below.
fn is_too_much(error: &(dyn std::error::Error + 'static)) -> bool {
    let below = std::iter::successors(Some(error), |error| error.source());
    below.into_iter().any(|error| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error.is::<TooMuch>() || inner.is_some_and(|inner| inner.is::<TooMuch>())
    })
}

async fn read(response: Response<Incoming>, pointer: Option<&str>) -> Result<Answer, Failed> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let (mut kept, mut picker) = (Vec::new(), pointer.map(Picker::new));
    while let Some(frame) = body.frame().await {
        // A frame may be one byte, and thousands come with one reading.
        breathe().await;
        let Ok(piece) = frame?.into_data() else { continue };
        if let Some(picker) = &mut picker {
            picker.read(&piece);
        }
        let room = KEPT_BYTES - kept.len();
        if room < piece.len() && picker.is_none() {
            return Err(TooLong.into());
        }
        kept.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    Ok(Answer { status, heard: Heard { text: text(kept), found: picker.and_then(Picker::found) } })
}
