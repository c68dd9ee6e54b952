//! Children of a process that ends while something of ours is in force at them, as when the kernel ends the largest for want
//! of memory: whatever was set at any of them is put back, whenever it was started.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::node::{Node, short_of_memory};
use super::support::processes::Plain;

const HALF: Amount = Amount::Keep(50.0);
const FIFTH: Amount = Amount::Keep(20.0);

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

/// A service that ends, leaves children behind and is started again.
struct Restarted {
    server: Plain,
    orphan: Pid,
}

impl Restarted {
    fn start() -> Self {
        let server = Plain::family();
        let orphan = Pid::from_raw(server.tree()[1].parse().unwrap());
        Self { server, orphan }
    }

    fn restart(&mut self) {
        let ready = self.server.path("ready");
        let script = format!("import time; open('{}', 'w').close(); time.sleep(600)", ready.display());
        self.server.restart(&["-c", &script]);
        // Before that it may be what starts it.
        eventually("another one", || ready.exists().then_some(()));
    }

    /// State, as `Plain::states` tells it, and niceness.
    fn orphan(&self) -> (String, String) {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.orphan)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        (if fields[0] == "T" { "T" } else { "S" }.to_owned(), fields[16].to_owned())
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        kill(self.orphan, Signal::SIGKILL).unwrap();
    }
}

/// It is acted on anew: what its earlier life has left behind keeps nobody from that.
#[test]
fn who_is_started_again_is_not_taken_for_whom_it_has_left_behind() {
    for (verb, amount, stronger) in [(Verb::Freeze, Amount::Whole, Amount::Whole), (Verb::Throttle, HALF, FIFTH)] {
        for (is_adjusted, is_resumed) in [(false, false), (true, false), (false, true)] {
            let mut service = Restarted::start();
            let controls = [("batch", service.server.sacrificial())];
            let mut desk = Desk::new(&controls);
            assert_eq!(desk.apply(1, "batch", verb, amount).outcome, Outcome::Applied);
            if is_resumed {
                desk = Desk::resume(desk.stop(), &controls);
            }
            service.restart();
            let report = if is_adjusted { desk.apply(1, "batch", verb, stronger) } else { desk.verify(1) };
            assert_eq!(report.outcome, Outcome::EpochChanged, "{}", report.detail);
            assert!(report.detail.contains("back to"), "{}", report.detail);
            assert_eq!((service.orphan(), desk.journaled().len()), (("S".into(), "0".into()), 0), "{}", report.detail);
            let report = desk.apply(2, "batch", verb, amount);
            assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
            let now = (service.server.states(), service.server.nice());
            assert_eq!(now, if verb == Verb::Freeze { ("T".into(), "0".into()) } else { ("S".into(), "3".into()) });
            assert_eq!(desk.undo(2).outcome, Outcome::Applied);
        }
    }
}

/// Nobody has come in its place: it is one of those that are acted on, found by the same pid file.
#[test]
fn a_child_that_takes_over_is_still_ours() {
    let mut service = Restarted::start();
    let mut desk = Desk::new(&[("batch", service.server.sacrificial())]);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    service.server.kill();
    service.server.name(&service.orphan.to_string());
    let report = desk.verify(1);
    assert_eq!((report.outcome, service.orphan().0.as_str()), (Outcome::Applied, "T"), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, service.orphan().0.as_str()), (Outcome::Applied, "S"));
}

/// In the emergency in which its earlier life has ended, also where it was started again while nobody looked.
#[test]
fn who_is_started_again_is_acted_on_in_the_same_emergency() {
    for is_killed in [false, true] {
        let mut service = Restarted::start();
        let job = format!(
            "[control.process.job]\npid_file = \"{}\"\ncommand = \"python3\"\nsacrificial = true\n",
            service.server.pid_file().display()
        );
        let node = Node::new(&(job + &short_of_memory("{ freeze = \"job\" }")));
        let mut daemon = node.start();
        node.set_available(5);
        daemon.until_in_force(&["freeze job"]);
        if is_killed {
            daemon.kill();
            service.restart();
            daemon = node.start();
        } else {
            service.restart();
        }
        eventually("it is stopped", || (service.server.states() == "T").then_some(()));
        assert_eq!(service.orphan().0, "S", "whoever was left behind goes on");
        node.set_available(60);
        daemon.until_calm();
        assert_eq!((service.server.states().as_str(), daemon.stop()), ("S", 0));
    }
}
