//! What one value is, whatever an action, a control or another guardian calls it: no two actions hold it, and where two have
//! come to hold it all the same, nothing of either stays.

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node_guardian::control::target::{self, Target};
use node_guardian::journal::Entry;
use node_guardian::policy::mitigation::{ActionId, Amount, Outcome, Report, Verb};
use tempfile::TempDir;

use super::support::desk::{Desk, Ledger};
use super::support::haproxy::Haproxy;
use super::support::node::{Node, short_of_memory};
use super::support::processes::{Plain, by_pid_file, of};
use super::support::recipe::control;

const HALF: Amount = Amount::Keep(50.0);
const FIFTH: Amount = Amount::Keep(20.0);

/// HAProxy's own limit by a recipe, under this verb and this name.
fn limit(server: &Haproxy, verb: Verb, name: &str) -> Target {
    control(&section(server, verb, name))
}

fn section(server: &Haproxy, verb: Verb, name: &str) -> String {
    format!(
        r#"
        [control.socket.edge]
        socket = "{}"
        ends_with = "\n> "
        keep_open = true
        on_connect = [{{ send = "prompt\n" }}]
        [control.socket.edge.{verb}]
        name = "{name}"
        read = {{ send = "show info\n", take = "{{*}}\nMaxconn: {{value}}\n" }}
        set = {{ send = "set maxconn global {{value}}\n", expect = "\n" }}
        to = "{{share}}"
        "#,
        server.path("admin.sock").display()
    )
}

fn socket(target: Target) -> target::Socket {
    let Target::Socket(socket) = target else { panic!("{target:?}") };
    socket
}

/// As a journal of an earlier version may name it: the configuration refuses it.
fn by_two_verbs(server: &Haproxy) -> Target {
    let mut both = socket(limit(server, Verb::Throttle, "throttle"));
    let drain = socket(limit(server, Verb::Drain, "drain"));
    both.recipe.knobs.extend(drain.recipe.knobs);
    both.recipe.verbs.push(Verb::Drain);
    Target::Socket(both)
}

/// What is as strict already is not asked for.
fn is_left_alone(report: &Report) {
    assert!(matches!(report.outcome, Outcome::Refused | Outcome::Already), "{}", report.detail);
}

fn is_held(report: &Report, key: &str) {
    assert_eq!(report.outcome, Outcome::Refused, "{}", report.detail);
    assert!(report.detail.contains(&format!("already holds `{key}`")), "{}", report.detail);
}

