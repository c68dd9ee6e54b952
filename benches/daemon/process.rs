//! Processes that end with the part that started them, and what the kernel says they take.

use std::env;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What is asked to end gets this long before it is ended.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Process(Child);

impl Process {
    pub fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).spawn().map(Self).map_err(|error| format!("cannot start {name}: {error}"))
    }

    /// Without what it prints.
    pub fn quietly(command: &mut Command) -> Result<Self, String> {
        Self::start(command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).ok();
    }

    pub fn has_ended(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(Some(_)))
    }

    /// Waits until it has ended by itself.
    pub fn ends(&mut self) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.has_ended() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Resident memory of it and its children.
    pub fn resident_megabytes(&self) -> f64 {
        self.family().iter().filter_map(|id| field(&format!("/proc/{id}/smaps_rollup"), "Rss:")).sum::<f64>() / 1000.0
    }

    pub fn peak_megabytes(&self) -> f64 {
        field(&format!("/proc/{}/status", self.id()), "VmHWM:").unwrap_or(f64::NAN) / 1000.0
    }

    /// Time on a CPU since it started, all threads of it and its children.
    pub fn cpu_seconds(&self) -> f64 {
        let tasks = self.family().into_iter().filter_map(|id| fs::read_dir(format!("/proc/{id}/task")).ok()).flatten();
        let spent = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        spent.sum::<f64>() / 1e9
    }

    fn family(&self) -> Vec<u32> {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        std::iter::once(id).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        self.signal(Signal::SIGTERM);
        if !self.ends() {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }
}

/// In kB, that is 1024 bytes, given in units of 1000 bytes.
fn field(path: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.split_whitespace().next()?.parse::<f64>().ok()? * 1.024)
}

/// Threads that do nothing but take CPU time, until this is dropped.
pub struct Spinners {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Spinners {
    pub fn start(count: usize) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let spin = |_| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..count).map(spin).collect();
        Self { stop, threads }
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Of programs, each with the Debian package that has it, those that are not there.
pub fn missing<'a>(needs: impl Iterator<Item = &'a (&'static str, &'static str)>) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let there = |program: &str| folders.iter().any(|folder| folder.join(program).exists());
    let mut packages: Vec<&str> = needs.filter(|need| !there(need.0)).map(|need| need.1).collect();
    packages.sort_unstable();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    Err(format!("the figures are measured next to other programs; run: apt-get install {}", packages.join(" ")))
}
