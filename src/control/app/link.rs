//! One conversation with an application, under one deadline and with a bound on every answer: over its socket, or over
//! HTTP. The socket's connection is kept, so that a crowd of clients cannot lock the guardian out; one that failed is
//! never used again, so that a late answer cannot be taken for another's. The token is read at each request, not kept.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::{CONTENT_TYPE, HOST};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::reply::Reply;
use super::target::App;
use super::wire::{self, Hello, LINE_BYTES};
use crate::control::DEADLINE;
use crate::control::address::Address;
use crate::control::exchange::{Connection, Message, authorized};
use crate::control::failure::Failure;
use crate::control::http;
use crate::control::secret;
use crate::control::stranger;
use crate::control::stream::Stream;
use crate::control::trust::{self, Expected};
use crate::policy::mitigation::Outcome;

pub struct Link {
    target: App,
    stream: Option<Stream>,
    /// Who listens, where that can be told.
    listener: Option<i32>,
    deadline: Instant,
    last_id: u64,
}

enum Broken {
    Closed,
    Silent,
    TooLong,
    Failed(Failure),
}

impl Link {
    pub fn new(target: App) -> Self {
        Self { target, stream: None, listener: None, deadline: Instant::now(), last_id: 0 }
    }

    pub const fn target(&self) -> &App {
        &self.target
    }

    pub fn place(&self) -> String {
        match &self.target.address {
            Address::Unix(path) => path.display().to_string(),
            Address::Tcp(host) => format!("http://{host}"),
        }
    }

