//! What several areas of the suite share: real servers in a temporary folder, a go-between that can interfere with them,
//! and a desk that gives commands to the workers and waits for their reports. A program that is missing fails the test
//! with what to install; nothing is ever skipped.

pub mod apache;
pub mod app;
pub mod desk;
pub mod envoy;
pub mod fickle;
pub mod hang;
pub mod haproxy;
pub mod memcached;
pub mod nginx;
pub mod node;
pub mod overflow;
pub mod postgres;
pub mod processes;
pub mod proxy;
pub mod receiver;
pub mod recipe;
pub mod redis;
pub mod trap;
pub mod varnish;
pub mod web;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// It documents every key and, as it stands, changes nothing.
pub const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// Stops a process: it does nothing more when this returns. Each of its threads takes its own time.
pub fn halt(process: Pid) {
    kill(process, Signal::SIGSTOP).unwrap();
    eventually("all its threads are stopped", || {
        let mut threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten();
        threads.all(|thread| is_stopped(&thread.path())).then_some(())
    });
}

/// Also where it has ended meanwhile.
fn is_stopped(thread: &Path) -> bool {
    let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
}

/// A process that ends with the test that started it.
pub struct Process(Child);

impl Process {
    pub fn of(child: Child) -> Self {
        Self(child)
    }

    pub fn start(program: &str, package: &str, arguments: &[&str]) -> Self {
        Self::start_with(&[], program, package, arguments)
    }

    pub fn start_with(environment: &[(&str, &str)], program: &str, package: &str, arguments: &[&str]) -> Self {
        let started = Command::new(program)
            .envs(environment.iter().copied())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match started {
            Ok(child) => Self(child),
            Err(error) => panic!("cannot start {program} ({error}): run `apt-get install {package}`"),
        }
    }

    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.0.id() as i32);
        match signal {
            Signal::SIGSTOP => halt(process),
            other => kill(process, other).unwrap(),
        }
    }

    pub fn id(&self) -> String {
        self.0.id().to_string()
    }

    /// Asks it to end, children included, and waits for that.
    pub fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        self.0.wait().unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) {
        eventually("the end of a process", || self.0.try_wait().unwrap());
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until something real has happened.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(45);
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
