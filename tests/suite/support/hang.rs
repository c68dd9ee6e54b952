//! System calls that do not return until the test says so: a disk that does not answer, a thread that hangs. Or that fail
//! for as long: a disk that takes nothing.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::unistd::Pid;

use super::eventually;

/// Longer than any test.
const FOR_EVER: &str = "delay_enter=600s";

/// As long as this is kept, those calls wait.
pub struct Hang(Child);

impl Hang {
    /// Whatever makes a file durable, in any thread of this process.
    pub fn of_disk(process: Pid) -> Self {
        Self::of(&["-f", "-p", &process.to_string()], "fdatasync,fsync", FOR_EVER, &threads(process))
    }

    /// Whatever makes a file durable fails, as on a disk that is broken.
    pub fn with_broken_disk(process: Pid) -> Self {
        Self::of(&["-f", "-p", &process.to_string()], "fdatasync,fsync", "error=EIO", &threads(process))
    }

    /// This thread as soon as it waits for events.
    pub fn of_thread(process: Pid, name: &str) -> Self {
        Self::of_calls(process, name, "epoll_wait,epoll_pwait,epoll_pwait2")
    }

    /// This thread as soon as it writes to a place of a file.
    pub fn of_writes(process: Pid, name: &str) -> Self {
        Self::of_calls(process, name, "pwrite64")
    }

    fn of_calls(process: Pid, name: &str, calls: &str) -> Self {
        let thread = threads(process).into_iter().find(|thread| name_of(process, thread) == name);
        let thread = thread.unwrap_or_else(|| panic!("no thread {name}"));
        Self::of(&["-p", &thread], calls, FOR_EVER, std::slice::from_ref(&thread))
    }

    fn of(whom: &[&str], calls: &str, fate: &str, traced: &[String]) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-q", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{fate}")]).args(whom);
        let child = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut hang = Self(child.expect("strace is missing: apt-get install strace"));
        eventually("strace is attached (needs root, or kernel.yama.ptrace_scope=0)", || {
            assert!(hang.0.try_wait().unwrap().is_none(), "strace ended: it may not trace this process");
            traced.iter().all(|thread| is_traced(thread)).then_some(())
        });
        hang
    }

    /// They return.
    pub fn end(self) {}
}

impl Drop for Hang {
    fn drop(&mut self) {
        // Asked to end, it would wait for the call that it holds up.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn threads(process: Pid) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks.map(|task| task.unwrap().file_name().into_string().unwrap()).collect()
}

fn name_of(process: Pid, thread: &str) -> String {
    let name = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

fn is_traced(thread: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(thread).join("status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}
