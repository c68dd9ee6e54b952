//! Redis, memcached and Varnish, full, while they are undone, shrunk and flushed: does each go on answering, how long
//! does the slowest answer take, and how much memory does its process lose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use node_guardian::control::address::Address;

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::Verb;

use super::Figures;
use super::act::Actor;
use super::process::Process;
use super::server::free_port;
use super::table::{Row, Unit};

const PAUSE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_secs(10);
/// What is in each: 120 MB.
const PAGE_BYTES: usize = 100_000;
const PAGES: usize = 1_200;
const ENTRY_BYTES: usize = 1_200;
const ENTRIES: usize = 100_000;

pub fn redis() -> Figures {
    let port = free_port()?;
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let server = Process::quietly(Command::new("redis-server").args(arguments))?;
    let target = target::Redis {
        listener: None,
        address: Address::Tcp(format!("127.0.0.1:{port}")),
        username: None,
        password_file: None,
        cache_only: true,
        flush_pattern: None,
        client_buffers: None,
    };
    let value = "x".repeat(ENTRY_BYTES);
    let fill = || entries(port, |at| format!("SET cache:{at} {value}\r\n"), Some("+OK"));
    let asked = Asked { port, request: b"EXISTS cache:1\r\n", answers: &[":0", ":1"] };
    through("Redis", &server, &Target::Redis(target), &asked, fill)
}

pub fn memcached() -> Figures {
    let port = free_port()?;
    // As docs/controls/memcached.md says: else memory comes back only once.
    let mut command = Command::new("memcached");
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    command.args(["-u", "root", "-l", "127.0.0.1", "-m", "512", "-p", &port.to_string()]);
    let server = Process::quietly(&mut command)?;
    let target = target::Memcached { address: Address::Tcp(format!("127.0.0.1:{port}")), cache_only: true };
    let value = "x".repeat(ENTRY_BYTES);
    let fill = || entries(port, |at| format!("set cache:{at} 0 0 {ENTRY_BYTES}\r\n{value}\r\n"), Some("STORED"));
    let asked = Asked { port, request: b"touch cache:1 0\r\n", answers: &["TOUCHED", "NOT_FOUND"] };
    through("memcached", &server, &Target::Memcached(target), &asked, fill)
}

pub fn varnish() -> Figures {
    let io = |error: std::io::Error| format!("cannot prepare Varnish: {error}");
    let folder = tempfile::tempdir().map_err(io)?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).map_err(io)?;
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "of a bench\n").map_err(io)?;
    let (clients, command_line) = (free_port()?, free_port()?);
    let backend = pages().map_err(io)?;
    let mut command = Command::new("varnishd");
    command.env("MALLOC_CONF", "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0");
    command.arg("-F").arg("-n").arg(folder.path().join("work")).arg("-S").arg(&secret);
    let local = |port: u16| format!("127.0.0.1:{port}");
    command.args([
        "-b",
        &local(backend),
        "-a",
        &local(clients),
        "-T",
        &local(command_line),
        "-s",
        "malloc,1g",
        "-p",
        "ban_lurker_age=1",
    ]);
    let server = Process::quietly(&mut command)?;
    let address = Address::Tcp(local(command_line));
    let target = target::Varnish { address, listener: None, secret_file: Some(secret), restart_to_free: false };
    let asked = Asked {
        port: clients,
        request: b"HEAD /0 HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
        answers: &["HTTP/1.1 200"],
    };
    through("Varnish", &server, &Target::Varnish(target), &asked, || fetch_all(clients))
}

/// Fill, shrink to a half, let go, fill again, flush; and release first, where it can.
fn through(
    name: &str,
    server: &Process,
    target: &Target,
    asked: &Asked,
    fill: impl Fn() -> Result<(), String>,
) -> Figures {
    let mut actor = Actor::new(target)?;
    let mut rows = Vec::new();
    fill()?;
    for verb in [Verb::Release, Verb::Shrink, Verb::Flush] {
        if !target.verbs().contains(&verb) {
            continue;
        }
        let before = server.resident_megabytes();
        let prober = Prober::start(asked);
        std::thread::sleep(Duration::from_millis(300));
        let told = if verb == Verb::Shrink {
            let shrunk = actor.apply(verb, 50.0)?;
            actor.undo(&shrunk)?;
            String::new()
        } else {
            actor.pulse(verb)?
        };
        let probed = prober.end()?;
        let after = server.resident_megabytes();
        let figure = |what: &str| format!("{name}, {verb}: {what}");
        rows.push(
            Row::new(figure("requests that were not answered"), probed.failed as f64, Unit::Count)
                .at_most(0.0, None)
                .next_to(format!("of {}; the slowest took {:.1} ms", probed.asked, probed.slowest_ms)),
        );
        rows.push(Row::new(figure("memory freed"), before - after, Unit::Megabytes).next_to(told));
        if verb == Verb::Shrink {
            fill()?;
        }
    }
    Ok(rows)
}

