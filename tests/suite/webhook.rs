//! The webhook against real receivers: what is posted, what a receiver may do wrong, and that nobody waits for it.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_guardian::config::{self, Source};
use node_guardian::control::target::{self, Target};
use node_guardian::events::{Daemon, Event, Events};
use node_guardian::policy::event::{Event as Decision, Mode, ModeReason};
use node_guardian::policy::mitigation::{ActionId, Amount, Mitigation, Outcome, Verb};
use node_guardian::policy::rule::Severity;
use serde_json::Value;

use super::support::desk::Desk;
use super::support::eventually;
use super::support::receiver::{Answer, Receiver};
use super::support::redis::Redis;

const OK: Answer = Answer::Status(200);

/// As the configuration reads it.
fn webhook(keys: &str) -> Target {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    std::fs::write(&file, format!("[control.webhook.ops]\n{keys}\n")).unwrap();
    let settings = config::load(&Source { file: Some(file), ..Source::default() }).unwrap();
    settings.controls[0].target.clone()
}

fn at(receiver: &Receiver) -> Target {
    webhook(&format!("url = \"{}\"\ntimeout = \"1s\"", receiver.url()))
}

fn desk(target: Target) -> (Desk, Events) {
    let (desk, events) = (Desk::new(&[("ops", target)]), Events::new(Arc::default()));
    desk.tell(events.log());
    (desk, events)
}

fn mode(n: u64) -> Event {
    Event::Policy(Decision::Mode {
        from: Mode::Normal,
        to: Mode::Emergency,
        why: ModeReason::Rule(format!("{n}").into()),
    })
}

fn fired(rule: &str) -> Event {
    let because = "memory.available_percent 7.1% < 8.0%".to_owned();
    Event::Policy(Decision::Fired { rule: rule.into(), severity: Severity::Warning, because })
}

fn acted(rule: &str, control: &str, verb: Verb) -> Event {
    Event::Policy(Decision::Acted {
        rule: rule.into(),
        id: ActionId(7),
        mitigation: Mitigation { control: control.into(), verb, amount: Amount::Whole },
        before: None,
        outcome: Outcome::Applied,
        detail: "so".into(),
        took: Duration::from_millis(3),
        freed_bytes: None,
    })
}

/// As the loop tells: what a reader of the trail was in the way of is taken with the next flush.
fn tell(events: &mut Events, unix_ms: u64, event: Event) {
    let before = events.log().last();
    events.emit(unix_ms, event);
    eventually("the trail has it", || {
        events.flush();
        (events.log().last() > before).then_some(())
    });
}

#[test]
fn events_are_posted_in_the_shape_in_which_they_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let receiver = Receiver::start(Answer::Status(204));
    let keys = format!("url = \"{}?from=node\"\ntoken_file = \"{}\"", receiver.url(), token.display());
    let (mut desk, mut events) = desk(webhook(&keys));
    tell(&mut events, 1000, Event::Daemon(Daemon::Started { version: "1", sources: "built-in \"defaults\"\n".into() }));
    tell(&mut events, 2000, fired("short"));
    tell(&mut events, 3000, Event::Daemon(Daemon::Degraded { what: "not".into(), why: "wanted".into() }));
    tell(&mut events, 4000, mode(1));
    let letters = receiver.first(3);
    assert_eq!(receiver.names(), ["started", "rule_fired", "mode"]);
    for letter in &letters {
        let record = events.log().since(letter.json["seq"].as_u64().unwrap() - 1, 1).pop().unwrap();
        let mut served = serde_json::to_value(&*record).unwrap();
        let id = letter.header("idempotency-key").unwrap();
        let node = nix::unistd::gethostname().unwrap().into_string().unwrap();
        served["id"] = id.into();
        served["node"] = node.into();
        served["dropped"] = 0.into();
        assert_eq!(letter.json, served);
        assert!(id.ends_with(&format!("-{}", record.seq)), "{id}");
        assert_eq!(letter.request, "POST /hook?from=node HTTP/1.1");
        assert_eq!(letter.header("content-type"), Some("application/json"));
        assert_eq!(letter.header("authorization"), Some("Bearer s3cret"));
        assert_eq!(letter.header("host"), Some(&*format!("127.0.0.1:{}", receiver.port)));
    }
    eventually("all is known to be told", || {
        desk.next_view("ops").detail.ends_with("3 delivered, 0 refused, 0 dropped, 0 queued").then_some(())
    });
}

#[test]
fn a_receiver_that_is_down_at_first_gets_everything_in_order_when_it_comes() {
    let port = Receiver::free_port();
    let (mut desk, mut events) = desk(webhook(&format!("url = \"http://127.0.0.1:{port}\"")));
    (1..=3).for_each(|n| tell(&mut events, n, mode(n)));
    let view = desk.view("ops", "unreachable");
    assert!(view.detail.starts_with(&format!("nobody listens on 127.0.0.1:{port}")), "{}", view.detail);
    let receiver = Receiver::on(TcpListener::bind(("127.0.0.1", port)).unwrap(), OK);
    let why: Vec<_> = receiver.first(3).iter().map(|letter| letter.json["text"].to_string()).collect();
    assert!(why.iter().zip(1..).all(|(text, n)| text.contains(&format!("rule {n}"))), "{why:?}");
    desk.view("ops", "usable");
}

