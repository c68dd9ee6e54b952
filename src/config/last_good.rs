//! The last configuration that compiled, kept as its texts: the fallback for a later mistake. It is compiled again at
//! each use, because an upgrade may read it differently. It holds no secret, since files hold none. If it has a
//! mistake, it counts as absent.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf, absolute};

use serde::{Deserialize, Serialize};

use super::source::{Source, Text};
use crate::document::complaint::Complaints;
use crate::document::origin::Kind;
use crate::journal::check_directory;
use crate::keeper;
use crate::policy::mitigation::Level;
use crate::policy::rule::Policy;

/// Each file is at most 1 MiB; whoever has more than four such files can mend a mistake himself.
pub const LARGEST: usize = 4 << 20;
/// As many configurations take turns with one state directory before the oldest is forgotten.
const MOST: usize = 8;

const PREFIX: &str = "last-good-";
const SUFFIX: &str = ".json";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastGood {
    /// Whose it is: another configuration in the same state directory has its own.
    config: PathBuf,
    /// As they were with the environment and the command line of that time.
    level: String,
    dry_run: bool,
    texts: Vec<Text>,
}

impl LastGood {
    /// What this source came to.
    #[must_use]
    pub(super) fn of(source: &Source, policy: &Policy, read: &Complaints) -> Self {
        let files = read.origins.iter().filter(|origin| origin.kind == Kind::File);
        Self {
            config: path_of(source),
            level: policy.level.name().to_owned(),
            dry_run: policy.dry_run,
            texts: files.map(|file| Text { name: file.name.clone(), text: file.text.clone() }).collect(),
        }
    }

    /// `None` where there is none that can be read.
    #[must_use]
    pub fn read(directory: &Path, source: &Source) -> Option<Self> {
        check_directory(directory).ok()?;
        let config = path_of(source);
        let mut bytes = Vec::new();
        File::open(directory.join(name_of(&config))).ok()?.take(LARGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
        let kept: LastGood = serde_json::from_slice(&bytes).ok()?;
        (kept.config == config && bytes.len() <= LARGEST).then_some(kept)
    }

    /// The name of its file within a state directory.
    #[must_use]
    pub fn file_name(&self) -> String {
        name_of(&self.config)
    }

    /// What its file holds; `None` where that would be too much.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok().filter(|bytes| bytes.len() <= LARGEST)
    }

    #[must_use]
    pub(super) fn texts(&self) -> &[Text] {
        &self.texts
    }

    /// One that no version here knows is the gentlest that still tells.
    #[must_use]
    pub(super) fn level(&self) -> Level {
        Level::ALL.into_iter().find(|level| level.name() == self.level).unwrap_or(Level::Minimal)
    }

    #[must_use]
    pub(super) const fn dry_run(&self) -> bool {
        self.dry_run
    }
}

/// To the directory that is used now, where it has none of its own.
///
/// # Errors
/// When it cannot be written.
pub(super) fn carry_over(source: &Source, former: &Path, directory: &Path) -> io::Result<()> {
    let Some(kept) = LastGood::read(former, source).filter(|_| LastGood::read(directory, source).is_none()) else {
        return Ok(());
    };
    kept.bytes().map_or(Ok(()), |bytes| keeper::replace(directory, &kept.file_name(), &bytes))
}

/// Forgets the oldest of those that are too many.
pub fn tidy(directory: &Path) {
    keep_newest(directory, PREFIX);
}

/// Of the files that are kept under this prefix, one for each configuration.
pub(super) fn keep_newest(directory: &Path, prefix: &str) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(prefix) && name.ends_with(SUFFIX)
    };
    let mut kept: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_ours).collect();
    kept.sort_by_cached_key(|path| fs::metadata(path).and_then(|file| file.modified()).ok());
    for oldest in kept.iter().take(kept.len().saturating_sub(MOST)) {
        // What cannot be removed is only one too many.
        fs::remove_file(oldest).ok();
    }
}

/// As written, made absolute, so that it is the same from every directory.
pub(super) fn path_of(source: &Source) -> PathBuf {
    let main = source.file.as_ref().unwrap_or(&source.usual);
    absolute(main).unwrap_or_else(|_| main.clone())
}

fn name_of(config: &Path) -> String {
    format!("{PREFIX}{:08x}{SUFFIX}", crc32fast::hash(config.as_os_str().as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compile;

    fn kept(directory: &Path, name: &str) -> LastGood {
        let source = Source::file(directory.join(name));
        let compiled = compile(&source);
        LastGood::of(&source, &compiled.settings.policy, &compiled.complaints)
    }

    #[test]
    fn each_configuration_has_its_own_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..MOST + 3 {
            let name = format!("{n}.toml");
            fs::write(folder.path().join(&name), format!("# {n}\n")).unwrap();
            let kept = kept(folder.path(), &name);
            let path = folder.path().join(kept.file_name());
            fs::write(&path, kept.bytes().unwrap()).unwrap();
            let age = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n as u64);
            File::options().append(true).open(&path).unwrap().set_modified(age).unwrap();
        }
        tidy(folder.path());
        let read = |n: usize| LastGood::read(folder.path(), &Source::file(folder.path().join(format!("{n}.toml"))));
        assert_eq!((read(2), read(MOST + 3)), (None, None));
        assert_eq!(read(3).unwrap().texts()[0].text, "# 3\n");
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source::file(folder.path().join("config.toml"));
        fs::write(folder.path().join("config.toml"), "level = \"aggressive\"\n").unwrap();
        let good = kept(folder.path(), "config.toml");
        assert_eq!(good.level(), Level::Aggressive);
        for broken in
            [&b"{"[..], b"", b"{\"config\":\"/elsewhere\",\"level\":\"minimal\",\"dry_run\":false,\"texts\":[]}"]
        {
            fs::write(folder.path().join(good.file_name()), broken).unwrap();
            assert_eq!(LastGood::read(folder.path(), &source), None);
        }
        fs::write(folder.path().join(good.file_name()), vec![b' '; LARGEST + 1]).unwrap();
        assert_eq!(LastGood::read(folder.path(), &source), None);
        let later = LastGood { level: "ruthless".into(), ..good };
        assert_eq!(later.level(), Level::Minimal);
    }
}
