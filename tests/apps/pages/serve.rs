//! How the protocol is spoken: over a socket line by line, and over HTTP. One thread for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::json;

use super::Pages;
use super::control::{Client, Control};

const LINE_BYTES: usize = 65_536;
/// Of a request's head.
const HEAD_BYTES: u64 = 16_384;

pub fn lines(listener: &UnixListener, control: &Arc<Control>, allow: &[u32]) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
    for stream in listener.incoming().flatten() {
        let user = getsockopt(&stream, PeerCredentials).map(|peer| peer.uid());
        let is_allowed = user.is_ok_and(|user| allow.contains(&user));
        let connection = CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        let control = Arc::clone(control);
        thread::spawn(move || {
            let client = Client { is_allowed, connection: Some(connection) };
            // Whoever hung up needs no answer.
            converse(&stream, &control, client).ok();
            control.connection_closed(connection);
        });
    }
}

fn converse(stream: &UnixStream, control: &Control, client: Client) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        reader.by_ref().take(LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        let fits = line.len() <= LINE_BYTES;
        if line.is_empty() {
            return Ok(());
        }
        let (reply, _) = control.answer(if fits { &line } else { b"" }, client, None);
        writeln!(&*stream, "{reply}")?;
        if !fits {
            return Ok(());
        }
    }
}

pub fn web(listener: &TcpListener, control: &Arc<Control>, pages: &Arc<Pages>, token: &str) {
    for stream in listener.incoming().flatten() {
        let (control, pages, token) = (Arc::clone(control), Arc::clone(pages), token.to_owned());
        // Whoever hung up needs no answer.
        thread::spawn(move || visit(&stream, &control, &pages, &token).ok());
    }
}

fn visit(stream: &TcpStream, control: &Control, pages: &Pages, token: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.by_ref().take(HEAD_BYTES).read_line(&mut head)? == 0 || head.len() as u64 > HEAD_BYTES {
            return Ok(());
        }
    }
    let header = |name: &str| head.lines().find_map(|line| value(line, name)).unwrap_or_default();
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (method, path, path.strip_prefix("/ng/v1/")) {
        ("POST", _, Some(op)) => {
            let length: usize = header("content-length").parse().unwrap_or(0);
            let mut body = Vec::new();
            reader.take(length.min(LINE_BYTES + 1) as u64).read_to_end(&mut body)?;
            body.truncate(if length > LINE_BYTES { 0 } else { length });
            let is_allowed = !token.is_empty() && same(header("authorization"), &format!("Bearer {token}"));
            let (reply, error) = control.answer(&body, Client { is_allowed, connection: None }, Some(op));
            send(stream, error.map_or(200, status), "", &reply.to_string())
        }
        ("GET", "/health", _) => send(stream, 200, "", &json!({"level": control.effective()}).to_string()),
        ("GET", path, _) => match pages.visit(path, control.effective()) {
            Some(bytes) => send(stream, 200, "", &json!({"bytes": bytes}).to_string()),
            None => send(stream, 503, "Retry-After: 5\r\n", r#"{"error":"too much to do"}"#),
        },
        _ => send(stream, 404, "", r#"{"error":"there is nothing"}"#),
    }
}

fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once(':')?;
    key.eq_ignore_ascii_case(name).then_some(value.trim())
}

/// Takes as long wherever they differ.
fn same(given: &str, wanted: &str) -> bool {
    let differ = given.bytes().zip(wanted.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
    differ == 0 && given.len() == wanted.len()
}

fn status(code: &str) -> u16 {
    match code {
        "denied" => 403,
        "unknown_op" => 404,
        "busy" => 503,
        _ => 400,
    }
}

fn send(mut stream: &TcpStream, status: u16, header: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = "Content-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "HTTP/1.1 {status} \r\n{head}{header}Content-Length: {length}\r\n\r\n{body}")
}