    /// The process that listens, where its memory can be looked at: not over HTTP, not in another pid namespace, and not
    /// where systemd listens in its place.
    pub fn pid(&self) -> Option<u32> {
        self.listener.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 1)
    }

    /// Starts a conversation.
    pub async fn begin(&mut self) -> Result<Hello, Failure> {
        self.extend();
        let agent = [("agent", concat!("node-guardian/", env!("CARGO_PKG_VERSION")).into())];
        if self.stream.is_some() {
            match self.exchange("hello", &agent).await {
                Ok(reply) => return wire::hello(reply, &self.place()),
                // It restarted, or closed an idle connection: nothing was asked of it yet.
                Err(Broken::Closed) => {}
                Err(broken) => return Err(self.failed(broken)),
            }
        }
        if matches!(self.target.address, Address::Unix(_)) {
            self.connect().await?;
        }
        wire::hello(self.ask("hello", &agent).await?, &self.place())
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    pub async fn ask(&mut self, op: &str, fields: &[(&str, Value)]) -> Result<Reply, Failure> {
        match self.exchange(op, fields).await {
            Ok(reply) => Ok(reply),
            Err(broken) => {
                let is_foreign = matches!(&broken, Broken::Closed | Broken::TooLong)
                    || matches!(&broken, Broken::Failed(failure) if failure.outcome == Outcome::Unsupported);
                let failure = self.failed(broken);
                // An application that does not speak the protocol well is one all the same.
                let is_first = op == "hello" && is_foreign;
                Err(if is_first { self.named(failure).await } else { failure })
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let stream = self.dial().await?;
        trust::check(&stream, &self.target.address, expected(&self.target))?;
        self.listener = stream.pid();
        self.stream = Some(stream);
        Ok(())
    }

    async fn dial(&self) -> Result<Stream, Failure> {
        Stream::dial("the app", &self.target.address, self.deadline, || self.failed(Broken::Silent)).await
    }

    async fn exchange(&mut self, op: &str, fields: &[(&str, Value)]) -> Result<Reply, Broken> {
        self.last_id += 1;
        let mut request = serde_json::Map::new();
        request.insert("v".to_owned(), 1.into());
        request.insert("id".to_owned(), self.last_id.into());
        request.insert("op".to_owned(), op.into());
        request.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let mut line = Value::Object(request).to_string();
        line.push('\n');
        let heard = match self.target.address.clone() {
            Address::Unix(_) => {
                let Some(mut stream) = self.stream.take() else { return Err(Broken::Closed) };
                let heard = timeout_at(self.deadline, talk(&mut stream, line.as_bytes())).await;
                let heard = heard.unwrap_or(Err(Broken::Silent))?;
                self.stream = Some(stream);
                heard
            }
            Address::Tcp(host) => {
                let token = self.target.token_file.as_deref().map(secret::token).transpose().map_err(Broken::Failed)?;
                let message = message(host, op, token.as_deref(), line).map_err(Broken::Failed)?;
                let stream = self.dial().await.map_err(Broken::Failed)?;
                if token.is_some() {
                    trust::check(&stream, &self.target.address, expected(&self.target)).map_err(Broken::Failed)?;
                }
                let posted = timeout_at(self.deadline, post(stream, message)).await;
                posted.unwrap_or(Err(Broken::Silent))?
            }
        };
        let reply = wire::reply(&heard, self.last_id, op, &self.place());
        if let Err(failure) = &reply
            && failure.outcome == Outcome::Unsupported
        {
            // What comes next on it may be anything.
            self.stream = None;
        }
        reply.map_err(Broken::Failed)
    }

    async fn named(&self, failure: Failure) -> Failure {
        let (hello, service) = match &self.target.address {
            Address::Unix(_) => (&b"{\"v\":1,\"id\":1,\"op\":\"hello\"}\n"[..], stranger::JSON_SPEAKER),
            Address::Tcp(_) => (http::HELLO, stranger::HTTP_SERVER),
        };
        stranger::instead(failure, &self.target.address, hello, service).await
    }

    fn failed(&self, broken: Broken) -> Failure {
        let place = self.place();
        match broken {
            Broken::Closed => {
                Failure::timed_out(format!("the app closed {place} in the middle of an answer: did it restart?"))
            }
            Broken::Silent => Failure::timed_out(format!(
                "no whole answer from the app on {place} within {} ms: is it stopped, or do its workers serve the \
                 control \
                 socket?",
                DEADLINE.as_millis()
            )),
            Broken::TooLong => wire::untold(&place, "anything within 64 KiB"),
            Broken::Failed(failure) => failure,
        }
    }
}

/// Else whoever may create files there, or takes the port, could pose as the application.
const fn expected(target: &App) -> Expected {
    Expected { uid: target.uid, key: "user" }
}

async fn talk(stream: &mut Stream, line: &[u8]) -> Result<Vec<u8>, Broken> {
    stream.write_all(line).await.map_err(|_| Broken::Closed)?;
    let mut heard = Vec::with_capacity(1024);
    loop {
        if heard.len() > LINE_BYTES {
            return Err(Broken::TooLong);
        }
        let seen = heard.len();
        match stream.read_buf(&mut heard).await {
            Ok(0) | Err(_) => return Err(Broken::Closed),
            Ok(_) => {}
        }
        // Only in what is new: it may come byte by byte.
        if let Some(end) = heard[seen..].iter().position(|byte| *byte == b'\n') {
            // The application never speaks first: what follows the line answers nothing.
            if seen + end + 1 != heard.len() {
                return Err(Broken::TooLong);
            }
            return Ok(heard);
        }
    }
}

fn message(host: String, op: &str, token: Option<&str>, body: String) -> Result<Message, Failure> {
    let request = Request::post(format!("/ng/v1/{op}")).header(HOST, host).header(CONTENT_TYPE, "application/json");
    let request = authorized(request, token).body(Full::new(Bytes::from(body)));
    request.map_err(|_| Failure::refused("HTTP cannot carry this token"))
}

async fn post(stream: Stream, message: Message) -> Result<Vec<u8>, Broken> {
    let connection = Connection::over(stream).await?;
    let exchanged = connection.ask(message, async |response| {
        // Each frame keeps a whole buffer of the connection, however little is in it: what is kept is copied.
        let (mut body, mut heard) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let data = frame.map_err(|_| Broken::TooLong)?.into_data().unwrap_or_default();
            if heard.len() + data.len() > LINE_BYTES {
                return Err(Broken::TooLong);
            }
            heard.extend_from_slice(&data);
        }
        Ok(heard)
    });
    exchanged.await.map(|(heard, _)| heard)
}

impl From<hyper::Error> for Broken {
    fn from(_: hyper::Error) -> Self {
        Self::Closed
    }
}