#[test]
fn what_was_not_taken_is_posted_again_under_the_same_id() {
    for answer in [Answer::Status(500), Answer::Status(429), Answer::Bytes(b"SSH-2.0-no\r\n\r\n"), Answer::Bytes(b"")] {
        let receiver = Receiver::start(answer);
        let (mut desk, mut events) = desk(at(&receiver));
        tell(&mut events, 1, mode(1));
        let first = receiver.first(1).remove(0);
        receiver.answers(OK);
        let second = receiver.first(2).remove(1);
        assert_eq!(first.json, second.json);
        assert_eq!(first.header("idempotency-key"), second.header("idempotency-key"));
        eventually("it is known to be delivered", || {
            desk.next_view("ops").detail.contains("1 delivered, 0 refused").then_some(())
        });
    }
}

#[test]
fn a_receiver_that_says_no_is_not_asked_again_and_no_redirect_is_followed() {
    let receiver = Receiver::start(Answer::Status(307));
    let (mut desk, mut events) = desk(at(&receiver));
    tell(&mut events, 1, mode(1));
    let view = desk.view("ops", "refused");
    assert!(view.detail.contains("answers 307: redirects are not followed"), "{}", view.detail);
    receiver.answers(Answer::Status(401));
    tell(&mut events, 2, mode(2));
    eventually("the token is doubted", || {
        desk.next_view("ops").detail.contains("answers 401: check `token_file`; 0 delivered, 2 refused").then_some(())
    });
    receiver.answers(OK);
    tell(&mut events, 3, mode(3));
    eventually("the third is taken", || desk.next_view("ops").detail.contains("1 delivered").then_some(()));
    assert_eq!(receiver.letters().len(), 3);
}

#[test]
fn a_receiver_that_hangs_or_floods_delays_nobody_else() {
    for answer in [Answer::Silence, Answer::Flood] {
        let (stuck, cache) = (Receiver::start(answer), Redis::start());
        let (well, mut events) = (Receiver::start(OK), Events::new(Arc::default()));
        let cached = Target::Redis(target::Redis { cache_only: true, ..cache.target() });
        let mut desk = Desk::new(&[("stuck", at(&stuck)), ("well", at(&well)), ("cache", cached)]);
        desk.view("cache", "usable");
        desk.tell(events.log());
        tell(&mut events, 1, mode(1));
        stuck.first(1);
        let began = Instant::now();
        assert_eq!(desk.apply(1, "cache", Verb::Shrink, Amount::Bytes(64 << 20)).outcome, Outcome::Applied);
        assert_eq!(desk.undo(1).outcome, Outcome::Applied);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        well.first(1);
        stuck.answers(OK);
        stuck.first(2);
        desk.view("stuck", "usable");
    }
}

#[test]
fn of_a_burst_the_newest_are_told_with_how_many_were_dropped() {
    const BURST: u64 = 10_000;
    let receiver = Receiver::start(Answer::Silence);
    let (mut desk, mut events) = desk(at(&receiver));
    tell(&mut events, 0, mode(0));
    receiver.first(1);
    let began = Instant::now();
    (1..=BURST).for_each(|n| tell(&mut events, n, mode(n)));
    let took = began.elapsed();
    println!("{BURST} events emitted in {took:?}");
    eventually("the queue is full", || {
        events.flush();
        desk.next_view("ops").detail.contains("256 queued").then_some(())
    });
    receiver.answers(OK);
    let seqs = eventually("the newest one is told", || {
        events.flush();
        let letters = receiver.letters();
        let told: Vec<_> = letters.iter().map(|letter| letter.json["seq"].as_u64().unwrap()).collect();
        told.contains(&(BURST + 1)).then_some(told)
    });
    let mut taken: Vec<u64> = seqs.clone();
    taken.dedup();
    assert!(taken.is_sorted() && taken.len() <= 300, "{} were told", taken.len());
    eventually("the count of those dropped is told", || {
        let told: u64 = receiver.letters().iter().map(|letter| letter.json["dropped"].as_u64().unwrap()).max().unwrap();
        (told > BURST - 300).then_some(())
    });
    let last = receiver.letters().pop().unwrap();
    assert_eq!(last.json["dropped"], 0, "told once: {last:?}");
}

