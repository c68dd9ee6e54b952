//! The app control against both applications, over both bindings: leases given, renewed, adjusted and ended, memory
//! measured, and applications that hang, restart, or are not what they seem.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use node_guardian::control::target::{self, Target};
use node_guardian::control::{Control, DEADLINE, LEASE};
use node_guardian::policy::mitigation::{Amount, Answered, Outcome, Verb};
use serde_json::{Value, json};

use crate::support::app::{App, LANGUAGES, Language};
use crate::support::desk::Desk;
use crate::support::eventually;

const MIB: i64 = 1 << 20;
const TO_40: Amount = Amount::Keep(40.0);

fn desk(target: target::App) -> Desk {
    Desk::new(&[("api", Target::App(target))])
}

#[test]
fn a_throttle_is_a_lease_that_is_renewed_adjusted_and_ended() {
    for language in LANGUAGES {
        let app = App::start(language);
        for target in [app.target(), app.over_http()] {
            let what = format!("{language:?} {:?}", target.address);
            let mut desk = desk(target);
            let report = desk.apply(1, "api", Verb::Throttle, TO_40);
            assert_eq!(report.outcome, Outcome::Applied, "{what}: {}", report.detail);
            assert!(report.detail.starts_with("lease ng-") && report.detail.ends_with(" 0 → 60"), "{}", report.detail);
            assert_eq!((app.leases(), app.effective()), (vec!["ng 60".to_owned()], 60), "{what}");
            let left = || app.ask(&json!({"op": "status"}))["leases"][0]["ttl_ms"].as_u64().unwrap();
            let before = left();
            assert!(before <= LEASE.as_millis() as u64 && before > 20_000, "{before}");
            eventually("time passes", || (left() + 20 < before).then_some(()));
            assert_eq!(desk.verify(1).outcome, Outcome::Applied);
            assert!(left() > before - 20, "renewed: {} of {before}", left());

            let report = desk.apply(1, "api", Verb::Throttle, Amount::Keep(70.0));
            assert_eq!((report.outcome, app.leases()), (Outcome::Applied, vec!["ng 30".to_owned()]), "{what}");
            let report = desk.undo(1);
            assert_eq!(report.outcome, Outcome::Applied, "{what}: {}", report.detail);
            assert_eq!((app.leases().len(), app.effective(), desk.journaled().len()), (0, 0, 0), "{what}");
        }
    }
}

#[test]
fn other_agents_leases_are_not_ours() {
    let app = App::start(Language::Python);
    app.operator(80);
    let mut desk = desk(app.target());
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied, "weaker, and taken all the same");
    assert_eq!((app.leases(), app.effective()), (vec!["operator 80".to_owned(), "ng 60".to_owned()], 80));
    app.operator(20);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(app.effective(), 60);
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!(app.leases(), ["operator 20"]);
}

