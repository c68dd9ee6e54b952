//! The JVM control against real JVMs: memory comes back where the collector is G1, nobody is ended by a question.

use nix::sys::signal::Signal;
use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::desk::Desk;
use super::support::eventually;
use super::support::processes::{Plain, by_pid_file, jvm};

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
    assert!(report.detail.contains("is no JVM"), "{}", report.detail);
    // -Xrs leaves SIGQUIT to the kernel, which ends the JVM.
    let deaf = jvm(&["-XX:+UseG1GC", "-Xrs"], 10);
    let report = desk(&deaf, "java").apply(1, "app", Verb::Release, Amount::Whole);
    assert_eq!((report.outcome, deaf.states().as_str()), (Outcome::Refused, "S"), "{}", report.detail);
    assert!(report.detail.contains("-Xrs"), "{}", report.detail);
}