#[test]
fn a_step_is_told_with_its_reason_whatever_else_is_wanted() {
    let receiver = Receiver::start(OK);
    let (mut desk, mut events) = desk(webhook(&format!("url = \"{}\"\nevents = []", receiver.url())));
    let report = desk.apply(7, "ops", Verb::Notify, Amount::Whole);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, &*format!("queued for {}", receiver.url())));
    assert!(desk.journaled().is_empty());
    for event in
        [fired("short"), fired("other"), acted("short", "edge", Verb::Drain), acted("short", "ops", Verb::Notify)]
    {
        tell(&mut events, 1, event);
    }
    let letters = receiver.first(2);
    let told: Vec<_> = letters.iter().map(|letter| (letter.name(), letter.json["fields"]["rule"].as_str())).collect();
    assert_eq!(told, [("rule_fired", Some("short")), ("acted", Some("short"))]);
    assert_eq!(desk.apply(8, "ops", Verb::Throttle, Amount::Keep(50.0)).outcome, Outcome::Unsupported);
}

#[test]
fn a_socket_works_like_an_address_and_looking_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("hook.sock");
    let keys = format!("socket = \"{}\"\npath = \"/hook\"\nevents = [\"mode\"]", socket.display());
    let (mut desk, mut events) = desk(webhook(&keys));
    let view = desk.view("ops", "unreachable");
    assert!(view.detail.contains("does not exist: is the receiver running"), "{}", view.detail);
    let receiver = Receiver::on_socket(&socket, OK);
    desk.view("ops", "usable");
    eventually("it was looked at", || (receiver.connections() > 0).then_some(()));
    assert!(receiver.letters().is_empty());
    tell(&mut events, 1, mode(1));
    let letter = receiver.first(1).remove(0);
    assert_eq!((&*letter.request, letter.header("host")), ("POST /hook HTTP/1.1", Some("localhost")));
}

#[test]
fn a_token_that_cannot_be_read_is_told_and_nothing_is_sent_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (token, receiver) = (folder.path().join("token"), Receiver::start(OK));
    let keys = |token: &Path| format!("url = \"{}\"\ntoken_file = \"{}\"", receiver.url(), token.display());
    let (mut desk, mut events) = desk(webhook(&keys(&token)));
    tell(&mut events, 1, mode(1));
    let view = desk.view("ops", "refused");
    assert!(view.detail.contains("cannot read the token file"), "{}", view.detail);
    assert_eq!(receiver.letters().len(), 0);
    std::fs::write(&token, "late").unwrap();
    assert_eq!(receiver.first(1)[0].header("authorization"), Some("Bearer late"));
}

#[test]
fn a_key_in_an_address_is_sent_and_never_shown() {
    let receiver = Receiver::start(Answer::Status(403));
    let (mut desk, mut events) = desk(webhook(&format!("url = \"{}?key=s3cret\"", receiver.url())));
    let usable = desk.view("ops", "usable").detail;
    let queued = desk.apply(7, "ops", Verb::Notify, Amount::Whole).detail;
    tell(&mut events, 1, mode(1));
    let refused = desk.view("ops", "refused").detail;
    assert_eq!(receiver.first(1)[0].request, "POST /hook?key=s3cret HTTP/1.1");
    for told in [&usable, &*queued, &refused] {
        assert!(told.contains("/hook") && !told.contains("s3cret"), "{told}");
    }
}

#[test]
fn what_is_queued_outlives_a_change_of_its_address_and_not_its_control() {
    let (port, receiver) = (Receiver::free_port(), Receiver::start(OK));
    let (mut desk, mut events) = desk(webhook(&format!("url = \"http://127.0.0.1:{port}\"")));
    tell(&mut events, 1, mode(1));
    desk.view("ops", "unreachable");
    desk.reconfigure(&[("ops", at(&receiver))]);
    receiver.first(1);
    desk.reconfigure(&[]);
    assert_eq!(desk.apply(7, "ops", Verb::Notify, Amount::Whole).outcome, Outcome::Unsupported, "it is gone");
    tell(&mut events, 2, mode(2));
    // The thread that tells may hear of it after the next event: that is told all the same.
    desk.reconfigure_after(events.last(), &[("ops", at(&receiver))]);
    tell(&mut events, 3, mode(3));
    let letters = receiver.first(2);
    assert!(letters[1].json["text"].as_str().unwrap().contains("rule 3"), "{letters:?}");
}

#[test]
fn an_end_tells_what_it_can_and_waits_no_longer_than_a_moment() {
    let receiver = Receiver::start(OK);
    let (desk, mut events) = desk(at(&receiver));
    (1..=50).for_each(|n| tell(&mut events, n, mode(n)));
    desk.stop();
    let told: Vec<Value> = receiver.letters().into_iter().map(|letter| letter.json["seq"].clone()).collect();
    assert_eq!(told, (1..=50).map(Value::from).collect::<Vec<_>>());

    for answer in [Answer::Silence, Answer::Status(503)] {
        receiver.answers(answer);
        let (desk, mut events) = self::desk(at(&receiver));
        tell(&mut events, 1, mode(1));
        let began = Instant::now();
        desk.stop();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}
