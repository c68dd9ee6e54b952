//! The client that measures: every 50 ms a checkout on a new connection, whether or not the earlier ones were answered.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::record::Record;

const PACE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);
/// Each of them asks every 1.2 s, which is longer than it ever waits.
const ASKERS: u32 = 24;
const REQUEST: &[u8] = b"GET /checkout HTTP/1.1\r\nHost: town\r\nConnection: close\r\n\r\n";

#[derive(Clone, Copy)]
struct Asked {
    /// Since the client started.
    at: Duration,
    /// Nothing where it was not answered with 200 in time.
    took: Option<Duration>,
}

pub struct Client {
    start: Instant,
    askers: Vec<JoinHandle<Vec<Asked>>>,
}

pub struct Answers(Vec<Asked>);

pub fn answers() -> bool {
    ask(Instant::now()).is_some()
}

impl Client {
    pub fn start(length: Duration) -> Self {
        let start = Instant::now() + Duration::from_millis(100);
        let asker = |number| {
            let work = move || ask_in_turn(start, number, length);
            thread::Builder::new().stack_size(64 << 10).spawn(work).ok()
        };
        Self { start, askers: (0..ASKERS).filter_map(asker).collect() }
    }

    pub fn sleep_until(&self, time: Duration) {
        thread::sleep((self.start + time).saturating_duration_since(Instant::now()));
    }

    pub fn finish(self) -> Outcome<Answers> {
        if self.askers.len() != ASKERS as usize {
            return Err("the measuring client could not start all its threads".to_owned());
        }
        let mut all = Vec::new();
        for asker in self.askers {
            all.extend(asker.join().map_err(|_| "the measuring client failed".to_owned())?);
        }
        all.sort_by_key(|asked: &Asked| asked.at);
        Ok(Answers(all))
    }
}

fn ask_in_turn(start: Instant, number: u32, length: Duration) -> Vec<Asked> {
    let mut asked = Vec::with_capacity(64);
    for turn in (number..).step_by(ASKERS as usize) {
        let at = PACE * turn;
        if at >= length {
            break;
        }
        thread::sleep((start + at).saturating_duration_since(Instant::now()));
        asked.push(Asked { at, took: ask(start + at) });
    }
    asked
}

/// How long after its due time a good answer was there.
fn ask(due: Instant) -> Option<Duration> {
    let left = || PATIENCE.checked_sub(due.elapsed()).filter(|left| !left.is_zero());
    let proxy = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut stream = TcpStream::connect_timeout(&proxy, left()?).ok()?;
    stream.write_all(REQUEST).ok()?;
    let mut answer = [0; 512];
    let mut length = 0;
    loop {
        stream.set_read_timeout(Some(left()?)).ok()?;
        match stream.read(answer.get_mut(length..).filter(|rest| !rest.is_empty())?).ok()? {
            0 => break,
            more => length += more,
        }
    }
    let good = answer[..length].starts_with(b"HTTP/1.1 200 ");
    good.then(|| due.elapsed()).filter(|took| *took <= PATIENCE)
}

impl Answers {
    pub fn record(&self, calm: Duration) -> Record {
        let (before, during): (Vec<Asked>, Vec<Asked>) = self.0.iter().partition(|asked| asked.at < calm);
        Record {
            asked: during.len(),
            answered: during.iter().filter(|asked| asked.took.is_some()).count(),
            p50_ms: percentile(&during, 0.50),
            p99_ms: percentile(&during, 0.99),
            outage_ms: outage(&during).as_secs_f64() * 1000.0,
            calm_p50_ms: percentile(&before, 0.50),
            ..Record::default()
        }
    }
}

/// Of all requests; one without an answer took as long as the client waits.
fn percentile(asked: &[Asked], share: f64) -> f64 {
    let mut times: Vec<Duration> = asked.iter().map(|asked| asked.took.unwrap_or(PATIENCE)).collect();
    times.sort_unstable();
    let at = (times.len() as f64 * share).ceil() as usize;
    times.get(at.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// The longest row of requests without an answer, as time.
fn outage(asked: &[Asked]) -> Duration {
    let (mut longest, mut row) = (0, 0);
    for one in asked {
        row = if one.took.is_some() { 0 } else { row + 1 };
        longest = longest.max(row);
    }
    PACE * longest
}
