//! In the usual state directory, for each configuration that keeps its state elsewhere: where that is. What is owed is there,
//! and a file that cannot be read does not say so. Only ever a hint: whatever is wrong with it means that there is none.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compile::state_directory_of;
use super::last_good::{keep_newest, path_of};
use super::source::Source;
use crate::journal::check_directory;

const PREFIX: &str = "state-of-";
/// Two paths, each of 4 KiB at most, with every byte escaped.
const LARGEST: u64 = 64 << 10;

#[derive(PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Whereabouts {
    config: PathBuf,
    state_directory: PathBuf,
}

/// Keeps where the state of this configuration is, before anything is done that has to be undone.
///
/// # Errors
/// Where it cannot be kept: then only the configuration says it.
pub fn note(source: &Source, used: &Path) -> io::Result<()> {
    let usual = state_directory_of(source);
    let path = usual.join(name_of(&path_of(source)));
    if usual == used {
        let removed = fs::remove_file(path);
        return removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) });
    }
    let now = Whereabouts { config: path_of(source), state_directory: used.to_owned() };
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

/// Where it was when this configuration was last used.
#[must_use]
pub fn find(source: &Source) -> Option<PathBuf> {
    let usual = state_directory_of(source);
    let config = path_of(source);
    let known = read(&usual, &usual.join(name_of(&config)))?;
    (known.config == config && known.state_directory.is_dir()).then_some(known.state_directory)
}

fn read(usual: &Path, path: &Path) -> Option<Whereabouts> {
    check_directory(usual).ok()?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn name_of(config: &Path) -> String {
    format!("{PREFIX}{:08x}.json", crc32fast::hash(config.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_the_usual_one_is_found_again_until_it_is_the_usual_one() {
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
        assert_eq!(find(&source), None);
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
