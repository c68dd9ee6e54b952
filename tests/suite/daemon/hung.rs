//! A disk that does not answer, and a thread that hangs: who waits for it, who goes on, and what is told.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::support::hang::Hang;
use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node, short_of_memory};
use super::super::support::processes::Plain;
use super::manager::Manager;

/// Below 7 % of available memory, and no longer above 8 %: before the other rule clears.
fn very_short_of_memory(steps: &str) -> String {
    short_of_memory(steps)
        .replace("[rule.short]", "[rule.very-short]")
        .replace("< 10%", "< 7%")
        .replace("> 20%", "> 8%")
}

fn outcomes(daemon: &Daemon, verb: &str) -> Vec<String> {
    let events = daemon.events();
    let acted = events.iter().filter(|event| event.name() == "acted" && event.field("verb") == Some(verb));
    acted.map(|event| event.field("outcome").unwrap().to_owned()).collect()
}

/// What waited for a disk while the node was short of memory is not done when the node has recovered meanwhile.
#[test]
fn nothing_is_ended_because_a_disk_was_slow() {
    let batch = Plain::start("sleep", &["600"]);
    let pid_file = batch.pid_file();
    let control = format!(
        "[control.process.batch]\npid_file = \"{}\"\ncommand = \"sleep\"\nsacrificial = true\n",
        pid_file.display()
    );
    let steps = r#"{ throttle = "batch", to = "50%", settle = "300ms" }, { terminate = "batch" }"#;
    let node = Node::new(&(control + &short_of_memory(steps)));
    node.edit("[sampling]", "level = \"maximum\"\n[sampling]");
    let mut daemon = node.start();
    daemon.until_control("batch", "usable");
    let hang = Hang::of_disk(daemon.pid());
    node.set_available(5);
    daemon.until_told("step", "throttle batch");
    // Until the next step would be taken, and not until the record is given up.
    sleep(Duration::from_secs(1));
    node.set_available(60);
    daemon.until_told("acted", "its undo could not be recorded within 2 s");
    assert_eq!(outcomes(&daemon, "throttle"), ["expired"]);
    daemon.until_told("journal_slow", "waiting for the disk of");
    hang.end();
    daemon.until_told("journal_answers", "answers again");
    daemon.until_calm();
    assert_eq!(outcomes(&daemon, "terminate").iter().filter(|outcome| *outcome != "expired").count(), 0);
    assert_eq!((batch.states().as_str(), batch.nice().as_str()), ("S", "0"));

    node.set_available(5);
    daemon.until_told("acted", "throttle batch to 50%: applied");
    daemon.until_told("acted", "terminate batch: applied");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_disk_that_does_not_answer_harms_no_lease_holds_up_no_undo_and_ends_nobody() {
    let (edge, inner) = (Haproxy::with_leases_of("8s"), Haproxy::start());
    let before = inner.face();
    let rules = short_of_memory(r#"{ shed = "edge", share = "50%" }"#)
        + &very_short_of_memory(r#"{ throttle = "inner", to = "50%" }, { throttle = "edge", to = "50%" }"#);
    let mut node = Node::new(&(edge.section("edge", "admin.sock") + &inner.section("inner", "admin.sock") + &rules));
    node.environment.push(("WATCHDOG_USEC", "600000".into()));
    let manager = Manager::of(&mut node);
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    daemon.until_control("inner", "usable");
    node.set_available(9);
    daemon.until_in_force(&["shed edge by 50%"]);
    node.set_available(5);
    daemon.until("the throttle", |_| (inner.limit("be/s1") == "4").then_some(()));

    let hang = Hang::of_disk(daemon.pid());
    let began = Instant::now();
    node.set_available(9);
    daemon.until("the undo", |_| (inner.face() == before).then_some(()));
    let told = daemon.until_told("undone", "throttle inner");
    assert_eq!(told.field("outcome"), Some("applied"), "{told:?}");
    while began.elapsed() < Duration::from_secs(12) {
        assert!(edge.ask("show table ng_lease").contains("key=web"), "the lease lapsed");
        assert_eq!(daemon.get("/livez").status, 200);
        manager.until("WATCHDOG=1");
    }
    daemon.until_told("journal_slow", "waiting for the disk of");
    let spots = daemon.status()["blind_spots"].to_string();
    assert!(spots.contains("nothing new is put in force until it answers"), "{spots}");
    hang.end();
    daemon.until_told("journal_answers", "answers again");
    assert!(!daemon.status()["blind_spots"].to_string().contains("nothing new"));
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(daemon.stop(), 0);
    assert!(!edge.ask("show table ng_lease").contains("key=web"));
}

/// What stands is undone at once, though a stronger one waits for its record; that one is never made, however late it gets
/// there.
#[test]
fn an_undo_waits_for_no_record_of_what_is_asked_for_at_the_same_knob() {
    let edge = Haproxy::start();
    let before = edge.face();
    let rules = short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)
        + &very_short_of_memory(r#"{ throttle = "edge", to = "25%" }"#);
    let node = Node::new(&(edge.section("edge", "admin.sock") + &rules));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    node.set_available(9);
    daemon.until_in_force(&["throttle edge to 50%"]);
    let hang = Hang::of_disk(daemon.pid());
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 25% (applying)"]);
    let asked = Instant::now();
    let undoing = daemon.order("/undo", "");
    daemon.until("the undo", |_| (edge.face() == before).then_some(()));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    daemon.until_told("undone", "throttle edge to 50%");
    assert_eq!(undoing.join().unwrap().status, 202);
    hang.end();
    let ticks = daemon.ticks();
    daemon.until("it stays so", |daemon| {
        assert_eq!(edge.face(), before);
        (daemon.ticks() > ticks + 20).then_some(())
    });
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(outcomes(&daemon, "throttle"), ["applied", "expired"]);
    assert_eq!(daemon.stop(), 0);
}

/// What was never recorded has changed nothing: its undo is answered at once.
#[test]
fn an_undo_of_what_waits_for_its_record_is_answered_at_once() {
    let edge = Haproxy::start();
    let before = edge.face();
    let control = edge.section("edge", "admin.sock");
    let node = Node::new(&(control + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    let hang = Hang::of_disk(daemon.pid());
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50% (applying)"]);
    let asked = Instant::now();
    let undoing = daemon.order("/undo", "");
    daemon.until_told("undone", "throttle edge");
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(undoing.join().unwrap().status, 202);
    hang.end();
    let ticks = daemon.ticks();
    daemon.until("it stays so", |daemon| {
        assert_eq!(edge.face(), before);
        (daemon.ticks() > ticks + 20).then_some(())
    });
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((outcomes(&daemon, "throttle"), daemon.stop()), (vec!["expired".to_owned()], 0));
}

/// What was undone while nothing could be recorded is not undone again by the next start: it looks, and finds it gone.
#[test]
fn a_kill_while_the_disk_does_not_answer_leaves_nothing_behind() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 50%"]);
    let hang = Hang::of_disk(daemon.pid());
    node.set_available(60);
    daemon.until("the undo", |_| (edge.face() == before).then_some(()));
    daemon.until_told("undone", "throttle edge");
    // Whoever traces it is told of its end before we are.
    daemon.signal(Signal::SIGKILL);
    hang.end();
    daemon.wait();
    edge.ask("set maxconn server be/s1 70");
    let mut daemon = node.start();
    daemon.until_calm();
    assert_eq!(edge.limit("be/s1"), "70", "what an operator set meanwhile stays");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_thread_that_hangs_is_named_and_the_watchdog_is_not_fed() {
    let mut node = Node::new("");
    node.environment.push(("WATCHDOG_USEC", "600000".into()));
    let manager = Manager::of(&mut node);
    let mut daemon = node.start();
    manager.until("WATCHDOG=1");
    assert_eq!(daemon.get("/livez").status, 200);
    let hang = Hang::of_thread(daemon.pid(), "controls");
    let told = daemon.until_told("thread_hangs", "the thread that acts (controls) has hung for");
    assert!(daemon.get("/livez").problem(503).contains("(controls) has hung"), "{told:?}");
    assert_eq!(daemon.get("/health").json()["status"], "fail");
    let ticks = daemon.ticks();
    daemon.until("the loop goes on", |daemon| (daemon.ticks() > ticks).then_some(()));
    while manager.hear(Duration::from_millis(100)).is_some() {}
    assert_eq!(manager.hear(Duration::from_millis(900)), None, "it is not fed");
    hang.end();
    daemon.until_told("threads_live", "run again");
    manager.until("WATCHDOG=1");
    assert_eq!(daemon.get("/livez").status, 200);
    assert_eq!(daemon.stop(), 0);
}

/// What fails at once, however often it is tried, is not tried at once again; and only a record that was taken says that the
/// disk is well.
#[test]
fn a_broken_disk_is_told_for_as_long_as_it_is_and_not_asked_without_end() {
    let edge = Haproxy::start();
    let before = edge.face();
    let node =
        Node::new(&(edge.section("edge", "admin.sock") + &short_of_memory(r#"{ throttle = "edge", to = "50%" }"#)));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    let broken = Hang::with_broken_disk(daemon.pid());
    node.set_available(5);
    daemon.until_told("journal_failed", "Input/output error");
    sleep(Duration::from_secs(4));
    let tries = outcomes(&daemon, "throttle");
    assert!((1..=8).contains(&tries.len()) && tries.iter().all(|outcome| outcome == "refused"), "{tries:?}");
    assert_eq!(daemon.told("journal_failed").len(), 1, "{:?}", daemon.told("journal_failed"));
    assert!(daemon.told("journal_works").is_empty(), "{:?}", daemon.told("journal_works"));
    let page = node.ask(&["status"]);
    let text = page.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(page.code != 0 && text.contains("Input/output error"), "{}", page.out);
    assert!(daemon.get("/metrics").body.contains("\nnode_guardian_journal_ok 0\n"));
    assert_eq!(edge.face(), before);
    broken.end();
    daemon.until_told("journal_works", "made again");
    daemon.until_in_force(&["throttle edge to 50%"]);
    assert_eq!(daemon.told("journal_works").len(), 1);
    node.set_available(60);
    daemon.until_calm();
    assert_eq!(edge.face(), before);
    assert_eq!(daemon.stop(), 0);
}
