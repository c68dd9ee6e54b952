//! Whether the state directory is ours alone. What is read there is acted on, and what is written there is private, so one
//! in which somebody else may put files is none. A directory that holds other things is left as it is: closing `/tmp` to
//! everybody else would be worse than having no journal.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, DirEntry, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::Uid;

use super::error::JournalError;
use crate::privilege;

const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// Made where it is missing, and closed to others where nothing else is in it.
///
/// # Errors
/// When it is not ours alone, or the system refuses.
pub(super) fn prepare(directory: &Path) -> Result<(), JournalError> {
    make(directory).map_err(|error| JournalError::io("prepare", directory, error))?;
    check(directory)?;
    close(directory).map_err(|error| JournalError::io("prepare", directory, error))
}

fn make(directory: &Path) -> io::Result<()> {
    if directory.try_exists()? {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn close(directory: &Path) -> io::Result<()> {
    let found = fs::metadata(directory)?;
    if !found.is_dir() {
        return Err(io::Error::from(Errno::ENOTDIR));
    }
    // Where others only look, our files are closed to them all the same.
    if found.permissions().mode() & OTHERS == 0 || strange(directory).is_some() {
        return Ok(());
    }
    match fs::set_permissions(directory, Permissions::from_mode(0o700)) {
        // A volume of a container: root's, and open to the user that the container runs as. Nobody else gets there, and
        // the files in it are ours alone.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && found.uid() == 0 => Ok(()),
        outcome => outcome,
    }
}

/// For whoever reads or writes there without the journal; nothing is wrong with one that is not there.
///
/// # Errors
/// When it is somebody else's, or shared.
pub fn check(directory: &Path) -> Result<(), JournalError> {
    // Of a link, whoever made it decides where it leads to.
    for found in [fs::symlink_metadata(directory), fs::metadata(directory)].into_iter().flatten() {
        if !privilege::trusts(Uid::from_raw(found.uid())) {
            return Err(not_ours(directory, format!("it belongs to uid {}, who may put anything there", found.uid())));
        }
    }
    let open = fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & OTHERS_WRITE != 0);
    match open.then(|| strange(directory)).flatten() {
        Some(name) => {
            Err(not_ours(directory, format!("others may write there, and it holds what is not ours ({name})")))
        }
        None => Ok(()),
    }
}

fn not_ours(directory: &Path, why: String) -> JournalError {
    JournalError::NotOurs { directory: directory.to_owned(), why }
}

/// The first thing there that no guardian made.
fn strange(directory: &Path) -> Option<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_ours = |entry: &DirEntry| {
        let owner = entry.metadata().map(|found| Uid::from_raw(found.uid()));
        is_ours_by_name(&entry.file_name()) && owner.is_ok_and(privilege::trusts)
    };
    let mut strange = entries.filter(|entry| !is_ours(entry)).map(|entry| entry.file_name());
    strange.next().map(|name| name.to_string_lossy().escape_debug().to_string())
}

/// A user's own state and runtime directory may be one; a fresh volume has `lost+found`.
fn is_ours_by_name(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let name = name.trim_start_matches('.');
    ["journal.", "orders", "last-good-", "state-of-", "admin.sock", "lost+found"]
        .iter()
        .any(|ours| name.starts_with(ours))
}
