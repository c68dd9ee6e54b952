//! A file of the kernel that is kept open and read with one positional read into a buffer that all sources share.
//! It allocates only when a file outgrows the buffer or begins to fail; a file that fails is opened again, at once and
//! then every ten seconds, and becomes a blind spot that is said once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;

use super::apart::Apart;
use super::blind::Blind;
use super::fuse::Fuse;
pub use super::read::Shape;
use super::read::{BUFFER_BYTES, fill};
use crate::policy::moment::Moment;

/// Opening a file that is not there costs two microseconds, and modules are seldom loaded.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// How much to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Full,
    /// /proc/meminfo only, some 6 us: between full samples when memory is near a limit.
    Memory,
}

/// One that answers now and then is told once.
const SILENT: &str = "a program serves it over FUSE (lxcfs) and does not answer in time, or did not a moment ago; see whether \
                      it hangs";

#[derive(Debug)]
pub struct Kept {
    path: Arc<Path>,
    shape: Shape,
    /// What is unknown without it, and what to do about it.
    without: &'static str,
    file: Option<File>,
    retry_at: Moment,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Fine,
    Failing(Option<i32>),
    Garbled,
    /// Whoever serves it in the kernel's place did not answer, at this moment the last time.
    Silent(Moment),
}

/// Reads kept files, and remembers which could not be read.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    apart: Apart,
    fuse: Arc<Fuse>,
    pub blind: Blind,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], apart: Apart::default(), fuse: Arc::default(), blind: Blind::default() }
    }
}

impl Reader {
    /// Which files are not the kernel's. What is open already stays the kernel's.
    pub(crate) fn beware(&mut self, fuse: Arc<Fuse>) {
        self.fuse = fuse;
    }

    /// What `parse` makes of the file now; `None` where it cannot be read or not be understood.
    pub fn take<T>(&mut self, kept: &mut Kept, now: Moment, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        if kept.file.is_none() && now < kept.retry_at {
            return None;
        }
        match self.read(kept, now) {
            Ok(length) => {
                let parsed = self.buffer.get(..length).and_then(parse);
                kept.turn(if parsed.is_some() { State::Fine } else { State::Garbled }, now, &mut self.blind);
                parsed
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                kept.turn(State::Silent(now), now, &mut self.blind);
                None
            }
            Err(error) => {
                kept.retry_at = now + RETRY_EVERY;
                kept.turn(State::Failing(error.raw_os_error()), now, &mut self.blind);
                None
            }
        }
    }

    fn read(&mut self, kept: &mut Kept, now: Moment) -> io::Result<usize> {
        if kept.file.is_none() && self.fuse.serves(&kept.path) {
            self.apart.read(&kept.path, kept.shape, now, &mut self.buffer)
        } else {
            fill(&kept.path, &mut kept.file, kept.shape, &mut self.buffer)
        }
    }
}

impl Kept {
    #[must_use]
    pub fn new(path: PathBuf, shape: Shape, without: &'static str) -> Self {
        Self { path: path.into(), shape, without, file: None, retry_at: Moment::ORIGIN, state: State::Fine }
    }

    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// From the next reading on.
    pub(crate) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    fn was_silent_lately(&self, now: Moment) -> bool {
        matches!(self.state, State::Silent(at) if now.since(at) < RETRY_EVERY)
    }

    fn turn(&mut self, state: State, now: Moment, blind: &mut Blind) {
        if self.state == state || state == State::Fine && self.was_silent_lately(now) {
            return;
        }
        let was = std::mem::replace(&mut self.state, state);
        if let (State::Silent(_), State::Silent(_)) = (was, state) {
            return;
        }
        let what = self.path.to_string_lossy();
        let without = self.without;
        match state {
            State::Fine => blind.clear(&what),
            State::Garbled => blind.note(&what, &format!("its content is not understood: {without}")),
            State::Failing(Some(code)) => {
                blind.note(&what, &format!("{}: {without}", Errno::from_raw(code).desc()));
            }
            State::Silent(_) => blind.note(&what, &format!("{SILENT}: {without} meanwhile")),
            State::Failing(None) => blind.note(&what, &format!("it cannot be read: {without}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Option<Vec<u8>> {
        (!bytes.is_empty()).then(|| bytes.to_vec())
    }

    #[test]
    fn a_file_longer_than_the_buffer_grows_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let long = b"0123456789abcde\n".repeat(10_000);
        std::fs::write(&path, &long).unwrap();
        for shape in [Shape::Whole, Shape::Records] {
            let mut reader = Reader::default();
            let mut kept = Kept::new(path.clone(), shape, "");
            assert_eq!(reader.take(&mut kept, Moment::ORIGIN, text), Some(long.clone()), "{shape:?}");
        }
    }

    #[test]
    fn an_absent_file_is_a_blind_spot_until_it_appears() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later");
        let (mut reader, mut kept) = (Reader::default(), Kept::new(path.clone(), Shape::Whole, "nothing is known"));
        let at = |seconds| Moment::at(Duration::from_secs(seconds));
        assert_eq!(reader.take(&mut kept, at(1), text), None);
        assert!(reader.blind.take_changed());
        assert!(reader.blind.spots()[0].why.ends_with("nothing is known"), "{:?}", reader.blind);
        std::fs::write(&path, "here\n").unwrap();
        assert_eq!(reader.take(&mut kept, at(2), text), None, "it is not opened at every tick");
        assert!(!reader.blind.take_changed(), "and not said twice");
        assert_eq!(reader.take(&mut kept, at(12), text), Some(b"here\n".to_vec()));
        assert!(reader.blind.spots().is_empty());
        std::fs::write(&path, "").unwrap();
        assert_eq!(reader.take(&mut kept, at(13), text), None);
        assert!(reader.blind.spots()[0].why.contains("not understood"));
    }
}
