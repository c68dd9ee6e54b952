//! Small files of the state directory: the last good configuration, written whole, and the operator's orders, whose room is
//! taken at start so that a full disk loses none. It has a thread of its own, since a disk may take its time; the loop only
//! hands over what is to be written, and is never made to wait. Each file is the old one or the new one, whatever happens.

pub mod orders;
mod slots;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use self::slots::Slots;
use crate::config::last_good;
use crate::events::Daemon;
use crate::heartbeat::{Heartbeat, Sign};
use crate::inbox::{Door, Message};
use crate::journal;
use crate::policy::moment::Moment;
use crate::privilege;

const STACK_BYTES: usize = 128 << 10;
/// What could not be written is tried again after this long.
const AGAIN: Duration = Duration::from_secs(10);
/// One look at a name: what is kept in a directory that is gone helps no later start.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Within this, all threads that a start or a reload makes have gone through code that nothing else runs.
const SETTLED: Duration = Duration::from_secs(1);
/// As long as a change waits for its record; whoever asks on the command line has 5 s of patience. Then it is worth telling
/// that the disk keeps it waiting.
pub const KEPT_WITHIN: Duration = Duration::from_secs(2);
/// A start waits this long for the room of the orders: longer only where the disk does not answer, which then holds up nothing.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);
/// A stop waits this long for what was handed over last.
const FAREWELL: Duration = Duration::from_secs(2);
const ONE_IS_DAMAGED: &str =
    "one of its two copies is damaged, so the last order may be missing: check `node-guardian status`, and repeat it";

/// Who waits for an order to be durable: nothing, or why it is not.
pub type Heard = oneshot::Sender<Result<(), String>>;

/// Newest content last.
#[derive(Debug)]
enum Page {
    File {
        name: String,
        bytes: Vec<u8>,
    },
    Orders {
        bytes: Vec<u8>,
        heard: Vec<Heard>,
    },
    /// What the directory holds, wherever it is now, has been read.
    Known,
}

#[derive(Debug)]
pub struct Keeper {
    pages: Sender<Page>,
    thread: JoinHandle<()>,
    heartbeat: Arc<Heartbeat>,
}

