//! Damage of every kind, at every byte: what was acknowledged survives.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::recover::Recovered;
use super::*;
use crate::control::address::Address;
use crate::control::target::Redis;
use crate::control::undo;
use crate::policy::mitigation::{Amount, Verb};

pub(super) fn entry(id: u64, prior: &str) -> Entry {
    Entry {
        id: ActionId(id),
        mitigation: Mitigation { control: "cache".into(), verb: Verb::Shrink, amount: Amount::Keep(50.0) },
        rule: "memory-high".into(),
        target: Target::Redis(Redis {
            listener: None,
            address: Address::Unix("/run/redis.sock".into()),
            username: None,
            password_file: None,
            cache_only: false,
            flush_pattern: None,
            client_buffers: None,
        }),
        undo: Undo {
            epoch: "boot/1".into(),
            changes: vec![undo::Change::new("maxmemory", prior, vec!["1".into()])],
            lapses_unix_ms: None,
        },
        since_unix_ms: 1_700_000_000_000,
    }
}

fn open(directory: &Path) -> Journal {
    let opened = Journal::open(directory).unwrap();
    assert_eq!(opened.damage, None);
    opened.journal
}

fn ids(journal: &Journal) -> Vec<u64> {
    journal.entries().iter().map(|entry| entry.id.0).collect()
}

/// The bytes of both files after these operations.
fn bytes(directory: &Path) -> [Vec<u8>; 2] {
    FILES.map(|name| fs::read(directory.join(name)).unwrap())
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("deep/er");
    let mut journal = open(&path);
    assert_eq!((journal.entries().len(), journal.next_id()), (0, ActionId(1)));
    journal.write(&entry(1, "a")).unwrap();
    journal.write(&entry(5, "b")).unwrap();
    journal.write(&entry(1, "c")).unwrap();
    drop(journal);
    let mut journal = open(&path);
    assert_eq!(journal.entries(), [entry(1, "c"), entry(5, "b")]);
    journal.close(ActionId(5)).unwrap();
    journal.close(ActionId(1)).unwrap();
    journal.close(ActionId(77)).unwrap();
    drop(journal);
    let journal = open(&path);
    assert_eq!((journal.entries().len(), journal.next_id()), (0, ActionId(6)));
}

#[test]
fn nobody_else_may_look_in() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    drop(open(&path));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert!(FILES.iter().all(|name| mode(&path.join(name)) == 0o600));
}

#[test]
fn a_shared_directory_is_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("shared");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("theirs"), "").unwrap();
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    for writable in [0o1777, 0o777, 0o775] {
        fs::set_permissions(&path, Permissions::from_mode(writable)).unwrap();
        let told = Journal::open(&path).unwrap_err().to_string();
        assert!(told.contains("holds what is not ours (theirs)") && told.contains("set state_directory"), "{told}");
        assert!(matches!(Journal::peek(&path), Err(JournalError::NotOurs { .. })));
        assert_eq!((mode(), fs::read_dir(&path).unwrap().count()), (writable, 1), "nothing was changed there");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    drop(open(&path));
    assert_eq!(mode(), 0o755);
    assert!(FILES.iter().all(|name| fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777 == 0o600));
}

/// As root only: nobody else can give a directory away.
#[test]
fn what_somebody_else_owns_is_neither_read_nor_written() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("state");
    let mut journal = open(&path);
    journal.write(&entry(1, "planted")).unwrap();
    drop(journal);
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(4_242_424), None).unwrap();
    for (shown, owner) in [(&path, Some(4_242_424)), (&link, None)] {
        std::os::unix::fs::chown(&path, owner.or(Some(0)), None).unwrap();
        let told = Journal::open(shown).unwrap_err().to_string();
        assert!(told.contains("belongs to uid 4242424"), "{told}");
        assert!(matches!(Journal::peek(shown), Err(JournalError::NotOurs { .. })), "what it says would be undone");
    }
}

