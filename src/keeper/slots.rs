//! One small file that is written over and over, and never needs more room than it has: two slots that take turns, each with
//! a checksum and a number that grows. A write that breaks off, at whatever byte, spoils the slot that is older anyway. The
//! file is made whole beside its place and then put there, so that at least one slot always holds something.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::journal;

const MAGIC: [u8; 4] = *b"NGO1";
/// Magic, checksum, number, length.
const HEADER: usize = 4 + 4 + 8 + 4;
/// Some 400 knobs with their words; whoever has more of them in his own hand at once needs no guardian.
const SLOT: usize = 128 << 10;
pub const LARGEST: usize = SLOT - HEADER;

/// The file, and which of its slots is to be kept.
#[derive(Debug)]
pub struct Slots {
    path: PathBuf,
    file: File,
    newest: usize,
    number: u64,
    /// The other slot holds a write that broke off, or what was newest before something spoiled it.
    one_is_damaged: bool,
}

impl Slots {
    /// Goes on with the file that is there; where there is none that can be, makes one that holds this. Durable when it
    /// returns.
    ///
    /// # Errors
    /// When there is no room for it, or it cannot be written.
    pub fn open(path: &Path, first: &[u8]) -> io::Result<Self> {
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        match newest(&bytes) {
            Some((newest, number, _)) if bytes.len() == 2 * SLOT => {
                let file = OpenOptions::new().read(true).write(true).open(path)?;
                // Whoever wrote it may have ended before it was durable, and the other slot is written next.
                file.sync_data()?;
                let other = &bytes[(1 - newest) * SLOT..][..SLOT];
                let one_is_damaged = whole(other).is_none() && other.iter().any(|byte| *byte != 0);
                Ok(Self { path: path.to_owned(), file, newest, number, one_is_damaged })
            }
            Some(_) | None => Self::create(path, first),
        }
    }

    fn create(path: &Path, first: &[u8]) -> io::Result<Self> {
        let mut bytes = slot(1, first)?;
        bytes.resize(2 * SLOT, 0);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = path.with_file_name(format!(".{name}.new"));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let made = file.write_all(&bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&beside, path));
        if let Err(error) = made {
            // Where there was no room for all of it, the part is only in the way.
            fs::remove_file(&beside).ok();
            return Err(error);
        }
        sync_folder(path)?;
        Ok(Self { path: path.to_owned(), file, newest: 0, number: 1, one_is_damaged: false })
    }

    /// What was written last may be lost. Nobody was told that it is kept if its write broke off.
    pub const fn one_is_damaged(&self) -> bool {
        self.one_is_damaged
    }

    /// False where the next start would not find it.
    pub fn is_in_place(&self) -> bool {
        journal::leads_to_all_of(&self.path, &self.file, 2 * SLOT as u64)
    }

    /// Durable when it returns. What was there before stays until then, also where this fails and is tried again: a number
    /// is used once, and the slot that is known to be durable is never the one that is written.
    ///
    /// # Errors
    /// When it is too much, or cannot be made durable.
    pub fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let other = 1 - self.newest;
        self.number += 1;
        self.file.write_all_at(&slot(self.number, payload)?, (other * SLOT) as u64)?;
        self.file.sync_data()?;
        self.newest = other;
        self.one_is_damaged = false;
        Ok(())
    }
}

/// All of a file, as far as one of these goes.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(2 * SLOT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What was written last and is whole; `None` where the file is damaged.
#[must_use]
pub fn payload(bytes: &[u8]) -> Option<&[u8]> {
    newest(bytes).map(|(_, _, payload)| payload)
}

/// Which slot, its number, what it holds.
fn newest(bytes: &[u8]) -> Option<(usize, u64, &[u8])> {
    let found = [0, 1].into_iter().filter_map(|at| {
        let (number, payload) = whole(bytes.get(at * SLOT..)?)?;
        Some((at, number, payload))
    });
    found.max_by_key(|(_, number, _)| *number)
}

fn whole(slot: &[u8]) -> Option<(u64, &[u8])> {
    let header = slot.get(..HEADER)?;
    let checked = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let number = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let length = u32::from_le_bytes(header[16..20].try_into().ok()?) as usize;
    let payload = slot.get(HEADER..HEADER + length.min(LARGEST))?;
    (header[..4] == MAGIC && length <= LARGEST && crc32fast::hash(&slot[8..HEADER + length]) == checked)
        .then_some((number, payload))
}

