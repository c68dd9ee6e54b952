//! The binary as a user runs it, against a server with a made-up node behind it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use node_guardian::events::Event;
use node_guardian::inbox::Message;
use node_guardian::policy::event::{Event as Decision, Mode};
use node_guardian::policy::mitigation::Outcome;
use node_guardian::policy::view::Phase;
use node_guardian::status::Configuration;

use crate::http::house::House;

fn guardian(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_node-guardian")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn status_tells_by_its_exit_code_too() {
    let house = House::open();
    let socket = house.socket.to_str().unwrap();
    let (code, page, complaint) = said(&guardian(&["status", "--socket", socket]));
    assert_eq!((code, complaint.as_str()), (1, ""), "{page}");
    assert!(page.starts_with("web-3: EMERGENCY for 42s, 1 in force\n"), "{page}");
    assert!(page.contains("#7 throttle edge to 50% for 42s") && !page.contains('\x1b'), "{page}");
    let url = format!("http://127.0.0.1:{}", house.tcp.port());
    let (code, json, complaint) = said(&guardian(&["status", "--json", "--socket", "/nowhere", "--url", &url]));
    assert_eq!((code, complaint.as_str()), (1, ""));
    let status: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(status["in_force"][0]["rule"], "memory-critical");
    house.publish(|snapshot| snapshot.view.mode = Mode::Normal);
    assert_eq!(said(&guardian(&["status", "--url", &url])).0, 3, "something is in force");
    house.publish(|snapshot| snapshot.view.actions.clear());
    assert_eq!(said(&guardian(&["status", "--json", "--url", &url])).0, 0);
    house.publish(|snapshot| {
        snapshot.configuration = Arc::new(Configuration { refused: Some("x".into()), ..Configuration::default() })
    });
    let (code, page, _) = said(&guardian(&["status", "--url", &url]));
    assert!(code == 3 && page.lines().nth(1).unwrap().contains("configuration is refused"), "{page}");
    house.publish(|snapshot| snapshot.view.mode = Mode::Recovering);
    assert_eq!(said(&guardian(&["status", "--socket", socket])).0, 1);
}

#[test]
fn nobody_there_is_one_sentence_and_no_output() {
    for arguments in [vec!["status", "--json"], vec!["explain"], vec!["undo"]] {
        let output = guardian(&[&arguments[..], &["--socket", "/nowhere/admin.sock"]].concat());
        let (code, out, complaint) = said(&output);
        assert_eq!((code, out.as_str()), (69, ""), "{arguments:?}");
        assert!(complaint.contains("/nowhere/admin.sock: no such socket"), "{complaint}");
        assert!(complaint.contains("systemctl status node-guardian") && complaint.lines().count() == 1, "{complaint}");
    }
    assert_eq!(said(&guardian(&["status", "--url", "ftp://x"])).0, 69);
}

/// With a `/run` of its own, whatever guards or guarded this machine.
fn where_nothing_runs(arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", "mount -t tmpfs none /run && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_node-guardian")]);
    command.args(arguments).output().unwrap()
}

/// Whoever was first at the usual port could say that all is well, and be handed the token.
#[test]
fn whoever_listens_at_the_usual_port_is_not_asked() {
    // Where somebody else has it already, he is not asked either.
    let trap = TcpListener::bind("127.0.0.1:9977").ok();
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "open-sesame").unwrap();
    let token = token.to_str().unwrap();
    for arguments in [&["status"][..], &["status", "--alive"], &["undo", "--token-file", token], &["explain"]] {
        let (code, out, complaint) = said(&where_nothing_runs(arguments));
        assert_eq!((code, out.as_str()), (69, ""), "{arguments:?}: {complaint}");
        for part in ["/run/node-guardian/admin.sock: no such socket", "journalctl -u node-guardian", "--url http://"] {
            assert!(complaint.contains(part), "no {part:?} in {complaint}");
        }
    }
    if let Some(trap) = trap {
        trap.set_nonblocking(true).unwrap();
        assert_eq!(trap.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody knocked");
    }
}

#[test]
fn a_token_file_is_no_place_to_wait() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("token");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let arguments = ["undo", "--url", "http://127.0.0.1:1", "--token-file", pipe.to_str().unwrap()];
    let mut child = Command::new(env!("CARGO_BIN_EXE_node-guardian"))
        .args(arguments)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let code = crate::support::eventually("it does not wait for the pipe", || child.try_wait().unwrap()).code();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut told).unwrap();
    assert!(code == Some(69) && told.contains("not a regular file"), "{code:?} {told}");
}

