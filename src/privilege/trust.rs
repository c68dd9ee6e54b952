//! Which owners of files and sockets may be a guardian: those who could act in its place anyway.

use nix::unistd::{Uid, User, geteuid};

/// As the package makes it.
const SERVICE: &str = "node-guardian";

/// Root, ourselves, and the package's user.
#[must_use]
pub fn trusts(uid: Uid) -> bool {
    uid.is_root() || uid == geteuid() || User::from_name(SERVICE).ok().flatten().is_some_and(|user| user.uid == uid)
}