#[test]
fn one_guardian_at_a_time() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    journal.write(&entry(1, "a")).unwrap();
    let text = Journal::open(directory.path()).unwrap_err().to_string();
    assert!(text.contains("held by another guardian") && text.contains(&std::process::id().to_string()), "{text}");
    assert!(matches!(Journal::peek(directory.path()), Err(JournalError::Held { .. })));
    drop(journal);
    assert_eq!(Journal::peek(directory.path()).unwrap(), [entry(1, "a")]);
    assert_eq!(Journal::peek(&directory.path().join("none")).unwrap(), []);
    drop(open(directory.path()));
}

#[test]
fn the_files_take_turns_and_never_grow() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    journal.write(&entry(1, "kept")).unwrap();
    for id in 2..1500 {
        journal.write(&entry(id, "x")).unwrap();
        journal.close(ActionId(id)).unwrap();
    }
    assert!(journal.generation >= 3, "{}", journal.generation);
    drop(journal);
    assert_eq!(bytes(directory.path()).map(|slot| slot.len()), [SLOT_BYTES; 2]);
    let journal = open(directory.path());
    assert_eq!((ids(&journal), journal.next_id()), (vec![1], ActionId(1500)));
}

#[test]
fn too_much_in_force_is_refused_and_the_rest_stays_usable() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    let large = "x".repeat(SLOT_BYTES / 4);
    for id in 1..=3 {
        journal.write(&entry(id, &large)).unwrap();
    }
    let text = journal.write(&entry(4, &large)).unwrap_err().to_string();
    assert!(text.contains("no room for action 4 beside the 3 in force"), "{text}");
    assert_eq!(ids(&journal), [1, 2, 3]);
    journal.write(&entry(5, "small")).unwrap();
    journal.close(ActionId(2)).unwrap();
    journal.write(&entry(6, &large)).unwrap();
    drop(journal);
    assert_eq!(ids(&open(directory.path())), [1, 3, 5, 6]);
}

#[test]
fn an_undo_that_could_not_be_read_again_is_refused() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    let mut broken = entry(1, "a");
    broken.mitigation.amount = Amount::Keep(f64::NAN);
    assert!(matches!(journal.write(&broken), Err(JournalError::Unwritable { id: ActionId(1), .. })));
    journal.write(&entry(1, "a")).unwrap();
}

#[test]
fn a_file_that_cannot_be_written_costs_nothing_while_the_other_can() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    journal.write(&entry(1, "a")).unwrap();
    let active = journal.tail.unwrap().slot;
    let path = directory.path().join(FILES[active]);
    journal.slots[active] = Slot::opened(File::open(&path).unwrap(), path);
    journal.write(&entry(2, "b")).unwrap();
    assert_eq!(journal.tail.unwrap().slot, 1 - active);
    drop(journal);
    assert_eq!(ids(&open(directory.path())), [1, 2]);
}

#[test]
fn after_a_failed_write_it_goes_on() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    journal.write(&entry(1, "a")).unwrap();
    let read_only = || FILES.map(|name| directory.path().join(name)).map(|p| Slot::opened(File::open(&p).unwrap(), p));
    let sound = std::mem::replace(&mut journal.slots, read_only());
    for _ in 0..3 {
        assert!(matches!(journal.write(&entry(2, "b")), Err(JournalError::Io { .. })));
        assert!(matches!(journal.close(ActionId(1)), Err(JournalError::Io { .. })));
    }
    assert_eq!(ids(&journal), [1]);
    journal.slots = sound;
    journal.write(&entry(3, "c")).unwrap();
    journal.close(ActionId(1)).unwrap();
    drop(journal);
    assert_eq!(ids(&open(directory.path())), [3]);
}

