//! What lies in the directory that was used before, carried over to the one that is used now. It is durable there before it
//! is given up here: a crash in between loses nothing, and what was carried over already is known again by what it says.
//! What was ordered in the former one is the newer, since that one was used last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lock::{Lock, Sharing};
use super::recover::recover;
use super::state::State;
use super::{Change, Entry, FILES, Journal, JournalError, directory, slot};
use crate::clock;
use crate::keeper::orders::{self, Now};
use crate::policy::mitigation::ActionId;
use crate::policy::moment::Moment;
use crate::policy::orders::{Orders, Theirs, Undone};

/// Held, so that no guardian lives that uses it.
#[derive(Debug)]
pub(super) struct Former {
    directory: PathBuf,
    lock: Lock,
    state: State,
    /// Or why they say nothing.
    orders: Result<Orders, String>,
    damage: Option<String>,
}

/// What both come to.
#[derive(Debug)]
pub(super) struct Carried {
    pub state: State,
    pub orders: Orders,
    /// Why nobody knows what was ordered in the former one: its file is damaged.
    pub unread_orders: Option<String>,
    /// What a crash cost there.
    pub damage: Option<String>,
}

impl Former {
    /// # Errors
    /// When a guardian holds it, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        directory::check(directory)?;
        let lock = Lock::take(directory, Sharing::Alone)?;
        let bytes = [slot::read(&directory.join(FILES[0]))?, slot::read(&directory.join(FILES[1]))?];
        let recovered = recover([&bytes[0], &bytes[1]]);
        let orders = match orders::read(directory, now()) {
            Err(error) if error.raw_os_error().is_some() => {
                return Err(JournalError::io("read", &directory.join(orders::NAME), error));
            }
            read => read.map_err(|error| error.to_string()),
        };
        Ok(Self { directory: directory.to_owned(), lock, state: recovered.state, orders, damage: recovered.damage })
    }

    /// Changes nothing: what is known of it before anything can be written.
    pub fn joined_to(&self, own: &State, ordered: &Orders) -> Carried {
        let none = Orders::default();
        let (orders, unread_orders) = match &self.orders {
            Ok(orders) => (orders, None),
            Err(why) => (&none, Some(format!("{}: {why}", self.directory.join(orders::NAME).display()))),
        };
        let (state, orders) = join(own, ordered, &self.state, orders);
        Carried { state, orders, unread_orders, damage: self.damage.clone() }
    }

    /// All of it; the former directory holds nothing then, as far as it can be written.
    ///
    /// # Errors
    /// When it could not be made durable: then it is where it was.
    pub fn carry_to(self, journal: &mut Journal) -> Result<Carried, JournalError> {
        let carried = self.joined_to(&journal.state, &own_orders(&journal.directory)?);
        journal.replace(&carried.state)?;
        self.put_orders(&journal.directory, &carried)?;
        let former = self.directory.clone();
        if let Err(error) = self.close() {
            // Whoever goes back to it undoes once more what is undone, which is safe.
            tracing::warn!("what was carried over from {} is there still: {error}", former.display());
            return Ok(carried);
        }
        if let Err(error) = orders::remove(&former) {
            tracing::warn!("the orders that were carried over from {} are there still: {error}", former.display());
        }
        Ok(carried)
    }

    /// Damaged ones are carried over as they are: until somebody orders anew, each start tells it.
    fn put_orders(&self, directory: &Path, carried: &Carried) -> Result<(), JournalError> {
        let put = if carried.unread_orders.is_some() {
            orders::copy(&self.directory, directory)
        } else if carried.orders == Orders::default() && !orders::is_in(directory) {
            Ok(())
        } else {
            orders::put(directory, &orders::bytes(&carried.orders, now()))
        };
        put.map_err(|error| JournalError::io("write", &directory.join(orders::NAME), error))
    }

    fn close(self) -> Result<(), JournalError> {
        let ids = self.state.ids();
        if ids.is_empty() {
            return Ok(());
        }
        let mut journal = Journal::of(&self.directory, self.lock)?.journal;
        journal.commit(&ids.into_iter().map(Change::Close).collect::<Vec<_>>()).map(drop)
    }
}

