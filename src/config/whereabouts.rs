//! In the usual state directory, for each configuration: where its state is. What is owed is there, and neither a file that
//! cannot be read nor one that was changed says so. Whatever is wrong with a note means that there is none.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compile::state_directory_of;
use super::last_good::{self, keep_newest, path_of};
use super::source::Source;
use crate::journal::{Whereabouts, check_directory};

const PREFIX: &str = "state-of-";
/// A small file on a disk that answers takes some milliseconds.
const NOTED_WITHIN: Duration = Duration::from_secs(1);
/// Two paths, each of 4 KiB at most, with every byte escaped.
const LARGEST: u64 = 64 << 10;

#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Note {
    config: PathBuf,
    state_directory: PathBuf,
}

/// Keeps where the state of this configuration is, before anything is done that has to be undone.
///
/// # Errors
/// Where it cannot be kept: then only the configuration says it.
pub fn note(source: &Source, used: &Path) -> io::Result<()> {
    let usual = state_directory_of(source);
    let path = path_in(&usual, source);
    let now = Note { config: path_of(source), state_directory: used.to_owned() };
    if read(&usual, &path).is_some_and(|known| known == now) {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(&usual) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => check_directory(&usual).map_err(io::Error::other)?,
    }
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(&now)?)?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    keep_newest(&usual, PREFIX);
    Ok(())
}

/// Where it was when this configuration was last used, if that is there.
#[must_use]
pub fn find(source: &Source) -> Option<PathBuf> {
    noted(source).filter(|directory| directory.is_dir())
}

fn noted(source: &Source) -> Option<PathBuf> {
    let usual = state_directory_of(source);
    let known = read(&usual, &path_in(&usual, source))?;
    (known.config == path_of(source)).then_some(known.state_directory)
}

/// The note of one configuration, on a disk that need not answer.
#[derive(Clone, Debug)]
pub struct Noted(pub Source);

impl Whereabouts for Noted {
    fn former(&self) -> Result<Option<PathBuf>, String> {
        let source = self.0.clone();
        within_reason(move || noted(&source)).map_err(|error| error.to_string())
    }

    /// What is found again by it is put in force after it was written. A disk that does not answer is not waited for: what
    /// is owed is undone all the same.
    fn moved(&self, former: Option<&Path>, directory: &Path) {
        if let Some(former) = former {
            let (former, directory) = (former.display(), directory.display());
            tracing::info!("changes and orders of {former} move to {directory}");
        }
        let (source, former, used) = (self.0.clone(), former.map(ToOwned::to_owned), directory.to_owned());
        let note = move || {
            if let Some(former) = former {
                last_good::carry_over(&source, &former, &used)?;
            }
            note(&source, &used)
        };
        if let Err(error) = within_reason(note).flatten() {
            tracing::warn!("only the configuration itself says where its state is: {error}");
        }
    }

    fn way_out(&self) -> String {
        let note = path_in(&state_directory_of(&self.0), &self.0);
        format!("if that state is lost for good, remove {}, which names it", note.display())
    }
}

/// Whoever it was done for may not have waited.
fn within_reason<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("whereabouts".to_owned()).spawn(move || drop(tell.send(ask())))?;
    let silent = |_| io::Error::other("the disk of the usual state directory does not answer");
    told.recv_timeout(NOTED_WITHIN).map_err(silent)
}

fn read(usual: &Path, path: &Path) -> Option<Note> {
    check_directory(usual).ok()?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn path_in(usual: &Path, source: &Source) -> PathBuf {
    let config = path_of(source);
    usual.join(format!("{PREFIX}{:08x}.json", crc32fast::hash(config.as_os_str().as_encoded_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_that_was_used_last_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut source = Source::file(folder.path().join("config.toml"));
        let (usual, other) = (folder.path().join("usual"), folder.path().join("other"));
        source.environment.insert("STATE_DIRECTORY".into(), usual.display().to_string());
        assert_eq!(find(&source), None);
        note(&source, &other).unwrap();
        assert_eq!(find(&source), None, "it is not there any more");
        fs::create_dir(&other).unwrap();
        assert_eq!(find(&source), Some(other.clone()));
        let another = Source { file: Some(folder.path().join("another.toml")), ..source.clone() };
        assert_eq!(find(&another), None);
        note(&source, &usual).unwrap();
        note(&source, &usual).unwrap();
        assert_eq!(find(&source), Some(usual));
    }

    #[test]
    fn those_of_configurations_that_came_and_went_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..100 {
            let mut source = Source::file(folder.path().join(format!("{n}.toml")));
            source.environment.insert("STATE_DIRECTORY".into(), folder.path().join("usual").display().to_string());
            note(&source, folder.path()).unwrap();
        }
        assert!(fs::read_dir(folder.path().join("usual")).unwrap().count() < 20);
    }
}
