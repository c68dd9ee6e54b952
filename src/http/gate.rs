//! Who may ask what. Over the admin socket: everything to read, and to change for root, our own user and the group
//! `node-guardian`. Over TCP on loopback: everything to read. Over TCP elsewhere: `/livez` and `/readyz`. The bearer
//! token of `http.token_file` opens everything over TCP.
//!
//! On loopback the `Host` must be an address or a name of this machine: a web page that resolves its own name to
//! 127.0.0.1 would otherwise read the node through the browser of whoever visits it. Containers of one pod and tunnels
//! ask for `localhost`, and a proxy in front can send the token or set the header.

use std::hint::black_box;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HOST, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use nix::unistd::Gid;

use super::guesses::{Ends, Guesses};
use super::problem::Problem;
use super::routes::{self, Access};
use super::via::Via;
use crate::config::settings;
use crate::control::secret;
use crate::events::Daemon;
use crate::inbox::{Door, Message};

/// At one guess a second, six letters and digits take a lifetime.
const SHORTEST_TOKEN: usize = 6;
const MAKE: &str = "make one with: openssl rand -hex 16";

#[derive(Debug)]
pub struct Gate {
    reach: Reach,
    socket: PathBuf,
    token_file: Option<PathBuf>,
    group: Option<Gid>,
    guesses: Guesses,
    door: Door,
}

/// Who can connect over TCP at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    ThisMachine,
    OtherMachines,
}

impl Gate {
    #[must_use]
    pub fn new(settings: &settings::Http, group: Option<Gid>, door: Door) -> Self {
        let local = settings.listen.is_none_or(|address| address.ip().is_loopback());
        Self {
            reach: if local { Reach::ThisMachine } else { Reach::OtherMachines },
            socket: settings.socket.clone(),
            token_file: settings.token_file.clone(),
            group,
            guesses: Guesses::default(),
            door,
        }
    }

    pub fn admit<B>(&self, via: &Via, request: &Request<B>) -> Result<(), Problem> {
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        match via {
            Via::Admin(peer) if !changes || peer.may_change(self.group) => Ok(()),
            Via::Admin(_) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "changing things needs root or membership of the group node-guardian",
            )),
            Via::Tcp(ends) if changes => self.check_token(*ends, request),
            Via::Tcp(ends) => match self.reach {
                Reach::OtherMachines if routes::is(request.uri().path(), &[Access::Probe]) => Ok(()),
                Reach::OtherMachines => self.check_token(*ends, request),
                Reach::ThisMachine if is_local(request) => Ok(()),
                Reach::ThisMachine => self.check_token(*ends, request).map_err(|_| {
                    Problem::new(
                        StatusCode::MISDIRECTED_REQUEST,
                        "this address answers to localhost only; ask for localhost, or send the token of http.token_file",
                    )
                }),
            },
        }
    }

    fn check_token<B>(&self, ends: Ends, request: &Request<B>) -> Result<(), Problem> {
        let Some(file) = &self.token_file else {
            let socket = self.socket.display();
            let detail = format!("over TCP this needs a token: set http.token_file, or use the admin socket {socket}");
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let given =
            given.ok_or_else(|| unauthorized("send the token of http.token_file: Authorization: Bearer ..."))?;
        if let Some(wait) = self.guesses.wait(ends) {
            return Err(too_many(wait));
        }
        let wanted = long_token(file).map_err(|why| Problem::new(StatusCode::SERVICE_UNAVAILABLE, why))?;
        if same(given.as_bytes(), wanted.as_bytes()) {
            return Ok(());
        }
        if let Some(why) = self.guesses.wrong(ends) {
            let what = "http.token_file".to_owned();
            // A loop that has ended needs no news.
            let _heard = self.door.tell(Message::Record(Daemon::Degraded { what, why }));
        }
        Err(unauthorized("this is not the token"))
    }
}

fn unauthorized(detail: &str) -> Problem {
    let challenge = HeaderValue::from_static("Bearer realm=\"node-guardian\"");
    Problem::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, challenge)
}

fn too_many(wait: Duration) -> Problem {
    let seconds = wait.as_secs() + 1;
    let detail = format!("too many wrong tokens came from you; try again in {seconds} s, or use the admin socket");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).with(RETRY_AFTER, HeaderValue::from(seconds))
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn long_token(file: &Path) -> Result<String, String> {
    let token = secret::token(file).map_err(|failure| failure.detail)?;
    let shown = file.display();
    match token.chars().count() {
        0 => Err(format!("the token file {shown} is empty; {MAKE} > {shown}")),
        1..SHORTEST_TOKEN => Err(format!(
            "the token in {shown} has fewer than {SHORTEST_TOKEN} characters, which can be guessed; {MAKE} > {shown}"
        )),
        _ => Ok(token),
    }
}

/// Takes as long for a wrong token as for the right one.
fn same(given: &[u8], wanted: &[u8]) -> bool {
    let mut difference = given.len() ^ wanted.len();
    for (at, byte) in given.iter().enumerate() {
        difference |= usize::from(byte ^ wanted[at % wanted.len()]);
    }
    black_box(difference) == 0
}

fn is_local<B>(request: &Request<B>) -> bool {
    let host = request.uri().authority().map(|authority| authority.as_str());
    let host = host.or_else(|| request.headers().get(HOST).map(|value| value.to_str().unwrap_or("?")));
    // HTTP/1.0 needs no Host, and no browser speaks it.
    host.is_none_or(is_local_name)
}

fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name.is_empty() || name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in ["localhost", "LOCALHOST:9977", "127.0.0.1:9977", "[::1]:9977", "10.0.0.7", "a.localhost", ""] {
            assert!(is_local_name(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9977", "127.0.0.1.nip.io", "?"] {
            assert!(!is_local_name(host), "{host}");
        }
    }

    #[test]
    fn a_token_is_compared_whole() {
        assert!(same(b"secret", b"secret"));
        for wrong in ["", "s", "secre", "secreT", "secrets", "secretsecret"] {
            assert!(!same(wrong.as_bytes(), b"secret"), "{wrong}");
        }
    }
}
