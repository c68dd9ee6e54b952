//! Which life of a process an action is about, and whether it is alive: what got its pid later is somebody else's, whom a
//! tracer holds is still ours.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::processes::Plain;

/// As the kernel numbers the class of disk requests.
const IDLE: i64 = 3;
const HALF: Amount = Amount::Keep(50.0);

fn plain(server: &Plain) -> Desk {
    Desk::new(&[("batch", server.sacrificial())])
}

/// Somebody got the number of what has ended, and began a session under it.
#[test]
fn a_session_of_somebody_else_is_never_touched() {
    let first = Plain::start("sleep", &["600"]);
    let mut desk = plain(&first);
    assert_eq!(desk.apply(1, "batch", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(2, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    let ledger = desk.stop();
    let script = "import os, time; os.setsid(); os.fork(); time.sleep(600)";
    let stranger = Plain::start("python3", &["-c", script]);
    eventually("two of a session", || (stranger.tree().len() == 2).then_some(()));
    stranger.renice(3);
    for id in stranger.tree() {
        kill(Pid::from_raw(id.parse().unwrap()), Signal::SIGSTOP).unwrap();
    }
    eventually("an operator has stopped it", || (stranger.states() == "TT").then_some(()));
    // As if the first had had its number.
    for entry in ledger.entries.lock().unwrap().iter_mut() {
        entry.undo.epoch = entry.undo.epoch.replacen(&first.id(), &stranger.id(), 1);
    }
    let (before, mut desk) = (stranger.nice(), Desk::resume(ledger, &[]));
    for id in [2, 1] {
        assert_eq!(desk.undo(id).outcome, Outcome::EpochChanged);
    }
    assert_eq!((stranger.states().as_str(), stranger.nice(), desk.journaled().len()), ("TT", before, 0));
}

/// The first thing that anybody does with a process that hangs.
#[test]
fn whom_an_operator_traces_is_still_ours() {
    let server = Plain::start("sleep", &["600"]);
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    let traced = || {
        let mut strace = Command::new("strace").args(["-p", &server.id()]).stderr(Stdio::null()).spawn().unwrap();
        let stat = || fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
        eventually("it is traced", || stat().contains(") t ").then_some(()));
        move || {
            strace.kill().unwrap();
            strace.wait().unwrap();
        }
    };
    let mut ends = traced();
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Applied, 1), "{}", report.detail);
    let told = desk.apply(2, "batch", Verb::Freeze, Amount::Whole);
    assert!(told.outcome != Outcome::Applied, "{}", told.detail);
    ends();
    eventually("it is stopped again", || (server.states() == "T").then_some(()));
    let mut ends = traced();
    desk.undo(1);
    ends();
    eventually("it goes on", || {
        desk.undo(1);
        (server.states() == "S").then_some(())
    });
    assert!(desk.journaled().is_empty());
}

/// Its main thread has called `pthread_exit`: the kernel shows it as a zombie, and its other threads go on.
#[test]
fn who_has_lost_its_main_thread_is_alive() {
    let script = format!(
        "
import ctypes, os, threading, time
def goes_on():
    threading.Thread(target=time.sleep, args=(60,)).start()
    ctypes.CDLL(None).syscall({}, 0)
if os.fork() == 0:
    goes_on()
if os.fork() == 0:
    time.sleep(60)
goes_on()
",
        libc::SYS_exit
    );
    let server = Plain::start("python3", &["-c", &script]);
    let family = eventually("both have", || {
        let all = family(&server.id());
        (all.len() == 3 && all.iter().filter(|pid| threads(pid, 0).contains(&"Z".to_owned())).count() == 2)
            .then_some(all)
    });
    let each = |at: usize| {
        let all = family.iter().flat_map(|pid| threads(pid, at));
        all.filter(|value| value != "Z").collect::<HashSet<_>>()
    };
    // Whoever has ended has no disk requests.
    let classes = || family.iter().flat_map(|pid| io_classes(pid)).collect::<HashSet<_>>();
    let target = target::Process { sacrificial: true, idle_io: true, ..server.target() };
    let mut desk = Desk::new(&[("batch", Target::Process(target))]);
    let slower = desk.apply(1, "batch", Verb::Throttle, HALF);
    let (nice, io) = (each(16), classes());
    let frozen = desk.apply(2, "batch", Verb::Freeze, Amount::Whole);
    let states = each(0);
    let verified = [1, 2].map(|id| desk.verify(id).outcome);
    let undone = [2, 1].map(|id| desk.undo(id).outcome);
    let after = (each(16), each(0), classes());
    family.iter().for_each(|pid| kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap());
    assert_eq!((slower.outcome, nice), (Outcome::Applied, HashSet::from(["3".to_owned()])), "{}", slower.detail);
    assert_eq!((frozen.outcome, states), (Outcome::Applied, HashSet::from(["T".to_owned()])), "{}", frozen.detail);
    assert_eq!([verified, undone], [[Outcome::Applied; 2]; 2]);
    assert_eq!((io, after.2), (HashSet::from([IDLE]), HashSet::from([0])));
    assert_eq!((after.0, after.1.contains("T")), (HashSet::from(["0".to_owned()]), false));
}

/// It and whom it has started.
fn family(pid: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children: Vec<String> =
        children.flat_map(|list| list.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
    [pid.to_owned()].into_iter().chain(children.into_iter().filter(|child| !child.is_empty())).collect()
}

/// What one field of each of its threads says, counted behind the name.
fn threads(pid: &str, at: usize) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.map(|stat| stat.rsplit_once(") ").unwrap().1.split(' ').nth(at).unwrap().to_owned()).collect()
}

/// Of each thread that has not ended.
fn io_classes(pid: &str) -> Vec<i64> {
    let stats = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().map(|thread| thread.path().join("stat"));
    let alive = stats.filter_map(|stat| fs::read_to_string(stat).ok()).filter(|stat| !stat.contains(") Z "));
    let ids = alive.map(|stat| stat.split(' ').next().unwrap().parse::<i32>().unwrap());
    // SAFETY: numbers alone.
    ids.map(|id| (unsafe { libc::syscall(libc::SYS_ioprio_get, 1, id) }) >> 13).collect()
}