#[test]
fn two_actions_have_two_leases() {
    let app = App::start(Language::Rust);
    let api = |name| (name, Target::App(app.target()));
    let mut desk = Desk::new(&[api("api"), api("again")]);
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    assert_eq!(desk.apply(2, "again", Verb::Throttle, Amount::Keep(90.0)).outcome, Outcome::Applied);
    assert_eq!(desk.apply(3, "api", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    let effective = |desk: &mut Desk, id| (desk.undo(id).outcome, app.effective());
    assert_eq!(app.effective(), 100);
    assert_eq!(effective(&mut desk, 3), (Outcome::Applied, 60));
    assert_eq!(effective(&mut desk, 1), (Outcome::Applied, 10));
    assert_eq!(effective(&mut desk, 2), (Outcome::Applied, 0));
}

#[test]
fn a_lease_of_ours_that_somebody_changed_is_theirs() {
    let app = App::start(Language::Rust);
    let mut desk = desk(app.target());
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    let status = app.ask(&json!({"op": "status"}));
    app.ask(&json!({"op": "throttle", "lease": status["leases"][0]["lease"], "level": 99}));
    let report = desk.undo(1);
    assert_eq!((report.outcome, app.effective()), (Outcome::Overridden, 99), "{}", report.detail);
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_lease_that_has_lapsed_is_given_again_only_where_it_is_wanted() {
    let app = App::start(Language::Python);
    let mut desk = desk(app.target());
    let lapse = || {
        let status = app.ask(&json!({"op": "status"}));
        app.ask(&json!({"op": "throttle", "lease": status["leases"][0]["lease"], "level": 0}));
        assert_eq!(app.effective(), 0);
    };
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    lapse();
    // The next guardian cannot know whether it lapsed or was cleared.
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!((desk.verify(1).outcome, app.effective()), (Outcome::Applied, 60));
    lapse();
    let mut desk = Desk::resume(desk.stop(), &[]);
    let report = desk.let_lapse(1);
    assert_eq!((report.outcome, &*report.detail, app.effective()), (Outcome::EpochChanged, "it lapsed", 0));
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_lease_that_somebody_ended_before_its_time_is_not_given_again() {
    let app = App::start(Language::Rust);
    for ends in [Desk::verify, Desk::let_lapse] {
        let mut desk = desk(app.target());
        assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
        let status = app.ask(&json!({"op": "status"}));
        app.ask(&json!({"op": "throttle", "lease": status["leases"][0]["lease"], "level": 0}));
        let report = ends(&mut desk, 1);
        println!("{}", report.detail);
        assert_ne!(report.outcome, Outcome::Applied, "{}", report.detail);
        assert_eq!((app.effective(), desk.journaled().len()), (0, 0));
    }
}

#[test]
fn a_throttled_application_refuses_at_once_and_serves_the_rest() {
    for language in LANGUAGES {
        let app = App::with(language, "--limit 4 --work 0.8");
        let mut desk = desk(app.target());
        assert_eq!(desk.apply(1, "api", Verb::Throttle, Amount::Keep(50.0)).outcome, Outcome::Applied);
        let (tell, told) = mpsc::channel();
        for visitor in 0..4 {
            let (tell, port) = (tell.clone(), app.port());
            std::thread::spawn(move || {
                let began = Instant::now();
                tell.send((visit(port, &format!("/{visitor}")), began.elapsed())).unwrap();
            });
        }
        let answers: Vec<(u16, Duration)> = (0..4).map(|_| told.recv().unwrap()).collect();
        let codes: Vec<u16> = answers.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [503, 503, 200, 200], "{language:?}: the refusals come first: {answers:?}");
        assert_eq!(desk.apply(2, "api", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
        assert_eq!((visit(app.port(), "/1"), visit(app.port(), "/health")), (503, 200), "{language:?}");
        assert_eq!((desk.undo(2).outcome, desk.undo(1).outcome), (Outcome::Applied, Outcome::Applied));
        assert_eq!(visit(app.port(), "/1"), 200);
    }
}

fn visit(port: u16, path: &str) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_is_given_back_as_the_resident_set_shows() {
    for language in LANGUAGES {
        let app = App::with(language, "--fill 32");
        let mut desk = desk(app.target());
        for (id, verb, tier) in [(1, Verb::Release, "buffers"), (2, Verb::Flush, "pages")] {
            let report = desk.apply(id, "api", verb, Amount::Whole);
            println!("{language:?}: {}", report.detail);
            assert_eq!(report.outcome, Outcome::Applied, "{language:?}: {}", report.detail);
            assert!(report.freed_bytes.unwrap() > 24 * MIB, "{language:?}: {}", report.detail);
            assert!(report.detail.starts_with(&format!("emptied {tier}: resident")), "{}", report.detail);
            let report = desk.apply(id + 2, "api", verb, Amount::Whole);
            assert_eq!(report.outcome, Outcome::NoEffect, "{language:?}: nothing is left: {}", report.detail);
        }
        assert!(desk.journaled().is_empty());
    }
}

#[test]
fn over_http_a_claim_is_a_claim() {
    let app = App::with(Language::Python, "--fill 32");
    let mut desk = desk(app.over_http());
    let report = desk.apply(1, "api", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, report.freed_bytes), (Outcome::Applied, None));
    assert!(
        report.detail.contains("32.0MiB as it says") && report.detail.contains("nothing is measured"),
        "{report:?}"
    );
}

#[test]
fn a_flush_in_the_background_is_waited_for() {
    let app = App::with(Language::Rust, "--fill 32 --slow 0.7");
    let mut desk = desk(app.target());
    let report = desk.apply(1, "api", Verb::Flush, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert!(report.freed_bytes.unwrap() > 24 * MIB && report.took > Duration::from_millis(700), "{report:?}");
}

#[test]
fn only_the_tiers_of_the_control_are_emptied() {
    let app = App::with(Language::Rust, "--fill 2");
    let mut desk = desk(target::App { tiers: vec!["buffers".into(), "page".into()], ..app.target() });
    let report = desk.apply(1, "api", Verb::Flush, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Unsupported);
    assert!(report.detail.contains("pages (lossy)") && report.detail.contains("correct `tiers`"), "{}", report.detail);
    assert_eq!(desk.apply(2, "api", Verb::Release, Amount::Whole).outcome, Outcome::Applied);
    let held = |tier: usize| app.ask(&json!({"op": "hello"}))["tiers"][tier]["bytes"].as_i64();
    assert_eq!((held(0), held(1)), (Some(0), Some(2 * MIB)));
}

#[test]
fn what_a_crash_left_in_force_is_taken_over_and_ended() {
    let app = App::start(Language::Python);
    let mut desk = desk(app.target());
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!(desk.verify(1).outcome, Outcome::Applied, "renewed by the next guardian");
    assert_eq!((desk.undo(1).outcome, app.leases().len()), (Outcome::Applied, 0));
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_restart_has_forgotten_every_lease() {
    for language in LANGUAGES {
        let mut app = App::start(language);
        let mut desk = desk(app.target());
        for (id, undos) in [(1, false), (2, true)] {
            assert_eq!(desk.apply(id, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
            app.restart();
            let report = if undos { desk.undo(id) } else { desk.verify(id) };
            assert_eq!((report.outcome, app.leases().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
            assert!(desk.journaled().is_empty());
        }
    }
}

#[test]
fn an_application_that_restarts_over_its_undo_has_put_nothing_back() {
    let pops = "previous = self.live().pop(name, {\"level\": 0})[\"level\"]\n";
    let app = App::altered(pops, &format!("{pops}        if previous and not level: self.instance = \"another\"\n"));
    let mut desk = desk(app.target());
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    assert!(report.detail.contains("has restarted"), "{}", report.detail);
}

/// It is the control that knows how long nobody has answered, and by that when the lease is over: with a new one for each
/// try, an application that was removed would be owed an undo for ever.
#[test]
fn an_application_that_left_with_its_control_is_asked_by_the_same_one_each_time() {
    let mut app = App::start(Language::Rust);
    let (opened, folder) = (Arc::new(AtomicUsize::new(0)), tempfile::tempdir().unwrap());
    let counter = Arc::clone(&opened);
    let open = move |target: &Target| {
        counter.fetch_add(1, Ordering::SeqCst);
        Control::new(target)
    };
    let mut desk = Desk::on_disk_with(folder.path(), &[("api", Target::App(app.target()))], Box::new(open));
    assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    desk.reconfigure(&[]);
    app.process().kill();
    assert_eq!(desk.undo(1).outcome, Outcome::Unreachable, "the lease may still live");
    let once = opened.load(Ordering::SeqCst);
    assert_eq!(desk.undo(1).outcome, Outcome::Unreachable);
    assert_eq!(opened.load(Ordering::SeqCst), once);
}

#[test]
fn an_application_that_hangs_is_given_up_and_still_owed() {
    let mut app = App::start(Language::Python);
    for target in [app.target(), app.over_http()] {
        let mut desk = desk(target);
        assert_eq!(desk.apply(1, "api", Verb::Throttle, TO_40).outcome, Outcome::Applied);
        app.process().signal(Signal::SIGSTOP);
        let report = desk.undo(1);
        assert_eq!(report.outcome, Outcome::TimedOut, "{}", report.detail);
        assert!(report.took >= DEADLINE && report.took < DEADLINE * 2, "{:?}", report.took);
        assert!(report.detail.contains("is it stopped"), "{}", report.detail);
        let report = desk.apply(2, "api", Verb::Throttle, TO_40);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Unreachable, 1), "nothing was sent: {report:?}");
        app.process().signal(Signal::SIGCONT);
        assert_eq!((desk.undo(1).outcome, app.effective()), (Outcome::Applied, 0));
        assert!(desk.journaled().is_empty());
    }
}

#[test]
fn who_is_denied_is_told_what_to_do() {
    let app = App::with(Language::Python, "--allow 4242");
    let mut desk = desk(app.target());
    let detail = desk.view("api", "refused").detail;
    assert!(detail.contains("denies the guardian `throttle`") && detail.contains("uid"), "{detail}");
    for (id, verb, amount) in
        [(1, Verb::Throttle, TO_40), (2, Verb::Drain, Amount::Whole), (3, Verb::Flush, Amount::Whole)]
    {
        let report = desk.apply(id, "api", verb, amount);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
    }

    let http = target::App { token_file: None, ..app.over_http() };
    let mut desk = self::desk(http);
    assert!(desk.view("api", "refused").detail.contains("token_file"));
}

/// It would take the lease, and nobody could tell whether it obeys.
#[test]
fn an_application_that_tells_its_state_to_nobody_is_not_throttled() {
    let deaf =
        App::altered("need(allowed or op in", "need(allowed and op != \"status\" or op in (\"hello\",) and op in");
    let mut desk = desk(deaf.target());
    let detail = desk.view("api", "usable").detail;
    assert!(detail.contains("may release") && detail.contains("cannot throttle and drain: "), "{detail}");
    assert!(detail.contains("denies the guardian `status`"), "{detail}");
    let report = desk.apply(1, "api", Verb::Throttle, TO_40);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
}

#[test]
fn a_probe_says_what_may_be_done_and_changes_nothing() {
    for language in LANGUAGES {
        let app = App::with(language, "--fill 1");
        let mut desk = desk(app.target());
        let detail = desk.view("api", "usable").detail;
        let wanted = "pages answers: may throttle, drain, release buffers (1.0MiB) and flush pages (1.0MiB)";
        assert_eq!((&*detail, app.leases().len()), (wanted, 0));
    }
}

/// Something listens that answers each request with these bytes, and then holds the line or hangs up.
fn impostor(answer: impl Fn(&Value) -> Vec<u8> + Send + 'static, holds: bool) -> (tempfile::TempDir, target::App) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ng.sock");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = vec![0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut asked) {
                let request = serde_json::from_slice(&asked[..length]).unwrap_or_default();
                if stream.write_all(&answer(&request)).is_err() || !holds {
                    break;
                }
            }
        }
    });
    let address = node_guardian::control::address::Address::Unix(path);
    (folder, target::App { address, uid: None, token_file: None, tiers: Vec::new() })
}

#[test]
fn whatever_is_answered_is_survived_and_changes_nothing() {
    let hello = r#""ok":true,"v":1,"instance":"1","caps":["throttle"],"max_ttl_ms":30000}"#;
    let answers: [(&str, Vec<u8>, Outcome); 8] = [
        ("garbage", b"what?\n".to_vec(), Outcome::Unsupported),
        ("another's id", format!("{{\"id\":99,{hello}\n").into_bytes(), Outcome::Unsupported),
        ("two answers", format!("{{\"id\":1,{hello}\n{{\"id\":2,{hello}\n").into_bytes(), Outcome::Unsupported),
        ("no end", vec![b'x'; 1 << 20], Outcome::Unsupported),
        ("depth", [vec![b'['; 60_000], b"\n".to_vec()].concat(), Outcome::Unsupported),
        ("no instance", b"{\"id\":1,\"ok\":true,\"caps\":[]}\n".to_vec(), Outcome::Unsupported),
        ("short leases", format!("{{\"id\":1,{hello}\n").replace("30000", "1000").into_bytes(), Outcome::Unsupported),
        ("half a line", b"{\"id\":1,".to_vec(), Outcome::Unreachable),
    ];
    for (what, bytes, outcome) in answers {
        // The first request of a connection has the id 1 only if nothing was asked before: no probe, therefore.
        let (_folder, target) = impostor(move |_| bytes.clone(), true);
        let mut desk = desk(target);
        let report = desk.apply(1, "api", Verb::Throttle, TO_40);
        assert_eq!(report.outcome, outcome, "{what}: {}", report.detail);
        assert!(desk.journaled().is_empty() && report.took < DEADLINE * 2, "{what}");
    }
}

/// What a good application would say, but for one thing.
fn almost(request: &Value, effective: u64) -> Vec<u8> {
    let id = &request["id"];
    let reply = match request["op"].as_str().unwrap_or_default() {
        "hello" => json!({"id": id, "ok": true, "instance": "1", "caps": ["throttle"], "max_ttl_ms": 30_000}),
        "status" => json!({"id": id, "ok": true, "instance": "1", "effective": effective, "leases": []}),
        _ => json!({"id": id, "ok": true, "previous": 0, "level": 60, "effective": effective, "ttl_ms": 30_000}),
    };
    format!("{reply}\n").into_bytes()
}

#[test]
fn a_lease_that_is_taken_and_not_obeyed_is_no_throttle() {
    for effective in [20, 60] {
        let (_folder, target) = impostor(move |request| almost(request, effective), true);
        let mut desk = desk(target);
        let report = desk.apply(1, "api", Verb::Throttle, TO_40);
        assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
        let wanted = if effective == 20 { "obeys level 20" } else { "but did not obey" };
        assert!(report.detail.contains(wanted), "{}", report.detail);
    }
}

#[test]
fn an_application_that_hangs_up_is_asked_again() {
    let (_folder, target) = impostor(|request| almost(request, 0), false);
    let mut desk = desk(target);
    let report = desk.apply(1, "api", Verb::Throttle, TO_40);
    assert_eq!(report.outcome, Outcome::Unreachable, "in the middle of a conversation: {}", report.detail);
    assert_eq!(desk.journaled().len(), 0, "before anything was written");
}

#[test]
fn an_application_that_swallows_a_throttle_may_have_taken_it() {
    let swallows = |request: &Value| match request["level"].as_u64() {
        Some(1..) => Vec::new(),
        Some(0) | None => almost(request, 0),
    };
    let (_folder, target) = impostor(swallows, true);
    let mut desk = desk(target);
    let report = desk.apply(1, "api", Verb::Throttle, TO_40);
    assert_eq!(report.outcome, Outcome::TimedOut, "{}", report.detail);
    assert_eq!(desk.journaled().len(), 1, "nobody can tell");
}

#[test]
fn one_that_hangs_delays_no_other() {
    let (mut stopped, other) = (App::start(Language::Rust), App::start(Language::Rust));
    let mut desk = Desk::new(&[("stopped", Target::App(stopped.target())), ("other", Target::App(other.target()))]);
    desk.view("stopped", "usable");
    stopped.process().signal(Signal::SIGSTOP);
    desk.order(1, "stopped", Verb::Throttle, TO_40);
    let began = Instant::now();
    assert_eq!(desk.apply(2, "other", Verb::Throttle, TO_40).outcome, Outcome::Applied);
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    assert_eq!(desk.report(1, Answered::Apply).outcome, Outcome::Unreachable);
    stopped.process().signal(Signal::SIGCONT);
    assert_eq!(desk.undo(2).outcome, Outcome::Applied);
}
