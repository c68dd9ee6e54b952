//! Asking the daemon: over its admin socket, and over TCP only with an address, since any user may listen on a port.
//! One request, one bounded answer, one deadline.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{Reach, code, listener, run};
use crate::control::address::Address;
use crate::control::exchange::{Connection, authorized};
use crate::control::secret;
use crate::control::stream::Stream;
use crate::http::shape::Kept;
use crate::plain;

const DEFAULT_SOCKET: &str = "/run/node-guardian/admin.sock";

const DEADLINE: Duration = Duration::from_secs(5);
/// The whole trail is 300 kB.
const MOST_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub enum Failure {
    /// Nobody answers; with what to try.
    Unreachable(String),
    /// An answer that is a refusal, in the daemon's own words.
    Refused(String),
}

impl Failure {
    /// Tells it and gives the exit code.
    pub fn complain(&self) -> u8 {
        match self {
            Failure::Unreachable(sentence) => super::complain(sentence, code::UNREACHABLE),
            Failure::Refused(sentence) => super::complain(sentence, code::NOT_WELL),
        }
    }
}

/// The body of a request about these, or about all where none is named.
pub fn about<T: Serialize>(list: &str, these: &[T], mut request: Value) -> String {
    if !these.is_empty() {
        request[list] = json!(these);
    }
    request.to_string()
}

/// The order is done, so this is no failure; but whoever relies on it must know.
pub fn warn(kept: &Kept) {
    // One that says nothing is of a daemon that does not know yet, just before it is started anew.
    if !kept.detail.is_empty() {
        eprintln!("node-guardian: {}", kept.detail);
    }
}

#[derive(Debug)]
pub struct Client {
    ways: Vec<Way>,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Clone, Debug)]
enum Way {
    Socket(PathBuf),
    Tcp { authority: String },
}

impl Way {
    fn name(&self) -> String {
        match self {
            Way::Socket(path) => path.display().to_string(),
            Way::Tcp { authority } => format!("http://{authority}"),
        }
    }
}

type Broken = Box<dyn std::error::Error + Send + Sync>;

struct Answer {
    status: u16,
    body: Bytes,
    /// The way that was tried first, and why it was not taken: that may be what a refusal is about.
    closed_before: Option<String>,
}

