//! The process control against a real gunicorn and real processes: nobody else is ever signalled, every thread gets back
//! what it had, no request fails.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::config::{self, Source};
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Answered, Outcome, Verb};

use super::support::desk::Desk;
use super::support::processes::{Capability, Gunicorn, Plain, by_pid_file, of, without};
use super::support::{Process, eventually};

const HALF: Amount = Amount::Keep(50.0);

fn pool(server: &Gunicorn) -> Desk {
    Desk::new(&[("app", Target::Process(server.target()))])
}

fn plain(server: &Plain) -> Desk {
    Desk::new(&[("batch", server.sacrificial())])
}

#[test]
fn half_of_the_workers_leave_and_come_back_without_a_failed_request() {
    let server = Gunicorn::start(4);
    let prober = server.prober();
    let mut desk = pool(&server);
    assert!(desk.view("app", "usable").detail.ends_with("4 workers"));
    let report = desk.apply(1, "app", Verb::Throttle, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "workers 4 → 2"));
    assert_eq!(server.workers().len(), 2);
    let report = desk.apply(1, "app", Verb::Throttle, Amount::Keep(1.0));
    assert_eq!((report.outcome, server.workers().len()), (Outcome::Applied, 1), "{}", report.detail);
    let report = desk.apply(1, "app", Verb::Throttle, HALF);
    assert_eq!((report.outcome, server.workers().len()), (Outcome::Applied, 2), "{}", report.detail);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    let report = desk.undo(1);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "workers back to 4"));
    assert_eq!((server.workers().len(), desk.journaled().len()), (4, 0));
    let (asked, failed) = prober.end();
    println!("{asked} requests, {failed} failed");
    assert!(asked > 20 && failed == 0, "{failed} of {asked}");
}

#[test]
fn a_worker_that_dies_meanwhile_confuses_nobody() {
    let server = Gunicorn::start(3);
    let mut desk = pool(&server);
    assert_eq!(desk.apply(1, "app", Verb::Throttle, Amount::Keep(67.0)).outcome, Outcome::Applied);
    let die = || nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.workers()[0]), Signal::SIGKILL).unwrap();
    die();
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    die();
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    server.wait(3);
}

#[test]
fn an_operators_number_of_workers_is_left_alone() {
    let server = Gunicorn::start(3);
    let mut desk = pool(&server);
    assert_eq!(desk.apply(1, "app", Verb::Throttle, Amount::Keep(1.0)).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGTTIN);
    server.wait(2);
    let report = desk.undo(1);
    assert_eq!(
        (report.outcome, &*report.detail),
        (Outcome::Overridden, "left alone: workers is 2, not the 1 that was set")
    );
    assert_eq!((server.workers().len(), desk.journaled().len()), (2, 0));
}

