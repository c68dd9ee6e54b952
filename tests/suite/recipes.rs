//! The example configurations as they are shipped, each against the real server: what a verb does to it, and that its undo
//! is exact, whatever happens in between.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::config::{self, Source};
use node_guardian::control::DEADLINE;
use node_guardian::policy::mitigation::{Amount, Outcome, Verb};

use super::support::apache::Apache;
use super::support::desk::Desk;
use super::support::envoy::Envoy;
use super::support::postgres::Postgres;
use super::support::recipe::{example, named};
use super::support::{eventually, halt};

const HALF: Amount = Amount::Keep(50.0);
const QUARTER: Amount = Amount::Keep(25.0);

#[test]
fn every_example_and_every_page_of_a_recipe_is_valid() {
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(root().join("packaging/examples")).unwrap() {
        let path = entry.unwrap().path();
        texts.push((path.display().to_string(), std::fs::read_to_string(path).unwrap()));
    }
    assert!(texts.len() >= 6);
    for page in ["socket.md", "http.md"] {
        let text = std::fs::read_to_string(root().join("docs/controls").join(page)).unwrap();
        let block = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        texts.push((page.to_owned(), block.to_owned()));
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in texts {
        let file = folder.path().join("config.toml");
        std::fs::write(&file, text).unwrap();
        let checked = config::check(&Source::file(file));
        assert_eq!(checked.complaints.errors(), 0, "{name}:\n{}", checked.text());
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn postgres(server: &Postgres, patience: &str) -> Desk {
    let socket = server.socket();
    let replaced = [("/run/postgresql/.s.PGSQL.5432", socket.to_str().unwrap()), ("interval '5 minutes'", patience)];
    Desk::new(&named(&example("postgresql.toml", &replaced)))
}

fn apache(server: &Apache) -> Desk {
    let [first, second] = [0, 1].map(|member: usize| server.members[member].port.to_string());
    let replaced = [("127.0.0.1:80\"", &*format!("{}\"", server.address())), ("8081", &*first), ("8082", &*second)];
    Desk::new(&named(&example("apache.toml", &replaced)))
}

fn envoy(server: &Envoy) -> Desk {
    Desk::new(&[("envoy", server.target())])
}

#[test]
fn postgresql_lets_fewer_connect_and_as_many_as_before_again() {
    let server = Postgres::start();
    server.psql("ALTER ROLE app CONNECTION LIMIT 4");
    let mut desk = postgres(&server, "interval '5 minutes'");
    assert!(desk.view("database", "usable").detail.contains("connection limit of app is 4"));
    let report = desk.apply(1, "database", Verb::Throttle, HALF);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "connection limit of app 4 → 2"));
    let _open = server.idle("app", 2);
    assert!(server.try_psql("app", "SELECT 1").unwrap_err().contains("too many connections"));
    assert_eq!(desk.verify(1).outcome, Outcome::Applied);
    assert_eq!(desk.apply(1, "database", Verb::Throttle, QUARTER).outcome, Outcome::Applied);
    assert_eq!(server.limit(), "1", "a quarter of the first");
    assert_eq!(desk.undo(1).outcome, Outcome::Applied);
    assert_eq!((server.limit().as_str(), desk.journaled().len()), ("4", 0));

    server.psql("ALTER ROLE app CONNECTION LIMIT -1");
    assert_eq!(desk.apply(2, "database", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(server.limit(), "50", "of what `unlimited_is` says");
    server.psql("ALTER ROLE app CONNECTION LIMIT 7");
    let report = desk.undo(2);
    assert_eq!((report.outcome, server.limit().as_str()), (Outcome::Overridden, "7"), "an operator's is left alone");
}

#[test]
fn what_postgresql_keeps_over_a_restart_is_put_back_after_it() {
    let mut server = Postgres::start();
    let before = server.psql("SHOW idle_session_timeout");
    let mut desk = postgres(&server, "interval '5 minutes'");
    assert_eq!(desk.apply(1, "database", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let report = desk.apply(2, "database", Verb::Shrink, HALF);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!(server.psql("SHOW idle_session_timeout"), "5min");
    server.restart();
    assert_eq!((server.limit().as_str(), desk.verify(1).outcome), ("50", Outcome::Applied), "it outlives a restart");
    // As after a crash of the guardian, with no such control any more.
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!((desk.undo(1).outcome, server.limit().as_str()), (Outcome::Applied, "-1"));
    let report = desk.undo(2);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!(server.psql("SHOW idle_session_timeout"), before);
    let left = "SELECT count(*) FROM pg_file_settings WHERE name = 'idle_session_timeout'";
    assert_eq!(
        (server.psql(left).as_str(), desk.journaled().len()),
        ("0", 0),
        "nothing is left in postgresql.auto.conf"
    );
}

#[test]
fn postgresql_ends_idle_sessions_of_the_application_alone() {
    let server = Postgres::start();
    let mut desk = postgres(&server, "interval '0 s'");
    let others = server.idle("postgres", 1);
    let sessions = server.idle("app", 3);
    let report = desk.apply(1, "database", Verb::Flush, Amount::Whole);
    assert_eq!((report.outcome, &*report.detail), (Outcome::Applied, "idle sessions ended: 3"));
    eventually("they are gone", || (server.sessions("app") == 0).then_some(()));
    let left = "the one that asks, and the one that is not the application's";
    eventually(left, || (server.sessions("postgres") == 2).then_some(()));
    drop((others, sessions));
    assert_eq!(desk.apply(2, "database", Verb::Flush, Amount::Whole).outcome, Outcome::NoEffect);
    assert!(desk.journaled().is_empty());
}

#[test]
fn a_postgresql_that_hangs_keeps_what_is_owed_and_every_refusal_says_why() {
    let server = Postgres::start();
    let mut desk = postgres(&server, "interval '5 minutes'");
    assert_eq!(desk.apply(1, "database", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let backend = server.psql("SELECT pid FROM pg_stat_activity WHERE usename = 'node-guardian'");
    let signal = |signal| kill(Pid::from_raw(backend.parse().unwrap()), signal).unwrap();
    signal(Signal::SIGSTOP);
    server.process().signal(Signal::SIGSTOP);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < DEADLINE * 3, "{:?}", report.took);
    server.process().signal(Signal::SIGCONT);
    signal(Signal::SIGCONT);
    eventually("the undo", || (desk.undo(1).outcome == Outcome::Applied).then_some(()));
    assert_eq!(server.limit(), "-1");

    server.psql("REVOKE EXECUTE ON FUNCTION guardian.limit_app FROM \"node-guardian\"");
    let report = desk.apply(2, "database", Verb::Throttle, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0));
    assert!(report.detail.contains("does not allow it, as `may` says: connection limit of app"), "{}", report.detail);
    let detail = desk.next_view("database").detail;
    assert!(detail.contains("may shrink and flush; cannot throttle: "), "{detail}");
    server.psql("REVOKE ALTER SYSTEM ON PARAMETER idle_session_timeout FROM \"node-guardian\"");
    let report = desk.apply(3, "database", Verb::Shrink, HALF);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::Refused, 0), "{}", report.detail);
    server.psql("ALTER ROLE \"node-guardian\" NOLOGIN");
    server.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'node-guardian'");
    assert!(desk.view("database", "refused").detail.contains("is not permitted to log in"));
}

#[test]
fn apache_drains_a_member_and_takes_it_back() {
    let server = Apache::start();
    let before = server.face();
    assert_eq!(before, ["100.00 Init Ok", "100.00 Init Ok"]);
    let mut desk = apache(&server);
    assert!(desk.view("balancer", "usable").detail.contains("load factor of"));
    let report = desk.apply(1, "balancer", Verb::Drain, Amount::Whole);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!(server.face(), ["100.00 Init Ok", "100.00 Init Drn Ok"]);
    assert_eq!(server.shares(20), [20, 0]);
    assert_eq!(desk.apply(2, "balancer", Verb::Drain, Amount::Whole).outcome, Outcome::Already);
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!((desk.undo(1).outcome, server.face()), (Outcome::Applied, before), "after a crash");
    assert_eq!(server.shares(20), [10, 10]);
}

#[test]
fn apache_gives_a_member_less() {
    let server = Apache::start();
    let mut desk = apache(&server);
    let report = desk.apply(1, "balancer", Verb::Throttle, QUARTER);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    assert_eq!(server.face()[0], "25.00 Init Ok");
    let [less, more] = server.shares(50);
    assert!((8..=12).contains(&less), "a fifth: {less} and {more}");
    server.set(0, "w_lf=60");
    let report = desk.undo(1);
    assert_eq!(
        (report.outcome, server.face()[0].as_str()),
        (Outcome::Overridden, "60.00 Init Ok"),
        "{}",
        report.detail
    );
}

#[test]
fn a_reload_and_a_restart_of_apache_have_undone_it_already() {
    let mut server = Apache::start();
    let mut desk = apache(&server);
    assert_eq!(desk.apply(1, "balancer", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    server.reload();
    assert_eq!((desk.verify(1).outcome, desk.journaled().len()), (Outcome::EpochChanged, 0));
    assert_eq!(desk.apply(2, "balancer", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    server.restart();
    let report = desk.undo(2);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::EpochChanged, 0), "{}", report.detail);
    assert_eq!(server.face(), ["100.00 Init Ok", "100.00 Init Ok"]);
}

#[test]
fn an_apache_that_hangs_keeps_what_is_owed() {
    let server = Apache::start();
    let mut desk = apache(&server);
    assert_eq!(desk.apply(1, "balancer", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    let all = server.processes();
    all.iter().for_each(|process| halt(*process));
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < DEADLINE * 3, "{:?}", report.took);
    all.iter().for_each(|process| kill(*process, Signal::SIGCONT).unwrap());
    eventually("the undo", || (desk.undo(1).outcome == Outcome::Applied).then_some(()));
    assert_eq!((server.face()[1].as_str(), desk.journaled().len()), ("100.00 Init Ok", 0));
}

#[test]
fn envoy_refuses_a_share_at_once_and_none_afterwards() {
    let mut server = Envoy::start();
    let before = server.face();
    let mut desk = envoy(&server);
    desk.view("envoy", "usable");
    let report = desk.apply(1, "envoy", Verb::Shed, HALF);
    assert_eq!(report.outcome, Outcome::Applied, "{}", report.detail);
    let refused = (0..200).filter(|_| server.status("/") == "503").count();
    assert!((60..=140).contains(&refused), "half of 200: {refused}");
    assert_eq!(desk.apply(1, "envoy", Verb::Shed, QUARTER).outcome, Outcome::Applied);
    assert_eq!(desk.apply(2, "envoy", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    assert_eq!(server.status("/healthz"), "503");
    let mut desk = Desk::resume(desk.stop(), &[]);
    assert_eq!((desk.undo(2).outcome, desk.undo(1).outcome), (Outcome::Applied, Outcome::Applied));
    assert_eq!((server.face(), desk.journaled().len()), (before, 0), "the value is gone, not 0");

    let mut desk = envoy(&server);
    assert_eq!(desk.apply(3, "envoy", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.admin("POST", "/runtime_modify?fault.http.abort.abort_percent=10");
    assert_eq!(desk.undo(3).outcome, Outcome::Overridden, "an operator's is left alone");
    server.restart();
    assert_eq!(desk.apply(4, "envoy", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.restart();
    assert_eq!((desk.undo(4).outcome, desk.journaled().len()), (Outcome::EpochChanged, 0));
}

#[test]
fn an_envoy_that_hangs_keeps_what_is_owed() {
    let server = Envoy::start();
    let mut desk = envoy(&server);
    assert_eq!(desk.apply(1, "envoy", Verb::Shed, HALF).outcome, Outcome::Applied);
    server.process().signal(Signal::SIGSTOP);
    let report = desk.undo(1);
    assert_eq!((report.outcome, desk.journaled().len()), (Outcome::TimedOut, 1), "{}", report.detail);
    assert!(report.took < DEADLINE * 3, "{:?}", report.took);
    server.process().signal(Signal::SIGCONT);
    eventually("the undo", || (desk.undo(1).outcome == Outcome::Applied).then_some(()));
    assert_eq!(server.face(), "200 0");
}
