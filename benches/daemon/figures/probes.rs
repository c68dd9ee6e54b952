//! How late a probe is answered while others do their worst over HTTP, each attack for some seconds, and what that takes of a
//! core. A probe connects anew each time, as a kubelet does, and is lost where it is not answered with 200 within a second.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use super::CALM;
use crate::Figures;
use crate::daemon::Daemon;
use crate::process::Process;
use crate::table::{Row, Unit, quantile};

const LASTS: Duration = Duration::from_secs(6);
/// Until all of them are connected.
const SETTLED: Duration = Duration::from_secs(1);
/// 1,000 probes in all of the attacks.
const PROBE_EVERY: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(1);
/// As many as the port has.
const STREAMS: usize = 8;

struct Attack {
    name: &'static str,
    with: With,
}

enum With {
    /// wrk, with so many connections, this path and these arguments.
    Wrk(&'static str, &'static str, &'static [&'static str]),
    Streams,
}

/// Fifty requests at once, and again as soon as they are answered.
const PIPELINE: &str = "
init = function(args)
    local one = wrk.format('GET')
    many = string.rep(one, 50)
end
request = function() return many end
";
const PIPELINE_FILE: &str = "SCRIPT";
const ANEW: &[&str] = &["-H", "Connection: close"];

const ATTACKS: [Attack; 6] = [
    Attack { name: "60 pipeline /status", with: With::Wrk("60", "/status", &["-s", PIPELINE_FILE]) },
    Attack { name: "60 pipeline /livez", with: With::Wrk("60", "/livez", &["-s", PIPELINE_FILE]) },
    Attack { name: "64 connect anew for /livez", with: With::Wrk("64", "/livez", ANEW) },
    Attack { name: "64 connect anew for /health", with: With::Wrk("64", "/health", ANEW) },
    Attack { name: "8 event streams", with: With::Streams },
    Attack { name: "200 read /status", with: With::Wrk("200", "/status", &[]) },
];

pub fn measure() -> Figures {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let script = folder.path().join("pipeline.lua");
    std::fs::write(&script, PIPELINE).map_err(|error| error.to_string())?;
    let daemon = Daemon::start(CALM)?;
    let (mut rows, mut lost, mut probes) = (Vec::new(), 0, 0);
    for Attack { name, with } in &ATTACKS {
        let _attackers = attack(with, &daemon, &script.to_string_lossy())?;
        sleep(SETTLED);
        let (computed, began) = (daemon.process.cpu_seconds(), Instant::now());
        let mut took = Vec::new();
        while began.elapsed() < LASTS {
            let started = Instant::now();
            match probe(daemon.port) {
                Some(answered) => took.push(answered.as_secs_f64() * 1e3),
                None => lost += 1,
            }
            probes += 1;
            sleep(PROBE_EVERY.saturating_sub(started.elapsed()));
        }
        let share = (daemon.process.cpu_seconds() - computed) / began.elapsed().as_secs_f64();
        let (half, most) = (quantile(&took, 0.5), quantile(&took, 1.0));
        rows.push(
            Row::new(format!("/livez while {name}, p99"), quantile(&took, 0.99), Unit::Milliseconds)
                .at_most(100.0, 20.0)
                .next_to(format!("p50 {half:.2}, most {most:.2} ms; {:.0} % of a core", share * 100.0)),
        );
    }
    daemon.stop()?;
    rows.push(
        Row::new("probes lost in all of these", f64::from(lost), Unit::Count)
            .at_most(0.0, None)
            .next_to(format!("of {probes}")),
    );
    Ok(rows)
}

/// Lasts until it is dropped, or for as long as the probes go on.
enum Attackers {
    Wrk(#[expect(dead_code, reason = "ends with it")] Process),
    Streams { enough: Arc<AtomicBool>, readers: Vec<JoinHandle<()>> },
}

impl Drop for Attackers {
    fn drop(&mut self) {
        if let Self::Streams { enough, readers } = self {
            enough.store(true, Ordering::SeqCst);
            readers.drain(..).for_each(|reader| reader.join().unwrap_or_default());
        }
    }
}

fn attack(with: &With, daemon: &Daemon, script: &str) -> Result<Attackers, String> {
    match with {
        With::Wrk(connections, path, arguments) => {
            let url = format!("http://127.0.0.1:{}{path}", daemon.port);
            let seconds = format!("-d{}s", (SETTLED + LASTS + SETTLED).as_secs());
            let mut command = Command::new("wrk");
            command.args(["-t1", "-c", connections, &seconds]);
            command.args(arguments.iter().map(|argument| if *argument == PIPELINE_FILE { script } else { argument }));
            command.arg(url);
            Ok(Attackers::Wrk(Process::quietly(&mut command)?))
        }
        With::Streams => {
            let enough = Arc::new(AtomicBool::new(false));
            let readers = (0..STREAMS).map(|_| follow(daemon.port, &enough)).collect::<Result<_, _>>()?;
            Ok(Attackers::Streams { enough, readers })
        }
    }
}

fn follow(port: u16, enough: &Arc<AtomicBool>) -> Result<JoinHandle<()>, String> {
    let open = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(100)))?;
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")?;
        Ok(stream)
    };
    let mut stream = open().map_err(|error: std::io::Error| format!("no event stream: {error}"))?;
    let enough = Arc::clone(enough);
    Ok(std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while !enough.load(Ordering::SeqCst) {
            if matches!(stream.read(&mut chunk), Ok(0)) {
                return;
            }
        }
    }))
}

/// How long it took; nothing where it is lost.
fn probe(port: u16) -> Option<Duration> {
    let began = Instant::now();
    let address = ([127, 0, 0, 1], port).into();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    loop {
        let left = PATIENCE.checked_sub(began.elapsed()).filter(|left| !left.is_zero())?;
        stream.set_read_timeout(Some(left)).ok()?;
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).ok()? {
            0 => break,
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
    answer.starts_with(b"HTTP/1.1 200").then(|| began.elapsed())
}
