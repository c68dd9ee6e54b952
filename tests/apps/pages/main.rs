//! A small web service with a cache that speaks ng-control/1 (docs/app-protocol.md): `cargo run --example pages -- --help`.
//! The protocol is control.rs, how it is spoken serve.rs; here is the service that obeys it. Needs std and serde_json,
//! nix for SO_PEERCRED and libc for malloc_trim.

mod control;
mod serve;

use std::collections::HashMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs, thread};

use control::{App, Control, Tier};

const MIB: usize = 1 << 20;
const HELP: &str = "pages --socket PATH --port PORT [--token TOKEN] [--limit 8] [--work SECONDS] [--fill MIB] \
                    [--slow SECONDS a flush takes] [--max-ttl-ms 300000] [--allow UID instead of root and us]";

/// What a visitor gets, and what can be done without.
pub struct Pages {
    pages: Mutex<HashMap<String, Vec<u8>>>,
    /// Kept between requests to save allocations.
    buffers: Mutex<Vec<Vec<u8>>>,
    inflight: AtomicUsize,
    shed: AtomicUsize,
    limit: usize,
    work: Duration,
    slow: Duration,
}

pub fn main() {
    let options = options();
    let text = |name: &str| options.get(name).cloned().unwrap_or_default();
    let number = |name: &str, default: f64| text(name).parse().unwrap_or(default);
    if text("socket").is_empty() {
        eprintln!("{HELP}");
        return;
    }
    let fill = number("fill", 0.0) as usize;
    let pages = Arc::new(Pages {
        pages: Mutex::new((0..fill).map(|page| (format!("/{page}"), vec![b'p'; MIB])).collect()),
        buffers: Mutex::new(vec![vec![b'b'; MIB]; fill]),
        inflight: AtomicUsize::new(0),
        shed: AtomicUsize::new(0),
        limit: number("limit", 8.0) as usize,
        work: Duration::from_secs_f64(number("work", 0.2)),
        slow: Duration::from_secs_f64(number("slow", 0.0)),
    });
    let control =
        Arc::new(Control::new("pages", number("max-ttl-ms", 300_000.0) as u64, Arc::clone(&pages) as Arc<dyn App>));

    let web = TcpListener::bind(("127.0.0.1", number("port", 0.0) as u16)).expect("the port is free");
    let visitors = (Arc::clone(&control), text("token"));
    thread::spawn(move || serve::web(&web, &visitors.0, &pages, &visitors.1));

    let socket = text("socket");
    fs::remove_file(&socket).ok();
    let lines = UnixListener::bind(&socket).expect("the folder of the socket is there, and ours");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o660)).expect("our own socket");
    let allow = text("allow").parse().map_or_else(|_| vec![0, nix::unistd::getuid().as_raw()], |only| vec![only]);
    serve::lines(&lines, &control, &allow);
}

/// `--name value`, also as the environment variable PAGES.
fn options() -> HashMap<String, String> {
    let written: Vec<String> = env::args().skip(1).collect();
    let words = env::var("PAGES").map_or(written, |words| words.split(' ').map(str::to_owned).collect());
    let pairs = words.windows(2).filter_map(|pair| Some((pair[0].strip_prefix("--")?.to_owned(), pair[1].clone())));
    pairs.collect()
}

impl Pages {
    /// A page's size in bytes; `None` where there is too much to do at this level.
    pub fn visit(&self, path: &str, level: u64) -> Option<usize> {
        let most = (self.limit * (100 - level as usize)).div_ceil(100);
        let admit = |now| (now < most).then_some(now + 1);
        if self.inflight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, admit).is_err() {
            self.shed.fetch_add(1, Ordering::SeqCst);
            return None;
        }
        let buffer = self.buffers.lock().unwrap().pop().unwrap_or_else(|| vec![b'b'; MIB]);
        thread::sleep(self.work);
        let bytes = self.pages.lock().unwrap().entry(path.to_owned()).or_insert_with(|| vec![b'p'; MIB]).len();
        self.buffers.lock().unwrap().push(buffer);
        self.inflight.fetch_sub(1, Ordering::SeqCst);
        Some(bytes)
    }
}

impl App for Pages {
    fn tiers(&self) -> Vec<Tier> {
        vec![
            Tier { name: "buffers", class: "reversible", bytes: self.buffers.lock().unwrap().len() * MIB },
            Tier { name: "pages", class: "lossy", bytes: self.pages.lock().unwrap().len() * MIB },
        ]
    }

    fn empty(&self, tier: &str) {
        thread::sleep(self.slow);
        match tier {
            "buffers" => *self.buffers.lock().unwrap() = Vec::new(),
            _ => *self.pages.lock().unwrap() = HashMap::new(),
        }
        #[cfg(target_env = "gnu")]
        // SAFETY: takes a number, and may be called at any time from any thread (malloc_trim(3)).
        unsafe {
            libc::malloc_trim(0);
        }
    }

    fn metrics(&self) -> Vec<(&'static str, usize)> {
        let pages_bytes = self.pages.lock().unwrap().len() * MIB;
        let (inflight, shed) = (self.inflight.load(Ordering::SeqCst), self.shed.load(Ordering::SeqCst));
        vec![("inflight", inflight), ("shed_total", shed), ("pages_bytes", pages_bytes)]
    }
}