#[test]
fn a_crash_or_a_restart_of_gunicorn_leaves_nothing_behind() {
    let mut server = Gunicorn::start(2);
    let mut desk = pool(&server);
    assert_eq!(desk.apply(1, "app", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!((desk.undo(1).outcome, server.workers().len()), (Outcome::Applied, 2));
    let mut desk = pool(&server);
    assert_eq!(desk.apply(2, "app", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.restart();
    let report = desk.undo(2);
    assert_eq!((report.outcome, server.workers().len()), (Outcome::EpochChanged, 2), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_stopped_gunicorn_stays_owed() {
    let server = Gunicorn::start(2);
    let mut desk = pool(&server);
    assert_eq!(desk.apply(1, "app", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGSTOP);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < Duration::from_secs(2), "{:?}", report.took);
    server.process().signal(Signal::SIGCONT);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    server.wait(2);
}

/// The master cannot replace it: whoever took that for somebody's wish would leave the others out for good.
#[test]
fn a_worker_that_is_not_replaced_yet_is_nobodys_wish() {
    let server = Gunicorn::start(3);
    let mut desk = pool(&server);
    assert_eq!(desk.apply(1, "app", Verb::Throttle, Amount::Keep(67.0)).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGSTOP);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(server.workers()[0]), Signal::SIGKILL).unwrap();
    eventually("it is gone", || (server.workers().len() == 1).then_some(()));
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    server.process().signal(Signal::SIGCONT);
    server.wait(2);
    assert_eq!((desk.verify(1).outcome, desk.undo(1).outcome), (Outcome::Applied, Outcome::Applied));
    server.wait(3);
}

#[test]
fn fewer_workers_are_an_operators_where_that_lasts() {
    let server = Gunicorn::start(4);
    let mut desk = pool(&server);
    assert_eq!(desk.apply(1, "app", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGTTOU);
    server.wait(1);
    let report = desk.verify(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    std::thread::sleep(Duration::from_secs(6));
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Overridden, 0), "{}", report.detail);
    assert_eq!(server.workers().len(), 1);
}

/// It has been told to end, and is still there: whoever believed the number would forget it.
#[test]
fn a_worker_at_its_last_request_is_not_forgotten() {
    let server = Gunicorn::start(2);
    let requests = [server.begin_slow_request(), server.begin_slow_request()];
    let mut desk = pool(&server);
    let report = desk.apply(1, "app", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.detail.contains("long request"), "{}", report.detail);
    let ledger = desk.stop();
    let mut desk = Desk::resume(ledger, &[]);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    server.finish();
    for request in requests {
        assert!(request.join().unwrap().is_some(), "no request fails");
    }
    eventually("one worker", || (server.workers().len() == 1).then_some(()));
    assert_eq!((desk.undo(1).outcome, server.workers().len()), (Outcome::Applied, 2));
}

#[test]
fn who_takes_no_signals_for_workers_is_sent_none() {
    let sleeper = Plain::start("sleep", &["600"]);
    let target = target::Process { workers: Some(target::Pool::Gunicorn), ..sleeper.target() };
    let mut desk = Desk::new(&[("app", Target::Process(target))]);
    assert!(desk.view("app", "unsupported").detail.contains("not a gunicorn master"));
    assert_eq!(desk.apply(1, "app", Verb::Throttle, HALF).outcome, Outcome::Unsupported);
    assert_eq!(sleeper.states(), "S");
}

#[test]
fn every_thread_and_child_gets_its_own_niceness_back() {
    let server = Plain::family();
    let mut desk = plain(&server);
    let report = desk.apply(1, "batch", Verb::Throttle, HALF);
    assert_eq!((report.outcome, server.nice().as_str()), (Outcome::Applied, "3 3 8"), "{}", report.detail);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    let report = desk.apply(1, "batch", Verb::Throttle, Amount::Keep(10.0));
    assert_eq!((report.outcome, server.nice().as_str()), (Outcome::Applied, "10 10 15"), "{}", report.detail);
    // A thread that is started meanwhile inherits it.
    server.process().signal(Signal::SIGUSR1);
    eventually("one more", || (server.nice() == "10 10 10 15").then_some(()));
    let mut desk = Desk::resume(desk.stop(), &[]);
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.nice().as_str()), (Outcome::Applied, "0 0 0 5"), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn disk_requests_wait_too_where_that_is_wished() {
    let server = Plain::start("sleep", &["600"]);
    let target = target::Process { idle_io: true, ..server.target() };
    let mut desk = Desk::new(&[("batch", Target::Process(target))]);
    let class = || (server.io_class(), server.nice());
    let before = class();
    let report = desk.apply(1, "batch", Verb::Throttle, HALF);
    assert_eq!((report.outcome, class()), (Outcome::Applied, (3, "3".to_owned())), "{}", report.detail);
    let report = desk.undo(1);
    assert_eq!((report.outcome, class()), (Outcome::Applied, before), "{}", report.detail);
}

#[test]
fn an_operators_niceness_is_left_alone() {
    let server = Plain::start("sleep", &["600"]);
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Throttle, HALF).outcome, Outcome::Applied);
    server.renice(7);
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.nice().as_str()), (Outcome::Overridden, "7"), "{}", report.detail);
}

#[test]
fn a_family_is_frozen_and_thawed() {
    let server = Plain::family();
    let mut desk = plain(&server);
    let report = desk.apply(1, "batch", Verb::Freeze, Amount::Whole);
    assert_eq!((report.outcome, server.states().as_str()), (Outcome::Applied, "TT"), "{}", report.detail);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    // Also where the pid file has gone, and the guardian with it.
    std::fs::remove_file(server.pid_file()).unwrap();
    let mut desk = Desk::resume(desk.stop(), &[]);
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.states().as_str()), (Outcome::Applied, "SS"), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn what_an_operator_has_stopped_is_not_ours_to_continue() {
    let server = Plain::family();
    let child: i32 = server.tree()[1].parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGSTOP).unwrap();
    eventually("a stopped child", || (server.states() == "ST").then_some(()));
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!((desk.undo(1).outcome, server.states().as_str()), (Outcome::Applied, "ST"));
    server.process().signal(Signal::SIGSTOP);
    eventually("all stopped", || (server.states() == "TT").then_some(()));
    let report = desk.apply(2, "batch", Verb::Freeze, Amount::Whole);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Already, 0), "{}", report.detail);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGCONT).unwrap();
    server.process().signal(Signal::SIGCONT);
}

