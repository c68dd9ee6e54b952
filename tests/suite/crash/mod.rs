//! The crash matrix: every reversible verb of every kind × every instant at which the guardian can die × what happens
//! before it is back. Each case runs an action's whole life (done, weakened, read back and renewed, undone) against the real
//! service, kills the guardian at one instant, and lets the next one clear up with nothing but the journal on disk. Then
//! the service must be as it was, an operator's value as he set it, and the journal empty.
//!
//! `daemon/crash.rs` does the same to the whole daemon with `kill -9`, at each message on the wire.

mod caches;
mod doom;
mod fickle;
mod subjects;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use node_guardian::control::Control;
use node_guardian::control::target::Target;
use node_guardian::journal::Journal;
use node_guardian::policy::mitigation::{ActionId, Answered, Lease, Outcome};

use super::support::desk::{Desk, renew};
use super::support::eventually;
use doom::{Doomed, Fate};
use subjects::{Case, Subject};

/// Of all kinds, verbs and instants together.
const LEAST_CASES: usize = 2500;
/// Of the grace of a service that obeys late: 1.25 s are left of it, which a busy machine does not use up.
const HASTE: u32 = 2;
/// Six graces, and some.
const SETTLED_WITHIN: Duration = Duration::from_secs(12);
const ACTION: u64 = 1;

/// What happens between the kill and the next start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    Nothing,
    /// An operator sets the very value.
    Interference,
    Restart,
    /// The guardian that clears up is killed too.
    AnotherCrash,
    /// A restart that keeps what was set, because somebody saved it.
    SavedRestart,
    /// The service is at another place, and comes back to the old one later.
    Move,
}

const ALL: [Meanwhile; 6] = [
    Meanwhile::Nothing,
    Meanwhile::Interference,
    Meanwhile::Restart,
    Meanwhile::AnotherCrash,
    Meanwhile::SavedRestart,
    Meanwhile::Move,
];

/// What the service should show afterwards.
struct Faces {
    untouched: String,
    interfered: String,
}

#[test]
fn whenever_the_guardian_dies_nothing_is_left_behind_and_no_operators_value_is_lost() {
    let cases = AtomicUsize::new(0);
    let next = AtomicUsize::new(0);
    let all = subjects::all();
    // They mostly wait for their services.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let began = Instant::now();
                    let swept = sweep(case);
                    eprintln!("{:<28} {swept:>4} cases in {:.1} s", case.name, began.elapsed().as_secs_f64());
                    cases.fetch_add(swept, Ordering::SeqCst);
                }
            });
        }
    });
    let cases = cases.into_inner();
    eprintln!("{cases} cases");
    assert!(cases >= LEAST_CASES, "only {cases} cases");
}

/// How many instants there were, times what can happen meanwhile.
fn sweep(case: &Case) -> usize {
    let mut subject = (case.start)();
    let untouched = subject.face();
    subject.interfere();
    let interfered = subject.face();
    assert_ne!(untouched, interfered, "{}: an interference shows", case.name);
    subject.tidy();
    assert_eq!(subject.face(), untouched, "{}: and can be taken back by the test", case.name);
    let faces = Faces { untouched, interfered };
    let mut cases = 0;
    let known: Vec<_> = ALL.into_iter().filter(|meanwhile| subject.knows(*meanwhile)).collect();
    for meanwhile in known {
        let mut at = 0;
        while strike(case, &mut *subject, at, meanwhile, &faces) {
            cases += 1;
            at += if meanwhile == Meanwhile::Restart { case.restart_every } else { 1 };
        }
        assert!(at > 10, "{}: an action has more instants than {at}", case.name);
    }
    cases
}

/// False where the action came to its end before that instant.
fn strike(case: &Case, subject: &mut dyn Subject, at: usize, meanwhile: Meanwhile, faces: &Faces) -> bool {
    let what = format!("{}, killed at instant {at}, meanwhile {meanwhile:?}", case.name);
    let folder = scratch();
    let target = subject.target();
    if lives(case, folder.path(), &target, &Fate::at(at)) {
        assert_eq!(subject.face(), faces.untouched, "{}: after a whole life", case.name);
        return false;
    }
    let expected = match meanwhile {
        Meanwhile::Nothing | Meanwhile::AnotherCrash => &faces.untouched,
        Meanwhile::Interference => {
            subject.interfere();
            &faces.interfered
        }
        Meanwhile::Restart => {
            subject.restart();
            &faces.untouched
        }
        Meanwhile::SavedRestart => {
            subject.restart_with_what_was_saved();
            &faces.untouched
        }
        Meanwhile::Move => {
            stands_elsewhere(case, &what, folder.path(), subject);
            &faces.untouched
        }
    };
    let target = subject.target();
    if meanwhile == Meanwhile::AnotherCrash {
        clear_up(&what, folder.path(), &target, &Fate::at(at % 8));
    }
    clear_up(&what, folder.path(), &target, &Fate::at(usize::MAX));
    assert_eq!(&subject.face(), expected, "{what}");
    assert_eq!(owed(folder.path()), [], "{what}: the journal");
    subject.tidy();
    true
}

