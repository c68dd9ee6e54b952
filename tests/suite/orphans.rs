//! Children of a process that ends while something of ours is in force at them, as when the kernel ends the largest for want
//! of memory: whatever was set at any of them is put back, whenever it was started.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::processes::Plain;

const HALF: Amount = Amount::Keep(50.0);

/// Starts another one every so many milliseconds, each of which outlives it; with `SIGUSR1` one more.
struct Forker {
    server: Plain,
    /// In the command line of each.
    token: String,
}

impl Forker {
    fn start(every: &str) -> Self {
        let token = format!("token-{}-{every}-{:?}", std::process::id(), std::thread::current().id());
        let script = format!(
            "
import os, signal, time # {token}
every = {every}
os.setsid()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def one(*_):
    if os.fork() == 0:
        signal.signal(signal.SIGUSR1, lambda *_: one())
        end = time.time() + 120
        while time.time() < end:
            time.sleep(1)
        os._exit(0)
signal.signal(signal.SIGUSR1, one)
for n in range(400):
    one()
    time.sleep(every)
"
        );
        Self { server: Plain::start("python3", &["-c", &script]), token }
    }

    fn desk(&self) -> Desk {
        Desk::new(&[("batch", self.server.sacrificial())])
    }

    fn pids(&self) -> Vec<i32> {
        let all = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let is_ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&self.token)
        };
        all.filter(is_ours).collect()
    }

    /// What one field of each says, counted after its name.
    fn fields(&self, field: usize) -> Vec<String> {
        let told = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some(stat.rsplit_once(") ")?.1.split(' ').nth(field)?.to_owned())
        };
        self.pids().into_iter().filter_map(told).filter(|value| value != "Z").collect()
    }

    fn stopped(&self) -> usize {
        self.fields(0).iter().filter(|state| *state == "T").count()
    }

    fn slowed(&self) -> usize {
        self.fields(16).iter().filter(|nice| *nice != "0").count()
    }

    fn unslowed(&self) -> usize {
        self.fields(16).iter().filter(|nice| *nice == "0").count()
    }
}

impl Drop for Forker {
    fn drop(&mut self) {
        self.server.kill();
        while let pids @ [_, ..] = &self.pids()[..] {
            pids.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap_or_default());
        }
    }
}

/// A fork falls between the look at the family and the signal in most of these.
#[test]
fn who_was_started_while_its_parent_was_stopped_is_continued() {
    for every in ["0.004", "0.002", "0.01", "0.003", "0.006"] {
        let mut forker = Forker::start(every);
        let mut desk = forker.desk();
        eventually("some children", || (forker.pids().len() > 5).then_some(()));
        let report = desk.apply(1, "batch", Verb::Freeze, Amount::Whole);
        assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
        let all = forker.pids().len();
        assert_eq!(forker.stopped(), all, "{every}");
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(forker.pids().len(), all, "nobody is left to start another");
        forker.server.kill();
        // Nobody remembers more than was recorded.
        let mut desk = Desk::resume(desk.stop(), &[]);
        let report = desk.undo(1);
        let is_over = report.outcome == Outcome::Applied;
        assert!(is_over && forker.stopped() == 0, "{every}: {} of {all}: {}", forker.stopped(), report.detail);
        assert!(desk.journaled().is_empty());
    }
}

#[test]
fn the_niceness_of_who_is_left_behind_goes_back() {
    let mut forker = Forker::start("0.02");
    let mut desk = forker.desk();
    eventually("some children", || (forker.pids().len() > 5).then_some(()));
    let report = desk.apply(1, "batch", Verb::Throttle, HALF);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    let before = forker.pids().len();
    eventually("some that inherit it", || (forker.pids().len() > before + 5).then_some(()));
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(forker.unslowed(), 0);
    let child = forker.pids().into_iter().max().unwrap();
    forker.server.kill();
    // It goes on without its parent, and starts another one.
    let before = forker.pids().len();
    kill(Pid::from_raw(child), Signal::SIGUSR1).unwrap();
    eventually("a grandchild", || (forker.pids().len() > before).then_some(()));
    let report = desk.verify(1);
    assert_eq!(report.outcome, Outcome::Applied, "still ours: {}", report.detail);
    let mut desk = Desk::resume(desk.stop(), &[]);
    let report = desk.undo(1);
    let is_over = report.outcome == Outcome::Applied;
    assert!(is_over && forker.slowed() == 0, "{} of {}: {}", forker.slowed(), forker.pids().len(), report.detail);
    assert!(desk.journaled().is_empty());
}