/// The signal waits until its disk request is over: whoever believed its state would leave it to stop then.
#[test]
fn who_does_not_stop_at_once_does_not_stop_later() {
    let server = Plain::uninterruptible();
    let child: i32 = server.tree()[1].parse().unwrap();
    let mut desk = plain(&server);
    let report = desk.apply(1, "batch", Verb::Freeze, Amount::Whole);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
    assert_eq!(server.states(), "SS");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
    eventually("it waits no longer", || (server.tree().len() == 1).then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(server.states(), "S", "{}", report.detail);
}

#[test]
fn whom_an_operator_continues_is_not_stopped_again() {
    let server = Plain::start("sleep", &["600"]);
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGCONT);
    eventually("it goes on", || (server.states() == "S").then_some(()));
    let report = desk.verify(1);
    assert_eq!((report.outcome, server.states().as_str()), (Outcome::Overridden, "S"), "{}", report.detail);
}

#[test]
fn whoever_of_a_family_an_operator_continues_is_not_stopped_again() {
    let server = Plain::family();
    let child: i32 = server.tree()[1].parse().unwrap();
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(2, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGCONT).unwrap();
    server.renice(0);
    for id in [1, 2] {
        let report = desk.verify(id);
        assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    }
    assert_eq!((server.states().as_str(), server.nice().as_str()), ("TS", "0 3 8"));
    assert_eq!((desk.undo(2).outcome, server.states().as_str()), (Outcome::Applied, "SS"));
    assert_eq!((desk.undo(1).outcome, server.nice().as_str()), (Outcome::Applied, "0 0 5"));
}

#[test]
fn who_came_after_it_is_never_touched() {
    let mut server = Plain::start("sleep", &["600"]);
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    server.restart(&["601"]);
    server.process().signal(Signal::SIGSTOP);
    eventually("stopped by an operator", || (server.states() == "T").then_some(()));
    let report = desk.undo(1);
    assert_eq!((report.outcome, server.states().as_str()), (Outcome::EpochChanged, "T"), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn nothing_is_frozen_or_ended_that_nobody_can_do_without() {
    let server = Plain::start("sleep", &["600"]);
    let mut desk = Desk::new(&[("batch", Target::Process(server.target()))]);
    for (id, verb) in [(1, Verb::Freeze), (2, Verb::Terminate)] {
        let report = desk.apply(id, "batch", verb, Amount::Whole);
        assert_eq!(report.outcome, Outcome::Refused);
        assert!(report.detail.contains("sacrificial = true"), "{}", report.detail);
    }
    assert_eq!(server.states(), "S");
}

#[test]
fn what_could_not_be_put_back_as_it_was_is_not_begun() {
    let server = Plain::start("sleep", &["600"]);
    let target = server.sacrificial();
    without(Capability::SysNice, || {
        let mut desk = Desk::new(&[("batch", target)]);
        let detail = desk.view("batch", "usable").detail;
        assert!(detail.contains("may freeze and terminate; cannot throttle: "), "{detail}");
        let report = desk.apply(1, "batch", Verb::Throttle, HALF);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
        assert!(report.detail.contains("CAP_SYS_NICE"), "{}", report.detail);
    });
    assert_eq!(server.nice(), "0");
}

/// Its parent would be stopped, and the child would go on alone.
#[test]
fn a_family_is_frozen_only_where_all_of_it_can_be_continued() {
    let server = Plain::with_a_child_of_another_user();
    let target = server.sacrificial();
    without(Capability::Kill, || {
        let mut desk = Desk::new(&[("batch", target)]);
        let detail = desk.view("batch", "usable").detail;
        assert!(detail.contains("may throttle and terminate; cannot freeze: "), "{detail}");
        let report = desk.apply(1, "batch", Verb::Freeze, Amount::Whole);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
        assert!(report.detail.contains("CAP_KILL"), "{}", report.detail);
    });
    assert_eq!(server.states(), "SS", "nobody was stopped");
}

#[test]
fn a_pid_file_that_outlived_its_process_names_nobody() {
    let server = Plain::start("sleep", &["600"]);
    let another = Process::start("tail", "coreutils", &["-f", "/dev/null"]);
    server.name(&another.id());
    let mut desk = plain(&server);
    let report = desk.apply(1, "batch", Verb::Terminate, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.detail.contains("is `tail` and not `sleep`"), "{}", report.detail);
    for never in ["1".to_owned(), std::process::id().to_string()] {
        server.name(&never);
        let report = desk.apply(2, "batch", Verb::Freeze, Amount::Whole);
        assert_eq!(report.outcome, Outcome::Refused, "{}", report.detail);
    }
    server.name("999999999");
    assert_eq!(desk.apply(3, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Unreachable);
}

#[test]
fn ending_is_asked_for_and_insisted_on_only_where_that_is_declared() {
    let mut server = Plain::start("sleep", &["600"]);
    let mut desk = plain(&server);
    let report = desk.apply(1, "batch", Verb::Terminate, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("ended after SIGTERM") && report.freed_bytes.unwrap() > 0, "{}", report.detail);
    server.kill();

    let stubborn = Plain::start("bash", &["-c", "trap '' TERM; while :; do read -t 1 < <(:); sleep 0.2; done"]);
    eventually("it is deaf", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stubborn.id())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
        (u64::from_str_radix(mask, 16).unwrap() & 1 << 14 != 0).then_some(())
    });
    let target = target::Process { sacrificial: true, kill_after_seconds: Some(1), ..stubborn.target() };
    desk.reconfigure(&[("batch", Target::Process(target))]);
    let began = Instant::now();
    let report = desk.apply(2, "batch", Verb::Terminate, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.detail.starts_with("ended by SIGKILL") && began.elapsed() > Duration::from_secs(1));
}

#[test]
fn ending_is_answered_when_it_is_over_and_keeps_nobody_else_waiting() {
    let stubborn = Plain::start("bash", &["-c", "trap '' TERM; while :; do read -t 1 < <(:); sleep 0.2; done"]);
    let other = Plain::start("sleep", &["600"]);
    let target = target::Process { sacrificial: true, kill_after_seconds: Some(2), ..stubborn.target() };
    let mut desk = Desk::new(&[("stubborn", Target::Process(target.clone())), ("other", other.sacrificial())]);
    desk.order(1, "stubborn", Verb::Terminate, Amount::Whole);
    let frozen = desk.apply(2, "other", Verb::Freeze, Amount::Whole);
    assert_eq!(frozen.outcome, Outcome::Applied, "{}", frozen.detail);
    let report = desk.report(1, Answered::Apply);
    assert!(report.took > frozen.took, "{:?} and {:?}", report.took, frozen.took);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.took < Target::Process(target).place().patience(Verb::Terminate), "{:?}", report.took);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
}