#[test]
fn explain_takes_one_rule_or_all() {
    let house = House::open();
    let socket = house.socket.to_str().unwrap();
    let (code, all, _) = said(&guardian(&["explain", "--socket", socket]));
    assert_eq!(code, 0);
    assert!(all.starts_with("memory-critical (emergency, priority 100): firing for 42s, fired 2 times\n"), "{all}");
    assert_eq!(said(&guardian(&["explain", "memory-critical", "--socket", socket])).1, all);
    let (code, out, complaint) = said(&guardian(&["explain", "memory-critcal", "--socket", socket]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(complaint.contains("did you mean memory-critical?"), "{complaint}");
}

#[test]
fn metrics_needs_no_daemon() {
    let (code, list, _) = said(&guardian(&["metrics"]));
    assert_eq!(code, 0);
    assert!(list.lines().any(|line| line.starts_with("memory.available_percent ")), "{list}");
    let (_, json, _) = said(&guardian(&["metrics", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["metrics"].as_array().unwrap().len() + 1, list.lines().count());
}

/// Plays the loop: takes the wish from the inbox, answers as a control would, and says that the order is on the disk.
fn loop_answers(house: &mut House, answer: impl FnOnce(&mut House)) {
    loop {
        if let Some(Message::Order { heard, .. }) = house.inbox.take() {
            answer(house);
            return heard.send(Ok(())).unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn release_waits_for_what_comes_of_it() {
    let mut house = House::open();
    let socket = house.socket.to_str().unwrap().to_owned();
    let undo = |arguments: &'static [&'static str]| {
        let socket = socket.clone();
        std::thread::spawn(move || said(&guardian(&[arguments, &["--socket", &socket]].concat())))
    };

    let stubborn = undo(&["undo", "7", "--wait", "300ms"]);
    loop_answers(&mut house, |house| house.publish(|snapshot| snapshot.view.actions[0].phase = Phase::Owed));
    let (code, _, complaint) = stubborn.join().unwrap();
    assert_eq!(code, 1);
    assert!(complaint.contains("still not undone: #7 throttle edge to 50% (owed)"), "{complaint}");

    let obliging = undo(&["undo"]);
    loop_answers(&mut house, |house| {
        let mitigation = house.board.read(|snapshot| snapshot.view.actions[0].mitigation.clone());
        let (id, outcome, detail) = (house.board.read(|s| s.view.actions[0].id), Outcome::Applied, "50 -> 100".into());
        let took = Duration::from_millis(2);
        house.events.emit(1, Event::Policy(Decision::Undone { id, mitigation, outcome, detail, took }));
        house.publish(|snapshot| snapshot.view.actions.clear());
    });
    let (code, out, complaint) = obliging.join().unwrap();
    assert_eq!((code, complaint.as_str()), (0, ""));
    assert_eq!(out, "action 7 throttle edge to 50%: undone, applied in 2.0ms; 50 -> 100\n");

    let nothing = undo(&["undo"]);
    loop_answers(&mut house, |_| ());
    assert_eq!(nothing.join().unwrap(), (0, "nothing is in force\n".into(), String::new()));
    assert_eq!(said(&guardian(&["undo", "8", "--socket", &socket])).0, 1);
}

#[test]
fn check_says_what_can_never_or_always_hold_on_this_node() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let text = "[rule.elsewhere]\nwhen = \"disk['/nope'].used_percent > 90%\"\n\
                [rule.unplugged]\nwhen = \"network['nope0'].receive_rate > 1MiB/s\"\n\
                [rule.always]\nwhen = \"memory.available_bytes < 900TiB\"\nseverity = \"emergency\"\n\
                [rule.nobody]\nwhen = \"memory.available_percent < 9%\"\nsteps = [{ throttle = \"*\", to = \"50%\" }]\n";
    std::fs::write(&file, text).unwrap();
    let (code, page, _) = said(&guardian(&["check", file.to_str().unwrap()]));
    assert_eq!(code, 0, "{page}");
    for (line, part) in [(2, "/nope"), (4, "no interface is named nope0"), (6, "always holds"), (10, "does nothing")] {
        let place = format!("config.toml:{line}:");
        assert!(page.lines().any(|told| told.contains(&place) && told.contains(part)), "{line} {part}: {page}");
    }
    assert!(page.contains("4 warnings"), "{page}");
}
