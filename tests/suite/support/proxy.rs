//! A go-between on a unix socket that sees every request before the server does and every answer before the client
//! does. What it is told may take its time, kill somebody first, or cut the line: so an action can be interrupted at
//! each of its messages.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// On its way to the server.
    Request,
    /// On its way back.
    Answer,
}

/// One whole request or answer.
pub struct Passing<'a> {
    /// Counts requests and answers over all connections, from 0.
    pub number: usize,
    pub way: Way,
    pub bytes: &'a [u8],
}

impl Passing<'_> {
    pub fn says(&self, text: &str) -> bool {
        String::from_utf8_lossy(self.bytes).contains(text)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Pass,
    /// Both sides are hung up on, and this is never delivered.
    Cut,
    /// Half of it is delivered, and then nothing more.
    Half,
    /// This is delivered in its place.
    Say(&'static str),
}

/// How to tell where an answer ends.
#[derive(Clone, Copy)]
pub enum Protocol {
    Haproxy,
    Memcached,
    Redis,
}

type Watcher = Box<dyn FnMut(&Passing<'_>) -> Verdict + Send>;

/// Listens on `front` until the test's process ends, and passes on to `back`, which is connected to anew for each client.
pub fn start(
    front: &Path,
    back: &Path,
    protocol: Protocol,
    watcher: impl FnMut(&Passing<'_>) -> Verdict + Send + 'static,
) {
    let listener = UnixListener::bind(front).unwrap();
    let back = back.to_owned();
    let shared: Arc<Mutex<(usize, Watcher)>> = Arc::new(Mutex::new((0, Box::new(watcher))));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (back, shared) = (back.clone(), Arc::clone(&shared));
            std::thread::spawn(move || carry(client, back, protocol, &shared));
        }
    });
}

/// Ends when either side hangs up.
fn carry(mut client: UnixStream, back: PathBuf, protocol: Protocol, shared: &Mutex<(usize, Watcher)>) -> Option<()> {
    let mut server = UnixStream::connect(back).ok()?;
    loop {
        let request = whole(&mut client, |bytes| protocol.request_is_whole(bytes))?;
        deliver(&mut server, shared, Way::Request, &request)?;
        let answer = whole(&mut server, |bytes| protocol.answer_is_whole(bytes))?;
        deliver(&mut client, shared, Way::Answer, &answer)?;
    }
}

fn deliver(to: &mut UnixStream, shared: &Mutex<(usize, Watcher)>, way: Way, bytes: &[u8]) -> Option<()> {
    let verdict = {
        let (number, watcher) = &mut *shared.lock().unwrap();
        let passing = Passing { number: *number, way, bytes };
        *number += 1;
        watcher(&passing)
    };
    match verdict {
        Verdict::Pass => to.write_all(bytes).ok(),
        Verdict::Say(text) => to.write_all(text.as_bytes()).ok(),
        Verdict::Cut => None,
        Verdict::Half => {
            to.write_all(&bytes[..bytes.len() / 2]).ok()?;
            // Longer than anybody's patience.
            std::thread::sleep(Duration::from_secs(60));
            None
        }
    }
}

fn whole(from: &mut UnixStream, is_whole: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16384];
    while !is_whole(&bytes) {
        match from.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
    Some(bytes)
}

impl Protocol {
    fn request_is_whole(self, bytes: &[u8]) -> bool {
        match self {
            Protocol::Haproxy | Protocol::Memcached => bytes.ends_with(b"\n"),
            Protocol::Redis => resp_end(bytes) == Some(bytes.len()),
        }
    }

    fn answer_is_whole(self, bytes: &[u8]) -> bool {
        match self {
            Protocol::Haproxy => bytes.ends_with(b"\n> "),
            Protocol::Memcached if bytes.starts_with(b"STAT ") => bytes.ends_with(b"END\r\n"),
            Protocol::Memcached => bytes.ends_with(b"\r\n"),
            Protocol::Redis => resp_end(bytes) == Some(bytes.len()),
        }
    }
}

/// Where the first value of Redis's protocol ends.
fn resp_end(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let number: i64 = std::str::from_utf8(bytes.get(1..line)?).ok().and_then(|text| text.parse().ok()).unwrap_or(-1);
    let mut end = line + 2;
    match bytes[0] {
        b'$' if number >= 0 => end += number as usize + 2,
        b'*' => {
            for _ in 0..number.max(0) {
                end += resp_end(bytes.get(end..)?)?;
            }
        }
        _ => {}
    }
    (end <= bytes.len()).then_some(end)
}