/// As the kernel ends the largest when memory is short.
#[test]
fn whom_a_frozen_process_leaves_behind_is_continued() {
    let mut server = Plain::family();
    let child: i32 = server.tree()[1].parse().unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    server.kill();
    let ledger = desk.stop();
    let mut desk = Desk::resume(ledger, &[]);
    let report = desk.verify(1);
    assert_eq!((report.outcome, state().contains(") T ")), (Outcome::Applied, true), "{}", report.detail);
    let report = desk.undo(1);
    let state = state();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
    // With the last of them continued, nothing is left of that life.
    let ended = matches!(report.outcome, Outcome::Applied | Outcome::EpochChanged);
    assert!(ended && !state.contains(") T "), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn ending_what_is_frozen_leaves_nobody_stopped() {
    let mut server = Plain::family();
    let child: i32 = server.tree()[1].parse().unwrap();
    let mut desk = plain(&server);
    assert_eq!(desk.apply(1, "batch", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied);
    let report = desk.apply(2, "batch", Verb::Terminate, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, desk.journaled().len()), (Outcome::EpochChanged, 0));
    let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), Signal::SIGKILL).unwrap();
    server.kill();
    assert!(!state.contains(") T "), "{state}");
}

#[test]
fn two_controls_never_hold_one_process() {
    let server = Plain::start("sleep", &["600"]);
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("pid");
    std::fs::write(&second, server.id()).unwrap();
    let second = of(by_pid_file(&second, "sleep"));
    let mut desk = Desk::new(&[("one", Target::Process(server.target())), ("two", Target::Process(second))]);
    assert_eq!(desk.apply(1, "one", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let report = desk.apply(2, "two", Verb::Throttle, HALF);
    assert_eq!((report.outcome, server.nice().as_str()), (Outcome::Refused, "3"), "{}", report.detail);
    assert_eq!((desk.undo(1).outcome, server.nice().as_str()), (Outcome::Applied, "0"));
}

/// Or the ladder would go on while a step is still being done.
#[test]
fn a_step_is_waited_for_as_long_as_its_control_may_take() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let text = "
level = 'maximum'
[control.process.batch]
pid_file = '/run/batch.pid'
command = 'batch'
sacrificial = true
kill_after = '45s'
[control.haproxy.edge]
socket = '/run/haproxy/admin.sock'
[rule.mine]
when = 'memory.available_percent < 5%'
steps = [{ throttle = 'edge', to = '50%' }, { terminate = 'batch' }]
";
    std::fs::write(&file, text).unwrap();
    let settings = config::load(&Source::file(file)).unwrap_or_else(|why| panic!("{why}"));
    let mine = settings.policy.rules.iter().find(|rule| &*rule.name == "mine").unwrap();
    let patience: Vec<_> = mine.steps.iter().map(|step| step.patience.as_secs()).collect();
    assert!(patience[0] < 15 && (50..60).contains(&patience[1]), "{patience:?}");
}