fn slot(number: u64, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= LARGEST);
    let Some(length) = length else {
        let (has, most) = (payload.len(), LARGEST);
        return Err(io::Error::other(format!("these are {has} bytes, and at most {most} are kept: resume some")));
    };
    let numbered = [&number.to_le_bytes()[..], &length.to_le_bytes(), payload].concat();
    Ok([&MAGIC[..], &crc32fast::hash(&numbered).to_le_bytes(), &numbered].concat())
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(path: &Path) -> Option<Vec<u8>> {
        payload(&read(path).unwrap()).map(<[u8]>::to_vec)
    }

    #[test]
    fn the_last_that_was_written_is_there_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders");
        let mut slots = Slots::open(&path, b"first").unwrap();
        assert_eq!(kept(&path).unwrap(), b"first");
        for n in 0..5 {
            slots.write(format!("{n}").as_bytes()).unwrap();
            assert_eq!(kept(&path).unwrap(), format!("{n}").as_bytes());
        }
        let mut slots = Slots::open(&path, b"not this").unwrap();
        assert_eq!(kept(&path).unwrap(), b"4");
        slots.write(b"five").unwrap();
        assert_eq!(kept(&path).unwrap(), b"five");
        assert_eq!(fs::metadata(&path).unwrap().len(), 2 * SLOT as u64, "it takes no more room");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    /// Some bytes of a write have reached the disk and some have not, in whatever order: what is read is the old or the new.
    #[test]
    fn a_write_that_breaks_off_anywhere_leaves_the_old_or_the_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders");
        let mut slots = Slots::open(&path, b"a first one, longer than the others").unwrap();
        for (old, new) in [("a first one, longer than the others", "two"), ("two", "the third"), ("the third", "4")] {
            let before = read(&path).unwrap();
            slots.write(new.as_bytes()).unwrap();
            let after = read(&path).unwrap();
            let changed: Vec<usize> = (0..after.len()).filter(|at| before[*at] != after[*at]).collect();
            let (from, to) = (changed[0], changed[changed.len() - 1] + 1);
            for cut in from..=to {
                let front = [&after[..cut], &before[cut..]].concat();
                let back = [&before[..cut], &after[cut..]].concat();
                for torn in [front, back] {
                    let wanted = if torn == after { new } else { old };
                    assert_eq!(payload(&torn), Some(wanted.as_bytes()), "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn a_write_that_failed_is_tried_again_where_nothing_is_lost_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders");
        let mut slots = Slots::open(&path, b"one").unwrap();
        slots.write(b"two").unwrap();
        let (newest, file) = (slots.newest, std::mem::replace(&mut slots.file, File::open(&path).unwrap()));
        for _ in 0..3 {
            slots.write(b"three").unwrap_err();
            assert_eq!((slots.newest, kept(&path).unwrap()), (newest, b"two".to_vec()));
        }
        slots.file = file;
        slots.write(b"three").unwrap();
        assert_eq!(kept(&path).unwrap(), b"three");
    }

    #[test]
    fn damage_costs_the_damaged_slot_alone_and_a_file_of_no_use_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders");
        let mut slots = Slots::open(&path, b"one").unwrap();
        slots.write(b"two").unwrap();
        let whole = read(&path).unwrap();
        for at in SLOT..SLOT + HEADER + 3 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert_eq!(payload(&bytes), Some(&b"one"[..]), "byte {at}");
            fs::write(&path, &bytes).unwrap();
            let mut slots = Slots::open(&path, b"not this").unwrap();
            assert!(slots.one_is_damaged(), "byte {at}");
            slots.write(b"mended").unwrap();
            assert!(!Slots::open(&path, b"not this").unwrap().one_is_damaged());
        }
        fs::write(&path, &whole).unwrap();
        assert!(!Slots::open(&path, b"not this").unwrap().one_is_damaged());
        for short in [0, 1, HEADER, SLOT - 1] {
            let told = payload(&whole[..short]);
            assert!(told.is_none() || told == Some(b"one"), "{short} bytes");
        }
        fs::write(&path, b"nothing of ours").unwrap();
        assert_eq!(kept(&path), None);
        Slots::open(&path, b"anew").unwrap();
        assert_eq!(kept(&path).unwrap(), b"anew");
    }

    #[test]
    fn what_is_too_much_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders");
        let mut slots = Slots::open(&path, b"one").unwrap();
        slots.write(&[b'x'; LARGEST]).unwrap();
        assert!(slots.write(&[b'y'; LARGEST + 1]).unwrap_err().to_string().contains("resume some"));
        assert_eq!(kept(&path).unwrap(), vec![b'x'; LARGEST]);
    }
}
