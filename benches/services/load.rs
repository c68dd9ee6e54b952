//! Load from wrk, and beside it a few clients of our own that time each answer by its status: wrk counts statuses and
//! times all answers together, so it cannot tell how long those took that were served.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::table::quantile;

const CONNECTIONS: usize = 40;
/// Of these, one request a 2 ms at most, so that they add little.
const CLIENTS: usize = 4;
/// At a time, at most.
pub const ALL: usize = CONNECTIONS + CLIENTS;
const PAUSE: Duration = Duration::from_millis(2);
const SECONDS: u64 = 5;
/// What was on its way before a change is answered as before it.
const SETTLE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);
const SCRIPT: &str = include_str!("summary.lua");

pub struct Measured {
    pub per_second: f64,
    /// By wrk's count.
    pub refused_percent: f64,
    /// Reset or never made, by wrk and by our clients.
    pub broken: f64,
    pub timeouts: f64,
    /// In milliseconds, of our clients.
    pub served: Vec<f64>,
    pub refused: Vec<f64>,
}

impl Measured {
    pub fn served_at(&self, share: f64) -> f64 {
        quantile(&self.served, share)
    }
}

#[derive(Default)]
struct Timed {
    served: Vec<f64>,
    refused: Vec<f64>,
    broken: usize,
}

pub fn measure(port: u16) -> Result<Measured, String> {
    std::thread::sleep(SETTLE);
    let over = Arc::new(AtomicBool::new(false));
    let client = |_| {
        let over = Arc::clone(&over);
        std::thread::spawn(move || Timed::until(&over, port))
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let counted = wrk(port);
    over.store(true, Ordering::Relaxed);
    let mut timed = Timed::default();
    for client in clients {
        let part = client.join().map_err(|_| "a client of the bench panicked".to_owned())?;
        timed.served.extend(part.served);
        timed.refused.extend(part.refused);
        timed.broken += part.broken;
    }
    let [requests, seconds, refused, broken, timeouts] = counted?;
    if requests == 0.0 {
        return Err("wrk got no answer at all".to_owned());
    }
    Ok(Measured {
        per_second: requests / seconds,
        refused_percent: refused * 100.0 / requests,
        broken: broken + timed.broken as f64,
        timeouts,
        served: timed.served,
        refused: timed.refused,
    })
}

fn wrk(port: u16) -> Result<[f64; 5], String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let script = folder.path().join("summary.lua");
    std::fs::write(&script, SCRIPT).map_err(|error| format!("cannot write {}: {error}", script.display()))?;
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), "-s"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{port}/"))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("summary "));
    let numbers: Vec<f64> = line.unwrap_or_default().split(' ').filter_map(|word| word.parse().ok()).collect();
    numbers
        .try_into()
        .map_err(|_| format!("wrk said nothing of use: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

impl Timed {
    fn until(over: &AtomicBool, port: u16) -> Self {
        let mut timed = Self::default();
        let mut connection = None;
        while !over.load(Ordering::Relaxed) {
            let Some(mut open) = connection.take().or_else(|| Connection::open(port)) else {
                timed.broken += 1;
                std::thread::sleep(PAUSE);
                continue;
            };
            let asked = Instant::now();
            let Some((status, stays)) = open.ask() else {
                timed.broken += 1;
                continue;
            };
            let took = asked.elapsed().as_secs_f64() * 1e3;
            if status == 200 {
                timed.served.push(took)
            } else {
                timed.refused.push(took)
            }
            connection = stays.then_some(open);
            std::thread::sleep(PAUSE);
        }
        timed
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(port: u16) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    /// The status, and whether the connection stays open.
    fn ask(&mut self) -> Option<(u16, bool)> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let (mut length, mut stays) = (0, true);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().ok()?;
            }
            stays &= line != "connection: close";
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).ok()?;
        Some((status, stays))
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.0.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
    }
}
