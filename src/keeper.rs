//! Small files of the state directory that are written whole: the last good configuration, the operator's orders. It has a
//! thread of its own, since a disk may take its time; the loop only hands over what is to be written, and is never made to
//! wait. Each file is the old one or the new one, whole, whatever happens meanwhile.

pub mod orders;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::last_good;
use crate::inbox::{Door, Message};
use crate::privilege;

const STACK_BYTES: usize = 128 << 10;
/// What could not be written is tried again after this long.
const AGAIN: Duration = Duration::from_secs(10);
/// Within this, all threads that a start or a reload makes have gone through code that nothing else runs.
const SETTLED: Duration = Duration::from_secs(1);
/// A stop waits this long for what was handed over last.
const FAREWELL: Duration = Duration::from_secs(2);

/// Files by name, newest content last.
#[derive(Debug)]
struct Page {
    name: String,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub struct Keeper {
    pages: Sender<Page>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// # Errors
    /// When the system gives no thread.
    pub fn start(directory: &Path, door: Door) -> io::Result<Self> {
        let (pages, queue) = mpsc::channel();
        let directory = directory.to_owned();
        let write = move || {
            Writer { directory, door, waiting: BTreeMap::new(), failing: BTreeSet::new(), settles: true }.work(&queue)
        };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).stack_size(STACK_BYTES).spawn(write)?;
        Ok(Self { pages, thread })
    }

    /// Returns at once. Of several contents of one file only the newest need be written.
    pub fn keep(&self, name: &str, bytes: Vec<u8>) {
        // A thread that has ended told so by its panic, and there is nobody else to write it.
        self.pages.send(Page { name: name.to_owned(), bytes }).ok();
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
    door: Door,
    waiting: BTreeMap<String, Vec<u8>>,
    /// Those of which it was told that they cannot be written.
    failing: BTreeSet<String>,
    /// A start or a reload is not long over.
    settles: bool,
}

impl Writer {
    fn work(mut self, queue: &Receiver<Page>) {
        while self.take(queue) {
            for page in queue.try_iter() {
                self.waiting.insert(page.name, page.bytes);
            }
            self.write_all();
        }
        self.write_all();
    }

    /// False when nothing more will come.
    fn take(&mut self, queue: &Receiver<Page>) -> bool {
        let taken = if self.settles {
            queue.recv_timeout(SETTLED)
        } else if self.waiting.is_empty() {
            queue.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(AGAIN)
        };
        match taken {
            Ok(page) => {
                self.settles = true;
                self.waiting.insert(page.name, page.bytes);
                true
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if std::mem::take(&mut self.settles) {
                    privilege::layout::let_go_of_start();
                }
                true
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => false,
        }
    }

    fn write_all(&mut self) {
        for (name, bytes) in std::mem::take(&mut self.waiting) {
            match replace(&self.directory, &name, &bytes) {
                Ok(()) if self.failing.remove(&name) => self.tell(&name, None),
                Ok(()) => {}
                Err(error) => {
                    if self.failing.insert(name.clone()) {
                        self.tell(&name, Some(format!("it cannot be written: {error}; it is tried again every 10 s")));
                    }
                    self.waiting.insert(name, bytes);
                }
            }
        }
        last_good::tidy(&self.directory);
    }

    fn tell(&self, name: &str, why: Option<String>) {
        let what = self.directory.join(name).display().to_string();
        // A loop that has ended needs no news.
        let _heard = self.door.tell(Message::Lacking { what, why });
    }
}

/// Durable when it returns, and never half there.
fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
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
        let keeper = Keeper::start(folder.path(), door).unwrap();
        for n in 0..50 {
            keeper.keep("orders.json", format!("{n}").into_bytes());
        }
        keeper.say_goodbye();
        let path = folder.path().join("orders.json");
        assert_eq!(fs::read_to_string(&path).unwrap(), "49");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (door, inbox) = inbox::open().unwrap();
        let keeper = Keeper::start(&folder.path().join("gone"), door).unwrap();
        keeper.keep("orders.json", b"{}".to_vec());
        keeper.say_goodbye();
        let Some(Message::Lacking { what, why: Some(why) }) = inbox.take() else { panic!("nothing told") };
        assert!(what.ends_with("gone/orders.json") && why.contains("No such file"), "{what}: {why}");
        assert!(inbox.take().is_none(), "told once");
    }
}
