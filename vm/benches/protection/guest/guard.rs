//! The guard under test: set up as a user would, started before the attack, and what it costs meanwhile.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{shell, town};
use crate::Outcome;
use crate::tool::{NODE_GUARDIAN, Tool};

/// Where the host has put it.
pub const PACKAGE: &str = "/root/node-guardian.deb";

/// Its package and its settings; done once for all runs.
pub fn set_up(tool: &Tool) -> Outcome {
    if tool.name == NODE_GUARDIAN {
        install()?;
    }
    for (path, text) in tool.files {
        town::write(path, text)?;
    }
    for command in tool.prepare {
        shell::must(command)?;
    }
    if tool.unit.is_empty() { Ok(()) } else { start(tool).and_then(|()| stop(tool)) }
}

fn stop(tool: &Tool) -> Outcome {
    shell::must(&format!("systemctl stop {}", tool.unit)).map(drop)
}

pub fn start(tool: &Tool) -> Outcome {
    if tool.unit.is_empty() {
        return Ok(());
    }
    // Takes the emulated guest seconds, so only where a unit that is loaded already has got a new setting.
    let reload =
        if tool.files.iter().any(|(path, _)| path.contains(".d/")) { "systemctl daemon-reload &&" } else { "" };
    let started = shell::must(&format!(
        "{reload} systemctl restart {0} && sleep 1 && [ \"$(systemctl show -P ActiveState -P NRestarts {0} | tr '\\n' ' ')\" = '0 active ' ]",
        tool.unit
    ));
    started.map(drop).map_err(|why| {
        let journal = shell::run(&format!("journalctl -u {} -n 20 -o cat --no-pager", tool.unit)).map(|(_, text)| text);
        format!("{why}\n{}", journal.unwrap_or_default())
    })
}

/// With the groups that its installation guide asks for.
fn install() -> Outcome {
    let command = format!("dpkg -i {PACKAGE} && gpasswd -a node-guardian haproxy && gpasswd -a node-guardian redis");
    shell::must(&command).map(drop)
}

/// Watches the guard's cgroup, which also counts what it starts.
pub struct Cost {
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<(f64, f64)>>,
}

impl Cost {
    pub fn watch(tool: &Tool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let group = shell::run(&format!("systemctl show -P ControlGroup {}", tool.unit)).map(|(_, text)| text);
        let group = group.ok().filter(|_| !tool.unit.is_empty()).map(|text| format!("/sys/fs/cgroup{}", text.trim()));
        let watcher = group.and_then(|group| {
            let work = move || follow(&group, &seen);
            thread::Builder::new().stack_size(64 << 10).spawn(work).ok()
        });
        Self { stop, watcher }
    }

    /// Percent of one core, and the most memory in MiB.
    pub fn finish(self) -> (f64, f64) {
        self.stop.store(true, Ordering::Relaxed);
        self.watcher.and_then(|watcher| watcher.join().ok()).unwrap_or_default()
    }
}

fn follow(group: &str, stop: &AtomicBool) -> (f64, f64) {
    let start = (Instant::now(), cpu(group));
    let mut most = 0.0_f64;
    while !stop.load(Ordering::Relaxed) {
        most = most.max(number(&format!("{group}/memory.current")) / f64::from(1 << 20));
        thread::sleep(Duration::from_millis(200));
    }
    let used = cpu(group) - start.1;
    (100.0 * used / start.0.elapsed().as_secs_f64(), most)
}

/// Seconds of CPU time.
fn cpu(group: &str) -> f64 {
    let text = fs::read_to_string(format!("{group}/cpu.stat")).unwrap_or_default();
    let microseconds =
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")).and_then(|text| text.parse().ok());
    microseconds.unwrap_or(0.0) / 1e6
}

fn number(path: &str) -> f64 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0.0)
}
