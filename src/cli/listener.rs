//! Who listens at the admin socket, by the kernel's word, before anything is believed of him or sent to him. Whoever can
//! make a file at that path could else tell an operator that all is well, and be handed what he sends.

use std::fs;
use std::io::Error;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::Uid;

use crate::privilege;

/// `/tmp/node-guardian-UID`, where a user without a runtime directory has it.
const PRIVATE: &str = "node-guardian-";
const OTHERS_WRITE: u32 = 0o022;

/// # Errors
/// When that is neither root, nor us, nor the daemon's user; nothing was sent then.
pub fn check(listener: Option<u32>, path: &Path) -> Result<(), Error> {
    let listener = listener.map(Uid::from_raw).ok_or_else(|| Error::other("cannot tell who listens there"))?;
    if privilege::trusts(listener) || holds(listener, path) {
        return Ok(());
    }
    Err(Error::other(format!(
        "uid {listener} listens there, who is neither root, nor you, nor the user node-guardian: nothing was sent. If that is \
         your guardian, ask as its user: setpriv --reuid={listener} --clear-groups node-guardian ..."
    )))
}

/// Whether the directory of the socket is this user's alone, so that nobody else can have put the socket there. One that
/// is named after a user has to be that one's: everybody may make it first.
fn holds(listener: Uid, socket: &Path) -> bool {
    let Some(directory) = socket.parent() else { return false };
    let Ok(found) = fs::symlink_metadata(directory) else { return false };
    let private = found.is_dir() && found.permissions().mode() & OTHERS_WRITE == 0;
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named = name.strip_prefix(PRIVATE).and_then(|uid| uid.parse().ok());
    private && found.uid() == listener.as_raw() && named.is_none_or(|named: u32| named == listener.as_raw())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_directory_vouches_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let us = nix::unistd::geteuid();
        let inside = |name: &str, mode: u32| {
            let directory = folder.path().join(name);
            fs::create_dir(&directory).unwrap();
            fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
            directory.join("admin.sock")
        };
        assert!(holds(us, &inside("own", 0o755)));
        assert!(holds(us, &inside(&format!("node-guardian-{us}"), 0o700)));
        assert!(!holds(us, &inside("node-guardian-4242424", 0o700)), "it is named after somebody else");
        assert!(!holds(Uid::from_raw(4_242_424), &folder.path().join("own/admin.sock")));
        assert!(!holds(us, &inside("shared", 0o777)));
        assert!(!holds(us, Path::new("admin.sock")));
        std::os::unix::fs::symlink(folder.path().join("own"), folder.path().join("link")).unwrap();
        assert!(!holds(us, &folder.path().join("link/admin.sock")));
    }
}