/// What is owed at the old place is kept, and keeps nobody from acting at the new one.
fn stands_elsewhere(case: &Case, what: &str, folder: &Path, subject: &mut dyn Subject) {
    let owed_there = owed(folder);
    let untouched = subject.moves();
    let mut desk = doomed(folder, &subject.target(), &Fate::at(usize::MAX));
    for ActionId(id) in &owed_there {
        desk.order_revert(*id);
        let report = desk.report_unless(*id, Answered::Undo, &|| false).unwrap();
        assert_eq!(report.outcome, Outcome::Unreachable, "{what}: {report:?}");
    }
    desk.order(ACTION + 1, "it", case.verb, case.strong);
    let report = desk.report_unless(ACTION + 1, Answered::Apply, &|| false).unwrap();
    assert_eq!(report.outcome, Outcome::Applied, "{what}: {report:?}");
    desk.order_revert(ACTION + 1);
    let report = desk.report_unless(ACTION + 1, Answered::Undo, &|| false).unwrap();
    assert_eq!(report.outcome, Outcome::Applied, "{what}: {report:?}");
    assert_eq!(subject.face(), untouched, "{what}: at the new place");
    drop(desk);
    assert_eq!(owed(folder), owed_there, "{what}: kept");
    subject.moves_back();
}

/// An action's whole life; false where fate struck.
fn lives(case: &Case, folder: &Path, target: &Target, fate: &Arc<Fate>) -> bool {
    let mut desk = doomed(folder, target, fate);
    let struck = || fate.has_struck();
    let expect = |desk: &mut Desk, answered: Answered, wanted: &[Outcome]| {
        let report = desk.report_unless(ACTION, answered, &struck);
        if let Some(report) = &report {
            assert!(wanted.contains(&report.outcome), "{}: {answered:?}: {report:?}", case.name);
        }
        report.is_some()
    };
    let done = [Outcome::Applied, Outcome::NoEffect];
    desk.order(ACTION, "it", case.verb, case.strong);
    if !expect(&mut desk, Answered::Apply, &done) {
        return false;
    }
    if let Some(weak) = case.weak {
        desk.order(ACTION, "it", case.verb, weak);
        if !expect(&mut desk, Answered::Apply, &done) {
            return false;
        }
    }
    desk.order_verify(ACTION, renew());
    if !expect(&mut desk, Answered::Verify, &done) {
        return false;
    }
    desk.order_revert(ACTION);
    expect(&mut desk, Answered::Undo, &[Outcome::Applied])
}

/// As the daemon does at its start: what the journal holds is read back, and what is still in force is undone.
fn clear_up(what: &str, folder: &Path, target: &Target, fate: &Arc<Fate>) {
    let owed = owed(folder);
    let mut desk = doomed(folder, target, fate);
    for ActionId(id) in owed {
        desk.order_verify(id, Lease::LetLapse);
        let Some(found) = desk.report_unless(id, Answered::Verify, &|| fate.has_struck()) else { return };
        match found.outcome {
            Outcome::Applied | Outcome::NoEffect => {}
            Outcome::Already | Outcome::Overridden | Outcome::EpochChanged => continue,
            _ => panic!("{what}: {found:?}"),
        }
        let ends = [Outcome::Applied, Outcome::Already, Outcome::Overridden, Outcome::EpochChanged];
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            desk.order_revert(id);
            let Some(undone) = desk.report_unless(id, Answered::Undo, &|| fate.has_struck()) else { return };
            if ends.contains(&undone.outcome) {
                break;
            }
            // What may have been told before the end may still be obeyed.
            let waits = undone.outcome == Outcome::TimedOut && undone.detail.contains("still may");
            assert!(waits && Instant::now() < until, "{what}: {undone:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// A server that another thread starts this very moment holds the lock until it has become one.
fn open(folder: &Path) -> Journal {
    eventually("the journal is free", || Journal::open(folder).ok()).journal
}

fn doomed(folder: &Path, target: &Target, fate: &Arc<Fate>) -> Desk {
    let fate = Arc::clone(fate);
    let open = move |target: &Target| {
        let service = Doomed { service: target.place().open(), fate: Arc::clone(&fate), haste: HASTE };
        Control::from(Box::new(service) as Box<_>)
    };
    Desk::on_disk_with(folder, &[("it", target.clone())], Box::new(open))
}

fn owed(folder: &Path) -> Vec<ActionId> {
    open(folder).entries().iter().map(|entry| entry.id).collect()
}

/// In memory, since the journal syncs each record: what a disk does to that is the journal's own test.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}