/// What was ordered in the new one, when that was used. Damaged, they are older than what was used last.
///
/// # Errors
/// When the system does not read them.
fn own_orders(directory: &Path) -> Result<Orders, JournalError> {
    match orders::read(directory, now()) {
        Err(error) if error.raw_os_error().is_some() => {
            Err(JournalError::io("read", &directory.join(orders::NAME), error))
        }
        read => Ok(read.unwrap_or_default()),
    }
}

fn now() -> Now {
    Now { moment: clock::now().unwrap_or(Moment::ORIGIN), unix_ms: clock::unix_ms() }
}

/// The numbers of the former one stay where nothing else has them.
fn join(own: &State, ordered: &Orders, former: &State, formerly: &Orders) -> (State, Orders) {
    let mut after = own.clone();
    let mut ids = Ids::new([own, former], [ordered, formerly]);
    for (id, payload) in &former.foreign {
        match own.foreign.iter().find(|(_, known)| nameless(known) == nameless(payload)) {
            Some((known, _)) => ids.same(*id, *known),
            None => {
                let new = ids.of(*id);
                after.foreign.push((new, named(payload, new)));
            }
        }
    }
    for entry in &former.entries {
        match own.entries.iter().find(|known| is_same(known, entry)) {
            Some(known) => ids.same(entry.id, known.id),
            None => after.entries.push(Entry { id: ids.of(entry.id), ..entry.clone() }),
        }
    }
    // Of what the journal holds no more, nothing is to be given up.
    let held = former.ids();
    let forgotten = formerly.forgotten().iter().filter(|id| held.contains(id)).map(|id| ids.of(*id)).collect();
    let undone = formerly.undone().iter().map(|undone| {
        let known = ordered.undone().iter().find(|known| {
            (&known.knob, &known.mitigation, &known.by) == (&undone.knob, &undone.mitigation, &undone.by)
        });
        Undone { id: ids.of_known(undone.id, known.map(|known| known.id)), ..undone.clone() }
    });
    let undone = undone.collect();
    let theirs = formerly.theirs().iter().map(|theirs| {
        let known = ordered.theirs().iter().find(|known| {
            (&known.knob, &known.mitigation, &known.found) == (&theirs.knob, &theirs.mitigation, &theirs.found)
        });
        Theirs { id: ids.of_known(theirs.id, known.map(|known| known.id)), ..theirs.clone() }
    });
    let theirs = theirs.collect();
    let losses = formerly.losses().clone();
    let mut orders = Orders::of(formerly.pause().cloned(), undone, theirs, forgotten, losses);
    orders.join(ordered.clone());
    after.next_id = ids.next;
    (after, orders)
}

/// Which number of the former directory is which now.
struct Ids {
    taken: BTreeSet<ActionId>,
    renamed: BTreeMap<ActionId, ActionId>,
    next: ActionId,
}

impl Ids {
    fn new([own, former]: [&State; 2], [ordered, formerly]: [&Orders; 2]) -> Self {
        let taken: BTreeSet<_> = own.ids().into_iter().chain(ordered.ids()).collect();
        let highest = taken.iter().copied().chain(formerly.ids()).max().map_or(0, |id| id.0.saturating_add(1));
        let next = own.next_id.max(former.next_id).max(ActionId(highest));
        Self { taken, renamed: BTreeMap::new(), next }
    }

    fn same(&mut self, id: ActionId, known: ActionId) {
        self.renamed.insert(id, known);
    }

    fn of_known(&mut self, id: ActionId, known: Option<ActionId>) -> ActionId {
        if let Some(known) = known.filter(|_| !self.renamed.contains_key(&id)) {
            self.same(id, known);
        }
        self.of(id)
    }

    fn of(&mut self, id: ActionId) -> ActionId {
        if let Some(known) = self.renamed.get(&id) {
            return *known;
        }
        let new = if self.taken.insert(id) {
            id
        } else {
            let new = self.next;
            self.next = ActionId(new.0.saturating_add(1));
            self.taken.insert(new);
            new
        };
        self.renamed.insert(id, new);
        new
    }
}

