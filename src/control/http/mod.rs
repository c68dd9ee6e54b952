//! Anything that is told what to do over HTTP: requests and what their answers must say are the operator's recipe. A
//! connection lasts for one conversation; every answer is bounded in size and time.

pub mod target;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::DEADLINE;
use super::failure::Failure;
use super::recipe::stream::{Stream, shown};
use super::recipe::text::{Words, as_it_is, fill, percent_encoded};
use super::recipe::{Line, Peer, Request};
use super::target::Address;
use target::Http;

/// Envoy's `/config_dump` of a small mesh has 300 kB.
const ANSWER_BYTES: usize = 1 << 20;

type Driver = Pin<Box<dyn Future<Output = ()>>>;

pub struct Exchange {
    target: Http,
    connection: Option<Connection>,
    peer: Option<Peer>,
    deadline: Instant,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Must be polled for anything to move.
    driver: Driver,
}

struct Answer {
    status: u16,
    body: Bytes,
}

#[async_trait(?Send)]
impl Line for Exchange {
    fn place(&self) -> String {
        shown(&self.target.address)
    }

    async fn begin(&mut self, _words: &Words<'_>) -> Result<Option<Peer>, Failure> {
        self.extend();
        self.peer = self.connect().await?;
        Ok(self.peer)
    }

    fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    async fn ask(&mut self, request: &Request, words: &Words<'_>) -> Result<String, Failure> {
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
        let (answer, connection) = match timeout_at(self.deadline, exchange(connection, message)).await {
            Ok(Ok(exchanged)) => exchanged,
            Ok(Err(error)) => return Err(self.broken(&shown, error.as_ref())),
            Err(_) => return Err(self.silent(&shown)),
        };
        self.connection = connection;
        let body = String::from_utf8_lossy(&answer.body);
        let Request::Http { status, .. } = request else { return Ok(body.into_owned()) };
        if status.map_or((200..300).contains(&answer.status), |status| status == answer.status) {
            return Ok(body.into_owned());
        }
        let said: String = body.trim().chars().take_while(|c| !c.is_control()).take(120).collect();
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
        let dialled = async {
            let stream = Stream::dial(&self.target.address).await?;
            let peer = stream.peer();
            let made = http1::handshake(TokioIo::new(stream.boxed())).await;
            let (sender, connection) = made.map_err(|_| self.closed("connecting"))?;
            // What ended it is told to whoever waits for an answer.
            let driver: Driver = Box::pin(async { drop(connection.await) });
            Ok((peer, Connection { sender, driver }))
        };
        let (peer, connection) = match timeout_at(self.deadline, dialled).await {
            Ok(connected) => connected?,
            Err(_) => return Err(self.silent("connecting")),
        };
        self.connection = Some(connection);
        Ok(peer)
    }

    async fn is_open(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let is_over = poll_fn(|context| Poll::Ready(connection.driver.as_mut().poll(context).is_ready())).await;
        !is_over && !connection.sender.is_closed()
    }

    fn message(&self, request: &Request, words: &Words<'_>) -> Result<hyper::Request<Full<Bytes>>, Failure> {
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
            .map_err(|error| Failure::unsupported(format!("`{}` is no request over HTTP: {error}", request.shown())))
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
        if error.is::<http_body_util::LengthLimitError>() {
            return Failure::unsupported(format!(
                "{} answers {request} with over {ANSWER_BYTES} bytes: ask for less",
                self.place()
            ));
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Failure::unsupported(format!("what answers on {} does not speak HTTP/1.1", self.place()));
        }
        self.closed(request)
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// The connection comes back where it can be used again.
async fn exchange(
    Connection { mut sender, mut driver }: Connection,
    message: hyper::Request<Full<Bytes>>,
) -> Result<(Answer, Option<Connection>), Failed> {
    let (answer, is_over) = {
        let mut exchange = std::pin::pin!(ask(&mut sender, message));
        tokio::select! {
            answer = &mut exchange => (answer?, false),
            // The connection may be over before the answer is taken out of it.
            () = &mut driver => (exchange.await?, true),
        }
    };
    Ok((answer, (!is_over).then_some(Connection { sender, driver })))
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, message: hyper::Request<Full<Bytes>>) -> Result<Answer, Failed> {
    sender.ready().await?;
    let response = sender.send_request(message).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
    Ok(Answer { status, body })
}
