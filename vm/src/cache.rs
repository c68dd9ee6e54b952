//! The folder with the guest's disk, kernel and booted states, which `build-image` fills. One process at a time writes to it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::{Error, Result};

#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Of the inputs that the disk was made from.
    stamp: String,
}

impl Cache {
    /// Built where it is missing or out of date.
    pub fn ready() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build-image");
        let folder = folder()?;
        let status = Command::new(&script).env("NODE_GUARDIAN_VM", &folder).status();
        let status = status.map_err(Error::while_doing("starting vm/build-image"))?;
        if !status.success() {
            return Err(Error::new("vm/build-image failed; the lines above say why"));
        }
        let stamp =
            fs::read_to_string(folder.join("stamp")).map_err(Error::while_doing("reading the image's stamp"))?;
        Ok(Self { folder, stamp: stamp.trim().to_owned() })
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Of a guest that was made from this image; with another image it has another name.
    pub fn saved(&self, name: &str, suffix: &str) -> PathBuf {
        self.folder.join(format!("saved-{}-{name}.{suffix}", self.stamp))
    }

    /// Removes the saved guests whose names begin so.
    pub fn forget(&self, prefix: &str) -> Result<()> {
        let prefix = format!("saved-{}-{prefix}", self.stamp);
        let entries = fs::read_dir(&self.folder).map_err(Error::while_doing("looking into the cache"))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            fs::remove_file(entry.path()).map_err(Error::while_doing("clearing the cache"))?;
        }
        Ok(())
    }

    /// Held until it is dropped.
    pub fn lock(&self) -> Result<File> {
        let file =
            File::create(self.folder.join(".booting")).map_err(Error::while_doing("opening the cache's lock"))?;
        file.lock().map_err(Error::while_doing("locking the cache"))?;
        Ok(file)
    }
}

fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("NODE_GUARDIAN_VM") {
        return Ok(folder.into());
    }
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache
        .map(|cache| cache.join("node-guardian-vm"))
        .ok_or_else(|| Error::new("set NODE_GUARDIAN_VM to a folder with 2 GB of room"))
}
