//! A file of the kernel that is kept open and read with one positional read into a buffer that all sources share.
//! It allocates only when a file outgrows the buffer or begins to fail; a file that fails is opened again, at once and
//! then every ten seconds, and becomes a blind spot that is said once.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::blind::Blind;
use crate::policy::moment::Moment;

/// Enough for every file of a node with some hundred CPUs, disks and interfaces; longer ones grow it.
const BUFFER_BYTES: usize = 16 * 1024;

/// Nothing that is read here is longer in earnest.
const LONGEST_FILE_BYTES: usize = 8 * 1024 * 1024;

/// The kernel's seq_file hands out records by the page; this is the smallest page.
const PAGE_BYTES: usize = 4096;

/// No record of the files read by records is longer: a read that leaves more of a page than this was the last one.
const LONGEST_RECORD_BYTES: usize = 512;

/// Opening a file that is not there costs two microseconds, and modules are seldom loaded.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// How much to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    Full,
    /// /proc/meminfo only, some 6 us: between full samples when memory is near a limit.
    Memory,
}

/// How the kernel makes the file, and so how many reads it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// One read gives all of it.
    Whole,
    /// Each read gives up to a page of records.
    Records,
    /// Only the first page is wanted.
    FirstPage,
}

#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
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
}

/// Reads kept files, and remembers which could not be read.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    pub blind: Blind,
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER_BYTES], blind: Blind::default() }
    }
}

impl Reader {
    /// What `parse` makes of the file now; `None` where it cannot be read or not be understood.
    pub fn take<T>(&mut self, kept: &mut Kept, now: Moment, parse: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
        if kept.file.is_none() && now < kept.retry_at {
            return None;
        }
        match kept.fill(&mut self.buffer) {
            Ok(length) => {
                let parsed = self.buffer.get(..length).and_then(parse);
                kept.turn(if parsed.is_some() { State::Fine } else { State::Garbled }, &mut self.blind);
                parsed
            }
            Err(error) => {
                kept.retry_at = now + RETRY_EVERY;
                kept.turn(State::Failing(error.raw_os_error()), &mut self.blind);
                None
            }
        }
    }
}

impl Kept {
    #[must_use]
    pub fn new(path: PathBuf, shape: Shape, without: &'static str) -> Self {
        Self { path, shape, without, file: None, retry_at: Moment::ORIGIN, state: State::Fine }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From the next reading on.
    pub fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        if let Some(file) = self.file.take()
            && let Ok(length) = read(&file, self.shape, buffer)
        {
            self.file = Some(file);
            return Ok(length);
        }
        let file = File::open(&self.path)?;
        let length = read(&file, self.shape, buffer)?;
        self.file = Some(file);
        Ok(length)
    }

    fn turn(&mut self, state: State, blind: &mut Blind) {
        if self.state == state {
            return;
        }
        self.state = state;
        let what = self.path.to_string_lossy();
        let without = self.without;
        match state {
            State::Fine => blind.clear(&what),
            State::Garbled => blind.note(&what, &format!("its content is not understood: {without}")),
            State::Failing(Some(code)) => {
                blind.note(&what, &format!("{}: {without}", Errno::from_raw(code).desc()));
            }
            State::Failing(None) => blind.note(&what, &format!("it cannot be read: {without}")),
        }
    }
}

fn read(file: &File, shape: Shape, buffer: &mut Vec<u8>) -> io::Result<usize> {
    match shape {
        Shape::Whole => read_whole(file, buffer),
        Shape::Records => read_records(file, buffer),
        Shape::FirstPage => read_at(file, &mut buffer[..PAGE_BYTES], 0),
    }
}

fn read_whole(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        let length = read_at(file, buffer, 0)?;
        if length < buffer.len() || length >= LONGEST_FILE_BYTES {
            return Ok(length);
        }
        buffer.resize(buffer.len() * 2, 0);
    }
}

fn read_records(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut end = 0;
    loop {
        if buffer.len() - end < PAGE_BYTES {
            buffer.resize(buffer.len() * 2, 0);
        }
        let length = read_at(file, &mut buffer[end..], end)?;
        end += length;
        let last = length + LONGEST_RECORD_BYTES < PAGE_BYTES && (length == 0 || buffer[end - 1] == b'\n');
        if last || end >= LONGEST_FILE_BYTES {
            return Ok(end);
        }
    }
}

fn read_at(file: &File, buffer: &mut [u8], offset: usize) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, offset as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
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