impl Client {
    pub fn new(reach: &Reach) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Unreachable(format!("cannot start: {error}")))?;
        let token = reach.token_file.as_deref().map(secret::token).transpose();
        let token = token.map_err(|failure| Failure::Unreachable(failure.detail))?;
        Ok(Self { ways: ways(reach)?, token, runtime })
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(&Method::GET, path, String::new())
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, Failure> {
        self.ask(&Method::POST, path, body)
    }

    /// Whether the answer is a yes, whatever its words.
    pub fn probe(&self, path: &str) -> Result<(), Failure> {
        self.accepted(&Method::GET, path, "").map(drop)
    }

    fn accepted(&self, method: &Method, path: &str, body: &str) -> Result<Answer, Failure> {
        let answer = self.runtime.block_on(self.first_answer(method, path, body))?;
        if answer.status >= 400 {
            let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let detail = plain::lines(problem["detail"].as_str().unwrap_or("it did not say why")).into_owned();
            let before = answer.closed_before.map_or_else(String::new, |closed| format!("; {closed}"));
            return Err(Failure::Refused(format!("{method} {path} was refused ({}): {detail}{before}", answer.status)));
        }
        Ok(answer)
    }

    fn ask<T: DeserializeOwned>(&self, method: &Method, path: &str, body: String) -> Result<T, Failure> {
        let answer = self.accepted(method, path, &body)?;
        let read = serde_json::from_slice(&answer.body).and_then(|mut read| {
            make_plain(&mut read);
            serde_json::from_value(read)
        });
        read.map_err(|error| {
            Failure::Refused(format!("the answer to {path} cannot be read ({error}); is that a node-guardian?"))
        })
    }

    async fn first_answer(&self, method: &Method, path: &str, body: &str) -> Result<Answer, Failure> {
        let mut reasons = Vec::new();
        for way in &self.ways {
            match timeout(DEADLINE, self.exchange(way, method, path, body)).await {
                Ok(Ok(answer)) => return Ok(Answer { closed_before: reasons.pop(), ..answer }),
                Ok(Err(error)) => reasons.push(format!("{}: {}", way.name(), reason(&error))),
                Err(_) => reasons.push(format!("{}: no answer within 5 s", way.name())),
            }
        }
        Err(Failure::Unreachable(format!("nobody answers at {}; {}", reasons.join(", nor at "), self.advice())))
    }

    /// A port that answers is no proof of who it is, so that is for whoever asks to decide.
    fn advice(&self) -> &'static str {
        if self.ways.iter().any(|way| matches!(way, Way::Tcp { .. })) {
            "is it running (systemctl status node-guardian)?"
        } else {
            "is it running (systemctl status node-guardian)? Its log says why it has no admin socket (journalctl -u \
             node-guardian). Elsewhere: --socket PATH, or --url http://127.0.0.1:9977, which asks any listener there"
        }
    }

    async fn exchange(&self, way: &Way, method: &Method, path: &str, body: &str) -> Result<Answer, Error> {
        let (host, address, token) = match way {
            Way::Socket(path) => ("localhost", Address::Unix(path.clone()), None),
            Way::Tcp { authority } => (authority.as_str(), Address::Tcp(authority.clone()), self.token.as_deref()),
        };
        let request =
            Request::builder().method(method).uri(path).header(HOST, host).header(CONTENT_TYPE, "application/json");
        let message = authorized(request, token).body(Full::new(Bytes::from(body.to_owned()))).map_err(Error::other)?;
        let stream = Stream::connect(&address).await?;
        if let Way::Socket(path) = way {
            listener::check(stream.uid(), path)?;
        }
        let exchanged = Connection::over(stream).await.map_err(Error::other)?.ask(message, async |response| {
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await?;
            Ok::<_, Broken>(Answer { status, body: body.to_bytes(), closed_before: None })
        });
        exchanged.await.map(|(answer, _)| answer).map_err(Error::other)
    }
}

/// Whoever answers, what a terminal would obey is not printed.
fn make_plain(answer: &mut Value) {
    match answer {
        Value::String(text) => *text = plain::lines(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(make_plain),
        Value::Object(fields) => fields.values_mut().for_each(make_plain),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What was named; else the usual socket, and behind it that of a guardian of our own.
fn ways(reach: &Reach) -> Result<Vec<Way>, Failure> {
    let tcp = |url: &str| authority(url).map(|authority| Way::Tcp { authority });
    let socket = |path: &Path| Way::Socket(path.to_owned());
    Ok(match (&reach.socket, &reach.url) {
        (Some(path), Some(url)) => vec![socket(path), tcp(url)?],
        (Some(path), None) => vec![socket(path)],
        (None, Some(url)) => vec![tcp(url)?],
        (None, None) => {
            let own = run::own_socket().map(Way::Socket);
            [socket(Path::new(DEFAULT_SOCKET))].into_iter().chain(own).collect()
        }
    })
}

fn authority(url: &str) -> Result<String, Failure> {
    let rest = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
    let rest = rest.filter(|rest| !rest.is_empty() && !rest.contains(['/', '@', '?']));
    let Some(rest) = rest else {
        return Err(Failure::Unreachable(format!("{url:?} is not an address; expected http://HOST:PORT")));
    };
    let has_port = rest.rsplit(':').next().is_some_and(|port| !port.is_empty() && port.parse::<u16>().is_ok());
    Ok(if has_port && rest.contains(':') { rest.to_owned() } else { format!("{rest}:80") })
}

fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such socket".to_owned(),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::PermissionDenied => {
            "permission denied (be root, or in the group node-guardian: `gpasswd -a NAME node-guardian` as root, then \
             log in again)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        let read = |url| authority(url).ok();
        assert_eq!(read("http://127.0.0.1:9977/"), Some("127.0.0.1:9977".to_owned()));
        assert_eq!(read("http://[::1]:9977"), Some("[::1]:9977".to_owned()));
        assert_eq!(read("http://node"), Some("node:80".to_owned()));
        for wrong in ["https://node", "node:9977", "http://", "http://node/metrics", "http://a@b"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