impl Keeper {
    /// Keeps these orders, and takes the room that later ones will need before it returns, unless the disk hangs. None where
    /// nobody could read what is kept there: that must not be written over.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(directory: &Path, orders: Option<Vec<u8>>, door: Door) -> io::Result<Self> {
        let (pages, queue) = mpsc::channel();
        let mut writer = Writer::new(directory, door);
        let is_room_taken = orders.is_none() || directory.join(orders::NAME).exists();
        writer.orders = orders;
        let (tell_taken, taken) = mpsc::channel();
        let heartbeat = Arc::clone(&writer.heartbeat);
        let write = move || {
            writer.heartbeat.wait();
            writer.place = identity(&writer.directory);
            writer.write_orders();
            // Who started it may not have waited.
            tell_taken.send(()).ok();
            writer.work(&queue);
        };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).stack_size(STACK_BYTES).spawn(write)?;
        if !is_room_taken {
            // Later it is as good, as long as the disk does not get full before.
            taken.recv_timeout(TAKEN_WITHIN).ok();
        }
        Ok(Self { pages, thread, heartbeat })
    }

    /// Returns at once. Of several contents of one file only the newest need be written.
    pub fn keep(&self, name: &str, bytes: Vec<u8>) {
        // A thread that has ended told so by its panic, and there is nobody else to write it.
        self.pages.send(Page::File { name: name.to_owned(), bytes }).ok();
    }

    /// Returns at once; whoever waits hears when these are durable, or why they are not.
    pub fn keep_orders(&self, bytes: Vec<u8>, heard: Vec<Heard>) {
        // As above: then those who wait hear nothing, which tells them enough.
        self.pages.send(Page::Orders { bytes, heard }).ok();
    }

    /// What lies in the directory has been read: it may be written over. One that takes the place of that one later may hold
    /// what nobody has read.
    pub fn knows_the_place(&self) {
        // As above.
        self.pages.send(Page::Known).ok();
    }

    /// For how long the disk has kept what is to be written.
    #[must_use]
    pub fn waits_since(&self, now: Moment) -> Option<Duration> {
        match self.heartbeat.sign(now) {
            Sign::Waiting(since) => Some(since),
            Sign::Well | Sign::Overdue(_) | Sign::Ended => None,
        }
    }

    /// Waits for what is being written, but not for a disk that hangs: then it ends with the process.
    pub fn say_goodbye(self) {
        drop(self.pages);
        let until = Instant::now() + FAREWELL;
        while !self.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

struct Writer {
    directory: PathBuf,
    /// The directory that is known, whatever the path leads to.
    place: Option<(u64, u64)>,
    door: Door,
    waiting: BTreeMap<String, Vec<u8>>,
    /// `None` where there was no room for them yet.
    slots: Option<Slots>,
    /// To be written.
    orders: Option<Vec<u8>>,
    /// As they were written last.
    kept: Vec<u8>,
    /// Who waits for these orders.
    heard: Vec<Heard>,
    /// Those of which it was told that they cannot be written.
    failing: BTreeSet<String>,
    /// A start or a reload is not long over.
    settles: bool,
    heartbeat: Arc<Heartbeat>,
}

impl Writer {
    fn new(directory: &Path, door: Door) -> Self {
        Self {
            directory: directory.to_owned(),
            place: None,
            door,
            waiting: BTreeMap::new(),
            slots: None,
            orders: None,
            kept: Vec::new(),
            heard: Vec::new(),
            failing: BTreeSet::new(),
            settles: true,
            heartbeat: Heartbeat::new(),
        }
    }

    fn work(mut self, queue: &Receiver<Page>) {
        loop {
            self.heartbeat.idle();
            let goes_on = self.take(queue);
            self.heartbeat.wait();
            queue.try_iter().for_each(|page| self.note(page));
            self.write_all();
            if !goes_on {
                return;
            }
        }
    }

    fn note(&mut self, page: Page) {
        match page {
            Page::File { name, bytes } => drop(self.waiting.insert(name, bytes)),
            Page::Orders { bytes, heard } => {
                self.orders = Some(bytes);
                self.heard.extend(heard);
            }
            Page::Known => self.place = identity(&self.directory),
        }
    }

    /// Nothing is lost by writing there: what lies there has been read, or is nothing, or a copy of what is known.
    ///
    /// # Errors
    /// When another directory is in its place that holds orders of its own.
    fn check_place(&mut self) -> io::Result<()> {
        let found = identity(&self.directory);
        if found == self.place || found.is_none() {
            return Ok(());
        }
        let file = self.directory.join(orders::NAME);
        let is_known = match slots::read(&file) {
            Ok(bytes) => slots::payload(&bytes) == Some(&self.kept),
            Err(error) => error.kind() == io::ErrorKind::NotFound && !self.directory.join(orders::EARLIER).exists(),
        };
        if self.place.is_some() && !is_known {
            let why =
                "another directory is in its place (moved, or mounted over), and holds orders that are read first";
            return Err(io::Error::other(why));
        }
        self.place = found;
        Ok(())
    }

    /// False when nothing more will come.
    fn take(&mut self, queue: &Receiver<Page>) -> bool {
        let taken = if self.settles {
            queue.recv_timeout(SETTLED)
        } else if self.waiting.is_empty() && self.orders.is_none() {
            queue.recv_timeout(LOOK_EVERY)
        } else {
            queue.recv_timeout(AGAIN)
        };
        match taken {
            Ok(page) => {
                self.settles = true;
                self.note(page);
                true
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if std::mem::take(&mut self.settles) {
                    privilege::layout::let_go_of_start();
                }
                self.stay_in_place();
                true
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Where the path leads elsewhere, what was kept is written down there, for the next start to find.
    fn stay_in_place(&mut self) {
        self.heartbeat.wait();
        if self.slots.take_if(|slots| !slots.is_in_place()).is_some() && self.orders.is_none() {
            self.orders = Some(self.kept.clone());
        }
    }

    /// Somebody waits for the orders.
    fn write_all(&mut self) {
        self.write_orders();
        for (name, bytes) in std::mem::take(&mut self.waiting) {
            let outcome = self.check_place().and_then(|()| replace(&self.directory, &name, &bytes));
            self.note_outcome(&name, outcome.as_ref().err());
            if outcome.is_err() {
                self.waiting.insert(name, bytes);
            }
        }
        if self.failing.is_empty() {
            last_good::tidy(&self.directory);
        }
    }

    fn write_orders(&mut self) {
        let Some(bytes) = self.orders.take() else { return };
        let outcome = self.write_to_slots(&bytes);
        self.note_outcome(orders::NAME, outcome.as_ref().err());
        match outcome {
            Ok(()) => self.kept = bytes,
            Err(_) => self.orders = Some(bytes),
        }
        for heard in self.heard.drain(..) {
            // Whoever asked may have given up.
            heard.send(outcome.as_ref().map_or_else(|error| Err(error.to_string()), |()| Ok(()))).ok();
        }
    }

    fn write_to_slots(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(slots) = self.slots.as_mut().filter(|slots| slots.is_in_place()) {
            return slots.write(bytes);
        }
        self.slots = None;
        self.check_place()?;
        journal::check_directory(&self.directory).map_err(io::Error::other)?;
        let path = self.directory.join(orders::NAME);
        let mut slots = Slots::open(&path, bytes)?;
        if slots.one_is_damaged() {
            let (what, why) = (path.display().to_string(), ONE_IS_DAMAGED.to_owned());
            // A loop that has ended needs no news.
            let _heard = self.door.tell(Message::Record(Daemon::Degraded { what, why }));
        }
        slots.write(bytes)?;
        self.slots = Some(slots);
        // It is read where there is no newer one, and there is.
        fs::remove_file(self.directory.join(orders::EARLIER)).ok();
        Ok(())
    }

    /// Told once until it works again.
    fn note_outcome(&mut self, name: &str, failure: Option<&io::Error>) {
        match failure {
            None if self.failing.remove(name) => self.tell(name, None),
            None => {}
            Some(error) if self.failing.insert(name.to_owned()) => {
                self.tell(name, Some(format!("it cannot be written: {error}; it is tried again every 10 s")));
            }
            Some(_) => {}
        }
    }

    fn tell(&self, name: &str, why: Option<String>) {
        let what = self.directory.join(name).display().to_string();
        // A loop that has ended needs no news.
        let _heard = self.door.tell(Message::Lacking { what, why });
    }
}

/// Which directory a path leads to now; `None` where to none.
fn identity(directory: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(directory).ok().filter(fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino()))
}

/// Durable when it returns, and never half there.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    journal::check_directory(directory).map_err(io::Error::other)?;
    let beside = directory.join(format!(".{name}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::inbox;

    #[test]
    fn the_newest_is_there_whole_and_ours_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (door, _inbox) = inbox::open().unwrap();
        fs::write(folder.path().join(orders::EARLIER), "of an earlier version").unwrap();
        let keeper = Keeper::start(folder.path(), Some(b"first".to_vec()), door).unwrap();
        for n in 0..50 {
            keeper.keep("good.json", format!("{n}").into_bytes());
            keeper.keep_orders(format!("order {n}").into_bytes(), Vec::new());
        }
        keeper.say_goodbye();
        let path = folder.path().join("good.json");
        assert_eq!(fs::read_to_string(&path).unwrap(), "49");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let orders = folder.path().join(orders::NAME);
        assert_eq!(slots::payload(&slots::read(&orders).unwrap()).unwrap(), b"order 49");
        assert_eq!(fs::metadata(&orders).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn whoever_waits_hears_when_an_order_is_durable_or_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let (door, _inbox) = inbox::open().unwrap();
        let keeper = Keeper::start(folder.path(), Some(b"first".to_vec()), door).unwrap();
        let order = |bytes: Vec<u8>| {
            let (heard, hears) = oneshot::channel();
            keeper.keep_orders(bytes, vec![heard]);
            hears.blocking_recv().unwrap()
        };
        let path = folder.path().join(orders::NAME);
        let kept = || slots::payload(&slots::read(&path).unwrap()).unwrap().to_vec();
        assert_eq!((order(b"one".to_vec()), kept()), (Ok(()), b"one".to_vec()));
        let refused = order(vec![b'x'; slots::LARGEST + 1]).unwrap_err();
        assert!(refused.contains("at most"), "{refused}");
        assert_eq!((order(b"two".to_vec()), kept()), (Ok(()), b"two".to_vec()));
        keeper.say_goodbye();
    }

    /// Whatever is done to the place: who hears that it is kept finds it there.
    #[test]
    fn what_is_kept_is_where_the_next_start_looks() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let (door, _inbox) = inbox::open().unwrap();
        let keeper = Keeper::start(&state, Some(b"first".to_vec()), door).unwrap();
        let path = state.join(orders::NAME);
        let moved = || {
            fs::rename(&state, folder.path().join("away")).unwrap();
            fs::create_dir(&state).unwrap();
        };
        let replaced = || {
            fs::copy(&path, state.join(".orders.copy")).unwrap();
            fs::rename(state.join(".orders.copy"), &path).unwrap();
        };
        let removed = || fs::remove_file(&path).unwrap();
        for (order, disturb) in [("moved", &moved as &dyn Fn()), ("replaced", &replaced), ("removed", &removed)] {
            disturb();
            let (heard, hears) = oneshot::channel();
            keeper.keep_orders(order.as_bytes().to_vec(), vec![heard]);
            hears.blocking_recv().unwrap().unwrap();
            assert_eq!(slots::payload(&slots::read(&path).unwrap()).unwrap(), order.as_bytes());
        }
        keeper.say_goodbye();
    }

    /// As where another disk is mounted over it.
    #[test]
    fn what_lies_in_another_directory_is_not_written_over_before_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let (state, other) = (folder.path().join("state"), folder.path().join("other"));
        fs::create_dir(&state).unwrap();
        fs::create_dir(&other).unwrap();
        Slots::open(&other.join(orders::NAME), b"of another time").unwrap();
        let (door, inbox) = inbox::open().unwrap();
        let keeper = Keeper::start(&state, Some(b"first".to_vec()), door).unwrap();
        fs::rename(&state, folder.path().join("away")).unwrap();
        fs::rename(&other, &state).unwrap();
        let order = |bytes: &[u8]| {
            let (heard, hears) = oneshot::channel();
            keeper.keep_orders(bytes.to_vec(), vec![heard]);
            hears.blocking_recv().unwrap()
        };
        let path = state.join(orders::NAME);
        let kept = || slots::payload(&slots::read(&path).unwrap()).unwrap().to_vec();
        keeper.keep("last-good-1.json", b"{}".to_vec());
        for _ in 0..2 {
            let why = order(b"new").unwrap_err();
            assert!(why.contains("holds orders that are read first"), "{why}");
        }
        assert_eq!(kept(), b"of another time");
        assert!(!state.join("last-good-1.json").exists());
        keeper.knows_the_place();
        assert_eq!((order(b"both"), kept()), (Ok(()), b"both".to_vec()));
        keeper.say_goodbye();
        assert!(state.join("last-good-1.json").exists());
        let told = std::iter::from_fn(|| inbox.take()).filter(|told| matches!(told, Message::Lacking { .. })).count();
        assert_eq!(told, 4, "of each of two files once that it is not kept, and once that it is");
    }

    #[test]
    fn what_was_kept_is_written_anew_where_its_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let (door, _inbox) = inbox::open().unwrap();
        let mut writer = Writer::new(folder.path(), door);
        let path = folder.path().join(orders::NAME);
        writer.note(Page::Orders { bytes: b"kept".to_vec(), heard: Vec::new() });
        for _ in 0..2 {
            writer.stay_in_place();
            writer.write_all();
            assert_eq!(slots::payload(&slots::read(&path).unwrap()).unwrap(), b"kept");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn that_the_last_order_may_be_lost_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let (door, inbox) = inbox::open().unwrap();
        let start = || Keeper::start(folder.path(), Some(b"as read".to_vec()), door.clone()).unwrap().say_goodbye();
        start();
        start();
        assert!(inbox.take().is_none());
        let path = folder.path().join(orders::NAME);
        let mut bytes = fs::read(&path).unwrap();
        let newest = bytes.windows(7).rposition(|window| window == b"as read").unwrap();
        bytes[newest] ^= 1;
        fs::write(&path, bytes).unwrap();
        start();
        start();
        let Some(Message::Record(Daemon::Degraded { why, .. })) = inbox.take() else { panic!("nothing told") };
        assert!(why.contains("repeat it"), "{why}");
        assert!(inbox.take().is_none(), "told once");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (door, inbox) = inbox::open().unwrap();
        let keeper = Keeper::start(&folder.path().join("gone"), Some(b"{}".to_vec()), door).unwrap();
        keeper.keep("good.json", b"{}".to_vec());
        keeper.keep_orders(b"{}".to_vec(), Vec::new());
        keeper.say_goodbye();
        for name in ["gone/orders", "gone/good.json"] {
            let Some(Message::Lacking { what, why: Some(why) }) = inbox.take() else { panic!("nothing told") };
            assert!(what.ends_with(name) && why.contains("No such file"), "{what}: {why}");
        }
        assert!(inbox.take().is_none(), "told once");
    }
}