fn is_same(one: &Entry, other: &Entry) -> bool {
    *one == Entry { id: one.id, ..other.clone() }
}

/// `{"write": {"id": 7, …}}` without its number.
fn nameless(payload: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(payload).ok()?;
    *value.pointer_mut("/write/id")? = Value::Null;
    Some(value)
}

fn named(payload: &[u8], id: ActionId) -> Vec<u8> {
    let renamed = serde_json::from_slice(payload).ok().and_then(|mut value: Value| {
        let place = value.pointer_mut("/write/id")?;
        if *place == id.0 {
            return None;
        }
        *place = id.0.into();
        serde_json::to_vec(&value).ok()
    });
    renamed.unwrap_or_else(|| payload.to_vec())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::super::tests::entry;
    use super::*;
    use crate::policy::losses::{Loss, Losses};
    use crate::policy::mitigation::{Knob, Verb};
    use crate::policy::orders::{Ends, Hold, Pause};
    use crate::policy::quiet::Quiet;

    fn undone(id: u64, target: &str) -> Undone {
        Undone {
            id: ActionId(id),
            knob: Knob { target: target.into(), verb: Verb::Shrink },
            mitigation: entry(id, "").mitigation,
            since: now().moment,
            by: "uid 0".into(),
            quiet: Quiet::default(),
        }
    }

    fn theirs(id: u64, target: &str) -> Theirs {
        let Undone { id, knob, mitigation, since, .. } = undone(id, target);
        Theirs { id, knob, mitigation, found: "5".into(), since, ends: Ends::WhenAllAreClear(Quiet::default()) }
    }

    fn lost() -> Losses {
        let knob = Knob { target: "one".into(), verb: Verb::Flush };
        Losses::of(vec![Loss::new("short".into(), "cache".into(), knob, now().moment)])
    }

    fn pause() -> Pause {
        let since = now().moment;
        Pause { since, until: since + Duration::from_secs(1800), hold: Hold::Keep, by: "uid 0".into() }
    }

    /// Both know an action 1 and an action 2, each another one.
    struct Both {
        folder: TempDir,
    }

    impl Both {
        fn new() -> Self {
            let both = Self { folder: tempfile::tempdir().unwrap() };
            let mut own = both.journal();
            own.write(&entry(1, "own")).unwrap();
            let ordered = Orders::of(None, vec![undone(2, "own")], vec![theirs(5, "both")], vec![], Losses::default());
            orders::put(&both.own(), &orders::bytes(&ordered, now())).unwrap();
            let mut former = Journal::open(&both.former()).unwrap().journal;
            for (id, prior) in [(1, "one"), (2, "two"), (3, "three")] {
                former.write(&entry(id, prior)).unwrap();
            }
            former.close(ActionId(3)).unwrap();
            let (undone, theirs) = (vec![undone(2, "two"), undone(6, "both")], vec![theirs(3, "three")]);
            let ordered = Orders::of(Some(pause()), undone, theirs, vec![ActionId(1), ActionId(3)], lost());
            orders::put(&both.former(), &orders::bytes(&ordered, now())).unwrap();
            both
        }

        fn own(&self) -> PathBuf {
            self.folder.path().join("own")
        }

        fn former(&self) -> PathBuf {
            self.folder.path().join("former")
        }

        fn journal(&self) -> Journal {
            Journal::open(&self.own()).unwrap().journal
        }

        /// Only so many steps of it, as before a crash.
        fn carry(&self, steps: usize) {
            let (former, mut journal) = (Former::open(&self.former()).unwrap(), self.journal());
            let carried = former.joined_to(&journal.state, &own_orders(&self.own()).unwrap());
            if steps > 0 {
                journal.replace(&carried.state).unwrap();
            }
            if steps > 1 {
                former.put_orders(&self.own(), &carried).unwrap();
            }
            if steps > 2 {
                former.close().unwrap();
            }
            if steps > 3 {
                orders::remove(&self.former()).unwrap();
            }
        }

        fn judge(&self, what: &str) {
            let journal = self.journal();
            let held = journal.entries().iter().map(|entry| (&*entry.undo.changes[0].prior, entry.id.0));
            let held: BTreeMap<_, _> = held.collect();
            assert_eq!((journal.entries().len(), held["own"]), (3, 1), "{what}: {held:?}");
            let orders = orders::read(&self.own(), now()).unwrap();
            assert!(orders.pause().is_some() && orders.theirs().len() == 1, "{what}: {orders:?}");
            assert_eq!(orders.losses().all().len(), 1, "{what}: {orders:?}");
            let known: BTreeMap<_, _> =
                orders.undone().iter().map(|undone| (&*undone.knob.target, undone.id)).collect();
            assert_eq!((orders.undone().len(), known["own"]), (3, ActionId(2)), "{what}: {orders:?}");
            assert_eq!(known["two"], ActionId(held["two"]), "{what}: it is one action");
            assert!(orders.forgotten().contains(&ActionId(held["one"])), "{what}: {orders:?}");
            assert!(!orders.forgotten().iter().any(|id| [1, held["two"]].contains(&id.0)), "{what}: {orders:?}");
            let all: Vec<_> = journal.state.ids().into_iter().chain(orders.ids()).collect();
            assert!(all.iter().all(|id| *id < journal.next_id()), "{what}: {all:?}");
            assert!(journal.next_id() > ActionId(6), "{what}");
            assert_eq!(Journal::peek(&self.former()).unwrap(), [], "{what}");
            assert!(!orders::is_in(&self.former()), "{what}");
        }
    }

    #[test]
    fn a_crash_between_any_two_steps_loses_nothing_and_takes_nothing_twice() {
        for first in 0..=4 {
            for second in 0..=4 {
                let both = Both::new();
                both.carry(first);
                both.carry(second);
                let (former, mut journal) = (Former::open(&both.former()).unwrap(), both.journal());
                former.carry_to(&mut journal).unwrap();
                drop(journal);
                both.judge(&format!("after {first} and {second} steps"));
            }
        }
    }

    #[test]
    fn what_another_version_wrote_goes_with_it() {
        let payload = |id: u64| format!("{{\"write\":{{\"id\":{id},\"strange\":true}}}}").into_bytes();
        let own = State { foreign: vec![(ActionId(1), b"{\"write\":{\"id\":1}}".to_vec())], ..State::default() };
        let former = State { foreign: vec![(ActionId(1), payload(1))], next_id: ActionId(4), ..State::default() };
        let none = Orders::default();
        let (after, _) = join(&own, &none, &former, &none);
        assert_eq!(after.foreign, [own.foreign[0].clone(), (ActionId(4), payload(4))]);
        assert_eq!((after.next_id, join(&after, &none, &former, &none).0), (ActionId(5), after.clone()));
    }

    #[test]
    fn damaged_orders_are_told_by_each_start_from_there_on() {
        let both = Both::new();
        fs::write(both.former().join(orders::NAME), "no orders").unwrap();
        let carried = Former::open(&both.former()).unwrap().carry_to(&mut both.journal()).unwrap();
        assert!(carried.unread_orders.is_some_and(|why| why.contains("damaged")));
        assert_eq!((both.journal().entries().len(), carried.orders.undone().len()), (3, 1));
        assert!(orders::read(&both.own(), now()).is_err() && !orders::is_in(&both.former()));
    }

    #[test]
    fn one_that_is_held_or_cannot_be_read_is_left_alone() {
        let both = Both::new();
        let held = Former::open(&both.former()).unwrap();
        assert!(matches!(Former::open(&both.former()), Err(JournalError::Held { .. })));
        drop(held);
        fs::remove_file(both.former().join(FILES[0])).unwrap();
        fs::create_dir(both.former().join(FILES[0])).unwrap();
        assert!(matches!(Former::open(&both.former()), Err(JournalError::Io { .. })));
    }
}