#[test]
fn what_another_version_wrote_is_kept_for_it() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    let payload = br#"{"write":{"id":41,"shape":"of the future"}}"#;
    let tail = journal.tail.unwrap();
    journal.tail = Some(journal.append(tail, &[payload.to_vec()], ActionId(1)).unwrap());
    drop(journal);
    for _ in 0..2 {
        let mut opened = Journal::open(directory.path()).unwrap();
        assert!(opened.damage.unwrap().contains("actions 41 were written by another version"));
        assert_eq!(opened.journal.next_id(), ActionId(42));
        opened.journal.rewrite(&opened.journal.state.clone(), ActionId(0)).unwrap();
    }
    let mut journal = Journal::open(directory.path()).unwrap().journal;
    journal.close(ActionId(41)).unwrap();
    drop(journal);
    drop(open(directory.path()));
}

/// Both files before and after the last of some operations, and where its frame lies.
struct Tale {
    before: Vec<Entry>,
    after: Vec<Entry>,
    slots: [Vec<u8>; 2],
    slot: usize,
    frame: std::ops::Range<usize>,
}

fn tale(last: impl FnOnce(&mut Journal)) -> Tale {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    for id in 1..=4 {
        journal.write(&entry(id, "a")).unwrap();
    }
    journal.close(ActionId(2)).unwrap();
    let (before, begin) = (journal.entries().to_vec(), journal.tail.unwrap());
    last(&mut journal);
    let (after, end) = (journal.entries().to_vec(), journal.tail.unwrap());
    assert_eq!(begin.slot, end.slot);
    Tale { before, after, slots: bytes(directory.path()), slot: begin.slot, frame: begin.end..end.end }
}

impl Tale {
    fn recovered_from(&self, damaged: &[u8]) -> Recovered {
        let mut slots = [self.slots[0].as_slice(), self.slots[1].as_slice()];
        slots[self.slot] = damaged;
        recover(slots)
    }

    /// Before or after, and never silent about a loss that the bytes still show.
    fn judge(&self, damaged: &[u8], what: &str) {
        let recovered = self.recovered_from(damaged);
        let entries = &recovered.state.entries;
        assert!(*entries == self.before || *entries == self.after, "{what}: {entries:?}");
        if *entries == self.before && damaged[self.frame.start..].iter().any(|byte| *byte != 0) {
            assert!(recovered.damage.is_some() && recovered.tail.is_none(), "{what} is not told");
        }
    }
}

#[test]
fn a_tail_record_damaged_at_any_byte_costs_at_most_itself() {
    let tales = [tale(|journal| journal.write(&entry(5, "new")).unwrap()), tale(|j| j.close(ActionId(3)).unwrap())];
    for tale in &tales {
        let whole = &tale.slots[tale.slot];
        assert_eq!(tale.recovered_from(whole).state.entries, tale.after);
        for at in tale.frame.clone() {
            tale.judge(&whole[..at], &format!("cut at {at}"));
            let mut torn = whole.clone();
            torn[at..].fill(0);
            tale.judge(&torn, &format!("torn at {at}"));
            torn[at..tale.frame.end].fill(0xA5);
            tale.judge(&torn, &format!("garbage from {at}"));
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                tale.judge(&flipped, &format!("bit {bit} of {at}"));
            }
        }
    }
}

#[test]
fn damage_to_the_file_at_any_byte_is_survived_by_everything_else() {
    let tale = tale(|journal| journal.write(&entry(5, "new")).unwrap());
    let directory = TempDir::new().unwrap();
    drop(open(directory.path()));
    for at in tale.frame.clone().step_by(7) {
        for (name, slot) in FILES.iter().zip(&tale.slots) {
            fs::write(directory.path().join(name), slot).unwrap();
        }
        let damaged = directory.path().join(FILES[tale.slot]);
        if at % 2 == 0 {
            File::options().write(true).open(&damaged).unwrap().set_len(at as u64).unwrap();
        } else {
            let mut bytes = tale.slots[tale.slot].clone();
            bytes[at] ^= 0x10;
            fs::write(&damaged, bytes).unwrap();
        }
        let mut journal = Journal::open(directory.path()).unwrap().journal;
        assert!(journal.entries() == tale.before || journal.entries() == tale.after, "byte {at}");
        journal.write(&entry(9, "later")).unwrap();
        drop(journal);
        assert_eq!(ids(&open(directory.path())).last(), Some(&9), "byte {at}");
    }
}

