//! strace, at the threads that may wait for a disk. The loop's own is left alone: it never does, and who is traced is late.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::process::Process;

/// Longer than any figure takes.
pub const FOR_EVER: Duration = Duration::from_secs(3600);

const PATIENCE: Duration = Duration::from_secs(10);
const CALLS: &str = "fdatasync,fsync";

/// As long as this is kept.
pub struct Traced(Process);

impl Drop for Traced {
    fn drop(&mut self) {
        // Asked to end, it would wait for the call that it holds up.
        self.0.signal(Signal::SIGKILL);
        self.0.ends();
    }
}

/// Whatever makes a file durable takes so much longer.
pub fn syncs(process: &Process, longer: Option<Duration>) -> Result<Traced, String> {
    let id = process.id();
    let tasks = fs::read_dir(format!("/proc/{id}/task")).map_err(|error| format!("/proc/{id}/task: {error}"))?;
    let tasks = tasks.flatten().map(|task| task.file_name().to_string_lossy().into_owned());
    let tasks: Vec<String> = tasks.filter(|task| *task != id.to_string()).collect();
    let mut command = Command::new("strace");
    command.args(["-q", "-f", "-o", "/dev/null", "-e", &format!("trace={CALLS}")]);
    if let Some(longer) = longer {
        command.args(["-e", &format!("inject={CALLS}:delay_enter={}s", longer.as_secs())]);
    }
    command.args(tasks.iter().flat_map(|task| ["-p", task]));
    let traced = Traced(Process::quietly(&mut command)?);
    let until = Instant::now() + PATIENCE;
    while !tasks.iter().all(|task| is_traced(task)) {
        if Instant::now() > until {
            return Err("strace may not look at the daemon here".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(traced)
}

fn is_traced(task: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{task}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}