/// One request, and how its answer may begin.
#[derive(Clone, Copy)]
struct Asked {
    port: u16,
    request: &'static [u8],
    answers: &'static [&'static str],
}

#[derive(Default)]
struct Probed {
    asked: usize,
    failed: usize,
    slowest_ms: f64,
}

/// Asks once a millisecond on one connection, until it is told to end.
struct Prober {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Probed>,
}

impl Prober {
    fn start(asked: &Asked) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (told, asked) = (Arc::clone(&over), *asked);
        let thread = std::thread::spawn(move || {
            let mut probed = Probed::default();
            let mut connection = None;
            while !told.load(Ordering::SeqCst) {
                let began = Instant::now();
                let answered = ask(&mut connection, &asked).is_some();
                probed.asked += 1;
                probed.failed += usize::from(!answered);
                probed.slowest_ms = probed.slowest_ms.max(began.elapsed().as_secs_f64() * 1e3);
                std::thread::sleep(PAUSE);
            }
            probed
        });
        Self { over, thread }
    }

    fn end(self) -> Result<Probed, String> {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| "a client of the bench panicked".to_owned())
    }
}

fn ask(connection: &mut Option<BufReader<TcpStream>>, asked: &Asked) -> Option<()> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => connect(asked.port).ok()?,
    };
    open.get_mut().write_all(asked.request).ok()?;
    let mut line = String::new();
    open.read_line(&mut line).ok()?;
    let fits = asked.answers.iter().any(|answer| line.starts_with(answer));
    // Of an answer in HTTP, the rest of the head.
    while line.starts_with("HTTP/") || !line.trim_end().is_empty() && asked.answers[0].starts_with("HTTP/") {
        line.clear();
        open.read_line(&mut line).ok()?;
    }
    *connection = Some(open);
    fits.then_some(())
}

fn connect(port: u16) -> Result<BufReader<TcpStream>, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => {
                stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(Some(PATIENCE))).ok();
                return Ok(BufReader::new(stream));
            }
            Err(error) if Instant::now() > end => return Err(format!("nobody listens on port {port}: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Many commands at a time, each answered by one line.
fn entries(port: u16, command: impl Fn(usize) -> String, answer: Option<&str>) -> Result<(), String> {
    const AT_ONCE: usize = 100;
    let mut open = connect(port)?;
    let failed = |error: std::io::Error| format!("cannot fill: {error}");
    for first in (0..ENTRIES).step_by(AT_ONCE) {
        let batch: String = (first..first + AT_ONCE).map(&command).collect();
        open.get_mut().write_all(batch.as_bytes()).map_err(failed)?;
        for _ in 0..AT_ONCE {
            let mut line = String::new();
            open.read_line(&mut line).map_err(failed)?;
            if answer.is_some_and(|answer| line.trim_end() != answer) {
                return Err(format!("cannot fill: {line}"));
            }
        }
    }
    Ok(())
}

fn fetch_all(port: u16) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot fill: {error}");
    let mut open = connect(port)?;
    for page in 0..PAGES {
        write!(open.get_mut(), "GET /{page} HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(failed)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            open.read_line(&mut line).map_err(failed)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        open.read_exact(&mut body).map_err(failed)?;
    }
    Ok(())
}

/// A backend of large pages; ends with the bench.
fn pages() -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || page(stream));
        }
    });
    Ok(port)
}

fn page(mut stream: TcpStream) {
    let body = vec![b'x'; PAGE_BYTES];
    let mut request = [0; 4096];
    let mut second = 0;
    while stream.read(&mut request).is_ok_and(|length| length > 0) {
        // As if they had come over a minute: a share of them is chosen by the second of their `Date`.
        second = (second + 1) % 60;
        let head = format!(
            "HTTP/1.1 200 OK\r\nDate: Sat, 21 Nov 2026 10:00:{second:02} GMT\r\nCache-Control: max-age=3600\r\n\
             Content-Length: {PAGE_BYTES}\r\n\r\n"
        );
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}
