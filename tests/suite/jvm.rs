//! The JVM control against real JVMs: memory comes back where the collector is G1, nobody is ended by a question.

use nix::sys::signal::Signal;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::processes::{Plain, by_pid_file, jvm, jvm_with_tmp};

const MIB: i64 = 1 << 20;

fn desk(server: &Plain, command: &str) -> Desk {
    let locator = by_pid_file(&server.pid_file(), command);
    Desk::new(&[("app", Target::Jvm(target::Jvm { locator }))])
}

fn traces() -> Vec<String> {
    let files = std::fs::read_dir("/tmp").unwrap().flatten();
    files
        .filter_map(|file| file.file_name().into_string().ok())
        .filter(|name| name.starts_with(".attach_pid"))
        .collect()
}

#[test]
fn g1_gives_memory_back_again_and_again() {
    let server = jvm(&["-XX:+UseG1GC"], 120);
    let mut desk = desk(&server, "java");
    assert!(desk.view("app", "usable").detail.contains("is a JVM"));
    let report = desk.apply(1, "app", Verb::Release, Amount::Whole);
    println!("{}", report.detail);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 60 * MIB, "{}", report.detail);
    let report = desk.apply(2, "app", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::NoEffect, "there is nothing left to give: {}", report.detail);
    let mine = format!(".attach_pid{}", server.id());
    assert!(!traces().contains(&mine) && desk.journaled().is_empty());
    server.process().signal(Signal::SIGSTOP);
    eventually("a stopped JVM", || (server.states() == "T").then_some(()));
    let report = desk.apply(3, "app", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::TimedOut, "{}", report.detail);
    assert!(report.detail.contains("is stopped"), "{}", report.detail);
    server.process().signal(Signal::SIGCONT);
}

#[test]
fn another_collector_is_not_asked_in_vain() {
    let server = jvm(&["-XX:+UseSerialGC"], 10);
    let report = desk(&server, "java").apply(1, "app", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert!(report.detail.contains("SerialGC") && report.detail.contains("-XX:+UseG1GC"), "{}", report.detail);
}

#[test]
fn nobody_is_ended_by_the_question() {
    let sleeper = Plain::start("sleep", &["600"]);
    let report = desk(&sleeper, "sleep").apply(1, "app", Verb::Release, Amount::Whole);
    assert_eq!((report.outcome, sleeper.states().as_str()), (Outcome::Refused, "S"), "{}", report.detail);
    assert!(report.detail.contains("is not a JVM"), "{}", report.detail);
    // -Xrs leaves SIGQUIT to the kernel, which ends the JVM.
    let deaf = jvm(&["-XX:+UseG1GC", "-Xrs"], 10);
    let report = desk(&deaf, "java").apply(1, "app", Verb::Release, Amount::Whole);
    assert_eq!((report.outcome, deaf.states().as_str()), (Outcome::Refused, "S"), "{}", report.detail);
    assert!(report.detail.contains("-Xrs"), "{}", report.detail);
}

/// Its pid file named a JVM when that was asked.
#[tokio::test]
async fn who_is_sent_the_question_is_a_jvm_itself() {
    let sleeper = Plain::start("sleep", &["600"]);
    let target = Target::Jvm(target::Jvm { locator: by_pid_file(&sleeper.pid_file(), "sleep") });
    let outcome = sleeper.released_unasked(&target).await;
    assert_eq!((outcome, sleeper.is_alive()), (Err(Outcome::Refused), true));
}

/// Each question is a dump of all its threads.
#[test]
fn a_jvm_that_lets_nobody_in_is_asked_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let file = format!("-XX:LogFile={}", log.display());
    let told = ["-XX:+UnlockDiagnosticVMOptions", "-XX:+LogVMOutput", &file];
    let deaf = jvm(&[&["-XX:+UseG1GC", "-XX:+DisableAttachMechanism"], &told[..]].concat(), 10);
    let dumps = || std::fs::read_to_string(&log).unwrap_or_default().matches("Full thread dump").count();
    let mut desk = desk(&deaf, "java");
    for id in 1..=3 {
        let report = desk.apply(id, "app", Verb::Release, Amount::Whole);
        assert_eq!(report.outcome, Outcome::Refused, "{}", report.detail);
        assert!(report.detail.contains("-XX:+DisableAttachMechanism"), "{}", report.detail);
    }
    assert_eq!(dumps(), 1);
    let another = jvm(&["-XX:+UseG1GC"], 120);
    deaf.name(&another.id());
    let report = desk.apply(4, "app", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    deaf.name(&deaf.id());
    assert_eq!(desk.apply(5, "app", Verb::Release, Amount::Whole).outcome, Outcome::Refused);
}

/// It is short of CPU time, or in the middle of a collection.
#[test]
fn a_jvm_that_listens_after_all_is_asked_again() {
    let server = jvm(&["-XX:+UseG1GC"], 120);
    let mut desk = desk(&server, "java");
    let stop = server.id();
    let stopped = std::thread::spawn(move || {
        let wish = std::path::PathBuf::from(format!("/tmp/.attach_pid{stop}"));
        eventually("it is about to be asked", || wish.exists().then_some(()));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(stop.parse().unwrap()), Signal::SIGSTOP).unwrap();
    });
    let report = desk.apply(1, "app", Verb::Release, Amount::Whole);
    stopped.join().unwrap();
    println!("{}", report.detail);
    server.process().signal(Signal::SIGCONT);
    let report = desk.apply(2, "app", Verb::Release, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
}

/// Whatever a JVM's user makes of its /tmp, nothing is made, nor anybody asked, outside of the JVM's own root directory.
#[test]
fn a_tmp_that_is_a_link_leads_nowhere_outside_of_the_root() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Not below /tmp, which is what is linked.
    let trap = tempfile::tempdir_in("/var/tmp").unwrap();
    let changed = || std::fs::metadata(trap.path()).unwrap().modified().unwrap();
    let path = trap.path().to_str().unwrap();
    let up = "../".repeat(20);
    for link in [path.to_owned(), format!("{up}{}", &path[1..])] {
        let server = jvm_with_tmp("hidden", 120);
        // It was another place until now, as the JVM found it when it started.
        let inside = server.path(&format!("root{path}"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::remove_file(server.path("root/tmp")).unwrap();
        std::os::unix::fs::symlink(&link, server.path("root/tmp")).unwrap();
        let (before, within) = (changed(), std::fs::metadata(&inside).unwrap().modified().unwrap());
        let report = desk(&server, "java").apply(1, "app", Verb::Release, Amount::Whole);
        assert_eq!(report.outcome, Outcome::Applied, "{link}: {}", report.detail);
        assert_eq!(changed(), before, "{link} led outside");
        assert_ne!(std::fs::metadata(&inside).unwrap().modified().unwrap(), within, "it was asked within its root");
    }
    // Through another process, no link leads anywhere.
    for link in [format!("/proc/1/root{path}"), format!("/proc/{}/cwd/{up}{}", std::process::id(), &path[1..])] {
        let server = jvm_with_tmp("hidden", 10);
        std::fs::remove_file(server.path("root/tmp")).unwrap();
        std::os::unix::fs::symlink(&link, server.path("root/tmp")).unwrap();
        let before = changed();
        let report = desk(&server, "java").apply(1, "app", Verb::Release, Amount::Whole);
        assert_eq!(changed(), before, "{link} led outside");
        assert!(matches!(report.outcome, Outcome::Unreachable | Outcome::Refused), "{link}: {}", report.detail);
        assert!(report.detail.contains("/tmp"), "{link}: {}", report.detail);
        assert_eq!(server.states(), "S", "it lives");
    }
}
