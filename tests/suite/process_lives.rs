//! Which life of a process an action is about, and whether it is alive: what got its pid later is somebody else's, whom a
//! tracer holds is still ours.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::processes::Plain;

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
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id.parse().unwrap()), Signal::SIGSTOP).unwrap();
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
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap();
        eventually("it is traced", || stat().contains(") t ").then_some(()));
        let ends = move || {
            strace.kill().unwrap();
            strace.wait().unwrap();
        };
        ends
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