#[test]
fn a_damaged_record_in_the_middle_is_skipped_and_told() {
    let tale = tale(|journal| journal.write(&entry(5, "new")).unwrap());
    let mut damaged = tale.slots[tale.slot].clone();
    damaged[BODY + 40] ^= 1;
    let recovered = tale.recovered_from(&damaged);
    assert_eq!(recovered.state.entries.iter().map(|e| e.id.0).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(recovered.damage.unwrap(), "1 damaged records were skipped, the 5 others were read");
}

#[test]
fn both_seals_gone_cost_nothing() {
    let directory = TempDir::new().unwrap();
    let mut journal = open(directory.path());
    for id in 1..900 {
        journal.write(&entry(id, "x")).unwrap();
        if id > 3 {
            journal.close(ActionId(id - 1)).unwrap();
        }
    }
    let (wanted, slot) = (journal.state.clone(), journal.tail.unwrap().slot);
    assert!(journal.generation >= 2);
    let mut slots = bytes(directory.path());
    for seals in [&[0][..], &[4096], &[0, 4096]] {
        for seal in seals {
            slots[slot][seal + 9] ^= 4;
        }
        let recovered = recover([&slots[0], &slots[1]]);
        assert_eq!(recovered.state, wanted);
        for seal in seals {
            slots[slot][seal + 9] ^= 4;
        }
    }
    slots[0][0] ^= 1;
    slots[1][0] ^= 1;
    assert!(recover([&slots[0], &slots[1]]).damage.unwrap().contains("one of two seals is damaged"));
}

#[test]
fn hostile_files_are_read_without_harm() {
    proptest!(|(a in prop::collection::vec(any::<u8>(), 0..2048), b in prop::collection::vec(any::<u8>(), 0..2048))| {
        let recovered = recover([&a, &b]);
        prop_assert!(recovered.state.entries.is_empty());
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64),
    Close(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1..12_u64).prop_map(Step::Write),
        4 => (1..12_u64).prop_map(Step::Close),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any history, interrupted in the middle of a rewrite at any point: the state before or after.
    #[test]
    fn any_history_is_what_a_plain_list_would_be(steps in steps(), size in 1..40_000_usize, cut in any::<prop::sample::Index>()) {
        let directory = TempDir::new().unwrap();
        let mut journal = open(directory.path());
        let mut model = State::default();
        let prior = "y".repeat(size);
        for step in steps {
            let old = bytes(directory.path());
            let before = model.clone();
            match step {
                Step::Write(id) => {
                    // What does not fit is refused by both.
                    if journal.write(&entry(id, &prior)).is_ok() {
                        model.take(&Change::Write(Box::new(entry(id, &prior))));
                    }
                }
                Step::Close(id) => {
                    journal.close(ActionId(id)).unwrap();
                    model.take(&Change::Close(ActionId(id)));
                }
                Step::Reopen => {
                    drop(journal);
                    journal = open(directory.path());
                }
            }
            prop_assert_eq!(journal.entries(), model.entries.as_slice());
            prop_assert_eq!(journal.next_id(), model.next_id);
            let new = bytes(directory.path());
            prop_assert_eq!(&recover([&new[0], &new[1]]).state, &model);
            // A rewrite touches one file: seals away, then the body in any part, then the seals.
            if let Some(slot) = (0..2).find(|slot| old[*slot][..32] != new[*slot][..32]) {
                let mut half = old.clone();
                half[slot][..BODY].fill(0);
                let at = BODY + cut.index(SLOT_BYTES - BODY);
                half[slot][BODY..at].copy_from_slice(&new[slot][BODY..at]);
                let entries = recover([&half[0], &half[1]]).state.entries;
                prop_assert!(entries == before.entries || entries == model.entries, "{} entries", entries.len());
            }
        }
    }
}
