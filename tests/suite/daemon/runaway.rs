//! A loop that computes on and on, as the service manager bounds it: it leaves real time instead of being ended for it, goes on
//! as an ordinary thread, and this is told.

use std::fmt::Write;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::resource::{Resource, setrlimit};

use super::super::support::node::{Daemon, EXECUTABLE, Node};

/// Of `LimitRTTIME=`, in microseconds. The kernel ends whoever computes for longer in real time.
const HARD: u64 = 100_000;
/// So many sentences at once take an executable that is not optimized half a second.
const RULES: usize = 6000;
const ROUND_ROBIN: &str = "2";
const ORDINARY: &str = "0";

/// Of its main thread: policy, the field before the last twelve of proc_pid_stat(5).
fn policy(daemon: &Daemon) -> String {
    let stat = fs::read_to_string(format!("/proc/{0}/task/{0}/stat", daemon.pid())).unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap().to_owned()
}

fn limited() -> Command {
    let mut command = Command::new(EXECUTABLE);
    let limit = || setrlimit(Resource::RLIMIT_RTTIME, HARD, HARD).map_err(Into::into);
    // SAFETY: one system call, and nothing is allocated.
    unsafe { command.pre_exec(limit) };
    command
}

#[test]
fn a_loop_that_runs_away_leaves_real_time_lives_and_tells() {
    let mut rules = String::new();
    for at in 0..RULES {
        writeln!(rules, "[rule.r{at}]\nwhen = \"memory.available_percent < 10%\"\nseverity = \"info\"").unwrap();
    }
    let node = Node::new(&rules);
    let mut daemon = node.launch(limited());
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    if policy(&daemon) != ROUND_ROBIN {
        // Whoever may not schedule in real time cannot be ended for it.
        assert!(daemon.status()["blind_spots"].to_string().contains("real-time scheduling"));
        return;
    }
    node.set_available(5);
    daemon.until("it has left real time", |daemon| (policy(daemon) == ORDINARY).then_some(()));
    daemon.until_told("source_lost", "real-time scheduling: left, because a thread computed");
    let before = daemon.ticks();
    daemon.until("it ticks on", |daemon| (daemon.ticks() > before + 5).then_some(()));
    assert_eq!(daemon.stop(), 0);
}
