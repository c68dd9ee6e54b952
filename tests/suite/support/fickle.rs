//! A service with one limit, which obeys as badly as is wanted: late, step by step, rounded, or never. It says so as real
//! services do: at once, and with an OK.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node_guardian::control::target::Target;
use tempfile::TempDir;

use super::eventually;
use super::recipe::control;

pub const PRIOR: u64 = 200;

/// How it obeys.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// What it is told takes effect after so long; what it is told meanwhile takes its place.
    pub late: Duration,
    /// And then over so long.
    pub ramp: Duration,
    /// It keeps multiples of this.
    pub step: u64,
}

pub const EXACT: Manner = Manner { late: Duration::ZERO, ramp: Duration::ZERO, step: 1 };

struct State {
    manner: Manner,
    from: u64,
    to: u64,
    since: Instant,
    life: u64,
    place: PathBuf,
    /// Whatever it ever went to.
    held: HashSet<u64>,
}

pub struct Fickle {
    state: Arc<Mutex<State>>,
    folder: TempDir,
}

impl Fickle {
    pub fn start(manner: Manner) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("limit.sock");
        let state =
            State { manner, from: PRIOR, to: PRIOR, since: Instant::now(), life: 1, place, held: HashSet::new() };
        let fickle = Self { state: Arc::new(Mutex::new(state)), folder };
        fickle.listen();
        fickle
    }

    pub fn path(&self) -> PathBuf {
        self.state.lock().unwrap().place.clone()
    }

    pub fn target(&self) -> Target {
        target(&self.path())
    }

    /// Now.
    pub fn limit(&self) -> u64 {
        self.state.lock().unwrap().now()
    }

    /// Once it has done all that it was told.
    pub fn settled(&self) -> u64 {
        eventually("it stays", || {
            let state = self.state.lock().unwrap();
            (state.since.elapsed() > state.manner.late + state.manner.ramp).then(|| state.now())
        })
    }

    /// By hand, which it obeys at once and exactly.
    pub fn set(&self, limit: u64) {
        let mut state = self.state.lock().unwrap();
        (state.from, state.to) = (limit, limit);
        state.held.insert(limit);
    }

    pub fn obeys(&self, manner: Manner) {
        self.state.lock().unwrap().manner = manner;
    }

    /// With the limit of its configuration.
    pub fn restart(&self) {
        self.set(PRIOR);
        self.state.lock().unwrap().life += 1;
    }

    /// With the limit that it had, because somebody saved that.
    pub fn restart_with_what_was_saved(&self) {
        let mut state = self.state.lock().unwrap();
        let saved = if state.since.elapsed() < state.manner.late { state.from } else { state.to };
        (state.from, state.to) = (saved, saved);
        state.life += 1;
    }

    /// Another one of its kind serves at another socket; nobody does at the earlier one.
    pub fn move_to(&self, name: &str) {
        std::fs::remove_file(self.path()).ok();
        self.restart();
        self.state.lock().unwrap().place = self.folder.path().join(name);
        self.listen();
    }

    /// The very same serves there, as when somebody renames its socket.
    pub fn rename_to(&self, name: &str) {
        let place = self.folder.path().join(name);
        std::fs::rename(self.path(), &place).unwrap();
        self.state.lock().unwrap().place = place;
    }

    /// Whether it ever had this limit.
    pub fn ever_had(&self, limit: u64) -> bool {
        self.state.lock().unwrap().held.contains(&limit)
    }

    fn listen(&self) {
        let listener = UnixListener::bind(self.path()).unwrap();
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
    }
}

impl State {
    fn now(&self) -> u64 {
        let passed = self.since.elapsed();
        if passed < self.manner.late {
            return self.from;
        }
        let done = (passed - self.manner.late).as_secs_f64() / self.manner.ramp.as_secs_f64().max(1e-9);
        // Ten steps.
        let done = (done.min(1.0) * 10.0).floor() / 10.0;
        (self.from as f64 + (self.to as f64 - self.from as f64) * done).round() as u64
    }

    fn told(&mut self, limit: u64) {
        let kept = limit.div_ceil(self.manner.step) * self.manner.step;
        if kept == self.to {
            return;
        }
        self.from = self.now();
        self.to = kept;
        self.since = Instant::now();
        self.held.insert(kept);
    }
}

fn serve(stream: &UnixStream, state: &Mutex<State>) {
    let (mut writer, reader) = (stream, BufReader::new(stream));
    for line in reader.lines().map_while(Result::ok) {
        let mut state = state.lock().unwrap();
        let answer = match line.split_once(' ') {
            Some(("set", limit)) => {
                state.told(limit.parse().unwrap());
                "ok\n".to_owned()
            }
            _ => format!("limit={} life={} end\n", state.now(), state.life),
        };
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

pub fn target(socket: &Path) -> Target {
    control(&format!(
        r#"
        [control.socket.fickle]
        socket = "{}"
        ends_with = "\n"
        epoch = {{ send = "get\n", take = "limit={{*}} life={{value}} end" }}
        [control.socket.fickle.throttle]
        name = "limit"
        read = {{ send = "get\n", take = "limit={{value}} life={{*}} end" }}
        set = {{ send = "set {{value}}\n", expect = "ok" }}
        to = "{{share}}"
        "#,
        socket.display()
    ))
}