#[test]
fn two_verbs_of_a_recipe_never_hold_one_setting() {
    let server = Haproxy::start();
    let mut desk = Desk::new(&[("edge", by_two_verbs(&server))]);
    assert_eq!(desk.apply(1, "edge", Verb::Throttle, HALF).outcome, Outcome::Applied);
    is_held(&desk.apply(2, "edge", Verb::Drain, Amount::Whole), "throttle");
    assert_eq!((desk.undo(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
    assert_eq!(desk.apply(3, "edge", Verb::Drain, Amount::Whole).outcome, Outcome::Applied);
    is_left_alone(&desk.apply(4, "edge", Verb::Throttle, HALF));
    assert_eq!((desk.undo(3).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
}

/// By a reload, while the earlier one is in force: with another name, and with a mended `expect`.
#[test]
fn a_verb_that_was_renamed_waits_for_what_the_earlier_one_holds() {
    let server = Haproxy::start();
    let mut mended = socket(limit(&server, Verb::Drain, "limit"));
    mended.recipe.knobs[0].set[0].expect = None;
    let renamed = [(Verb::Drain, limit(&server, Verb::Drain, "drain")), (Verb::Drain, Target::Socket(mended))];
    for (verb, target) in renamed {
        let mut desk = Desk::new(&[("edge", limit(&server, Verb::Throttle, "throttle"))]);
        assert_eq!(desk.apply(1, "edge", Verb::Throttle, FIFTH).outcome, Outcome::Applied);
        desk.reconfigure(&[("edge", target)]);
        is_held(&desk.apply(2, "edge", verb, HALF), "throttle");
        assert_eq!((desk.undo(1).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
        assert_eq!(desk.apply(3, "edge", verb, HALF).outcome, Outcome::Applied);
        assert_eq!((desk.undo(3).outcome, server.global_limit().as_str()), (Outcome::Applied, "200"));
        assert!(desk.journaled().is_empty());
    }
}

/// In an emergency, with the rule that wants it.
#[test]
fn a_reload_that_renames_a_verb_leaves_nothing_of_either() {
    let server = Haproxy::start();
    let written = |verb: Verb, step: &str| section(&server, verb, verb.name()) + &short_of_memory(step);
    let node = Node::new(&written(Verb::Throttle, "{ throttle = \"edge\", to = \"20%\" }"));
    let mut daemon = node.start();
    node.set_available(5);
    daemon.until_in_force(&["throttle edge to 20%"]);
    assert_eq!(server.global_limit(), "40");
    node.configure(&written(Verb::Drain, "{ drain = \"edge\" }"));
    daemon.signal(Signal::SIGHUP);
    daemon.until_in_force(&["drain edge"]);
    assert_eq!(server.global_limit(), "1");
    assert_eq!(daemon.told("lost").len(), 0, "nobody else has set anything");
    node.set_available(60);
    daemon.until_calm();
    assert_eq!((server.global_limit().as_str(), daemon.stop()), ("200", 0));
}

/// By their common socket, and by what the earlier one has set.
#[test]
fn a_recipe_and_a_kind_of_its_own_never_hold_one_setting() {
    let server = Haproxy::start();
    let kind = || {
        let target = target::Haproxy { connection_rate: Some(1000), ..server.target() };
        Target::Haproxy(target::Haproxy { backends: Vec::new(), ..target })
    };
    let text = section(&server, Verb::Throttle, "rate").replace("Maxconn", "ConnRateLimit");
    let recipe = control(
        &text.replace("set maxconn", "set rate-limit connections").replace("to =", "unlimited_is = 1000\nto ="),
    );
    let rate = || {
        let info = server.ask("show info");
        info.lines().find_map(|line| line.strip_prefix("ConnRateLimit: ")).unwrap().to_owned()
    };
    for [first, second] in [["kind", "recipe"], ["recipe", "kind"]] {
        let mut desk = Desk::new(&[("kind", kind()), ("recipe", recipe.clone())]);
        assert_eq!(desk.apply(1, first, Verb::Throttle, HALF).outcome, Outcome::Applied);
        assert_eq!(rate(), "500");
        let report = desk.apply(2, second, Verb::Throttle, FIFTH);
        assert!(report.outcome == Outcome::Refused && report.detail.contains("already holds"), "{}", report.detail);
        assert_eq!((desk.undo(1).outcome, rate().as_str()), (Outcome::Applied, "0"));
    }
}

/// A supervisor and what it has started, each a control of its own.
struct Family {
    server: Plain,
    folder: TempDir,
}

impl Family {
    fn start() -> Self {
        let family = Self {
            server: Plain::start("bash", &["-c", "sleep 600 & sleep 600"]),
            folder: tempfile::tempdir().unwrap(),
        };
        super::support::eventually("its children", || (family.server.tree().len() == 3).then_some(()));
        fs::write(family.inner_pid_file(), &family.server.tree()[1]).unwrap();
        family
    }

    fn inner_pid_file(&self) -> std::path::PathBuf {
        self.folder.path().join("pid")
    }

    fn outer(&self) -> Target {
        self.server.sacrificial()
    }

    fn inner(&self) -> Target {
        let target = of(by_pid_file(&self.inner_pid_file(), "sleep"));
        Target::Process(target::Process { sacrificial: true, ..target })
    }
}

#[test]
fn two_controls_of_one_family_never_hold_one_thread() {
    let family = Family::start();
    for [first, second] in [["outer", "inner"], ["inner", "outer"]] {
        for (verb, amount) in [(Verb::Throttle, HALF), (Verb::Freeze, Amount::Whole)] {
            let mut desk = Desk::new(&[("outer", family.outer()), ("inner", family.inner())]);
            assert_eq!(desk.apply(1, first, verb, amount).outcome, Outcome::Applied);
            let report = desk.apply(2, second, verb, amount);
            match (verb, first) {
                (Verb::Throttle, _) => is_held(&report, "nice"),
                (_, "inner") => is_held(&report, "state"),
                _ => is_left_alone(&report),
            }
            assert_eq!(desk.undo(1).outcome, Outcome::Applied);
            assert_eq!((family.server.nice().as_str(), family.server.states().as_str()), ("0 0 0", "SSS"));
            assert_eq!(desk.apply(3, second, verb, amount).outcome, Outcome::Applied);
            assert_eq!(desk.undo(3).outcome, Outcome::Applied);
            assert_eq!((family.server.nice().as_str(), family.server.states().as_str()), ("0 0 0", "SSS"));
        }
    }
}

#[test]
fn what_a_family_has_not_in_common_is_held_by_each() {
    let (family, other) = (Family::start(), Plain::start("sleep", &["600"]));
    let mut desk = Desk::new(&[("outer", family.outer()), ("inner", family.inner()), ("other", other.sacrificial())]);
    assert_eq!(desk.apply(1, "outer", Verb::Throttle, HALF).outcome, Outcome::Applied);
    assert_eq!(desk.apply(2, "other", Verb::Throttle, HALF).outcome, Outcome::Applied, "nobody of them");
    assert_eq!(desk.apply(3, "inner", Verb::Freeze, Amount::Whole).outcome, Outcome::Applied, "another value");
    let undone = [1, 2, 3].map(|id| desk.undo(id).outcome);
    assert_eq!(undone, [Outcome::Applied; 3]);
    assert_eq!((family.server.nice().as_str(), family.server.states().as_str()), ("0 0 0", "SSS"));
}

/// Of its family nothing is known but its name: who started it has ended.
#[test]
fn a_child_that_is_left_behind_is_held_by_one() {
    let mut family = Family::start();
    let child = family.server.tree()[1].clone();
    let nice = || {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().to_owned()
    };
    let mut desk = Desk::new(&[("outer", family.outer()), ("inner", family.inner())]);
    assert_eq!(desk.apply(1, "outer", Verb::Throttle, HALF).outcome, Outcome::Applied);
    let left: Vec<String> = family.server.tree().split_off(1);
    family.server.kill();
    is_held(&desk.apply(2, "inner", Verb::Throttle, HALF), "nice");
    let report = desk.undo(1);
    let nice = nice();
    left.iter().for_each(|pid| {
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).ok();
    });
    assert_eq!(nice, "0", "{}", report.detail);
}

/// A journal that knows of both: of an earlier version, or taken over from another guardian's directory.
fn merged(desks: [Desk; 2]) -> Desk {
    let ledgers = desks.map(Desk::stop);
    let entries: Vec<Entry> = ledgers.iter().flat_map(|ledger| ledger.entries.lock().unwrap().clone()).collect();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [ActionId(1), ActionId(2)]);
    let ledger = Ledger::default();
    *ledger.entries.lock().unwrap() = entries;
    Desk::resume(ledger, &[])
}

fn on_top(target: Target, verb: Verb, other: Target, second: Verb) -> Desk {
    let mut below = Desk::new(&[("first", target)]);
    assert_eq!(below.apply(1, "first", verb, HALF).outcome, Outcome::Applied);
    let mut above = Desk::new(&[("second", other)]);
    assert_eq!(above.apply(2, "second", second, HALF).outcome, Outcome::Applied);
    merged([below, above])
}

/// Every order in which two that stand on one another are looked at and undone.
fn every_order(start: impl Fn() -> Desk, is_left: impl Fn() -> Option<String>) {
    for read in [&[][..], &[1], &[2], &[1, 2]] {
        for order in [[1, 2], [2, 1]] {
            let mut desk = start();
            for id in read {
                desk.verify(*id);
            }
            // One that is parted with answers that nothing of it is in force.
            let told: Vec<_> = order.map(|id| desk.undo(id)).iter().map(|report| report.detail.to_string()).collect();
            assert_eq!(is_left(), None, "read {read:?}, undone {order:?}: {told:?}");
            assert!(desk.journaled().is_empty(), "read {read:?}, undone {order:?}");
        }
    }
}

#[test]
fn a_setting_that_two_actions_have_come_to_hold_goes_back_to_what_it_was_before_both() {
    let server = Haproxy::start();
    let targets = || (limit(&server, Verb::Throttle, "throttle"), limit(&server, Verb::Drain, "drain"));
    let start = || {
        let (below, above) = targets();
        on_top(below, Verb::Throttle, above, Verb::Drain)
    };
    every_order(start, || Some(server.global_limit()).filter(|limit| limit != "200"));
    let start =
        || on_top(Target::Haproxy(server.target()), Verb::Throttle, Target::Haproxy(server.target()), Verb::Throttle);
    every_order(start, || Some(server.limit("be/s1")).filter(|limit| limit != "8"));
}

#[test]
fn a_thread_that_two_actions_have_come_to_hold_goes_back_to_what_it_was_before_both() {
    let family = Family::start();
    let is_left = || Some(family.server.nice()).filter(|nice| nice != "0 0 0");
    every_order(|| on_top(family.outer(), Verb::Throttle, family.inner(), Verb::Throttle), is_left);
    every_order(|| on_top(family.inner(), Verb::Throttle, family.outer(), Verb::Throttle), is_left);
}

/// Reached by another mount, a file has another path.
#[test]
fn a_directory_of_flags_is_one_by_whatever_path() {
    let server = super::support::nginx::Nginx::start();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("flags");
    fs::create_dir(&other).unwrap();
    let flags = server.target().flags.unwrap();
    fs::create_dir_all(&flags).unwrap();
    let Some(_mounted) = Mounted::bind(&flags, &other) else { return };
    let second = target::Nginx { flags: Some(other.clone()), ..server.target() };
    let mut desk = Desk::new(&[("front", Target::Nginx(server.target())), ("other", Target::Nginx(second))]);
    assert_eq!(desk.apply(1, "front", Verb::Shed, HALF).outcome, Outcome::Applied);
    is_held(&desk.apply(2, "other", Verb::Shed, Amount::Whole), "flag shed-10");
    assert_eq!((desk.undo(1).outcome, server.set().len()), (Outcome::Applied, 0));
}

struct Mounted<'p>(&'p Path);

impl<'p> Mounted<'p> {
    /// `None` where only root may.
    fn bind(from: &Path, to: &'p Path) -> Option<Self> {
        let ran = std::process::Command::new("mount").arg("--bind").args([from, to]).output().unwrap();
        let is_root = nix::unistd::geteuid().is_root();
        assert!(ran.status.success() || !is_root, "{}", String::from_utf8_lossy(&ran.stderr));
        ran.status.success().then_some(Self(to))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("--lazy").arg(self.0).status().ok();
    }
}
