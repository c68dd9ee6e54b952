//! Whether a file that is held open is still the one that its path leads to: what is written to one that was moved, removed
//! or mounted over is not found by the next start. Everything that is kept in the state directory asks here. Never opens.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What cannot be told is believed.
#[must_use]
pub fn leads_to(path: &Path, held: &File) -> bool {
    match (held.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(found)) => (held.dev(), held.ino()) == (found.dev(), found.ino()),
        (_, Err(error)) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        (Err(_), Ok(_)) => true,
    }
}

/// The same of a file that is never shorter than this: somebody may have cut it off.
#[must_use]
pub fn leads_to_all_of(path: &Path, held: &File, bytes: u64) -> bool {
    leads_to(path, held) && held.metadata().map_or(true, |held| held.len() >= bytes)
}

/// Whether both paths lead to one directory that is there.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_name_is_not_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("state/file"), folder.path().join("aside"));
        fs::create_dir(folder.path().join("state")).unwrap();
        let held = File::create(&path).unwrap();
        assert!(leads_to(&path, &held));
        fs::rename(&path, &aside).unwrap();
        assert!(!leads_to(&path, &held), "moved away");
        fs::copy(&aside, &path).unwrap();
        assert!(!is_same(&path, &aside) && is_same(&path, &folder.path().join("state/../state/file")));
        assert!(!leads_to(&path, &held), "a copy");
        fs::rename(&aside, &path).unwrap();
        assert!(leads_to(&path, &held), "moved back");
        held.set_len(100).unwrap();
        assert!(leads_to_all_of(&path, &held, 100) && !leads_to_all_of(&path, &held, 101), "cut off");
        fs::rename(folder.path().join("state"), folder.path().join("away")).unwrap();
        fs::write(folder.path().join("state"), "in the way").unwrap();
        assert!(!leads_to(&path, &held), "the directory is none");
    }
}
