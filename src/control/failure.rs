//! Why a control did not do what it was told, told apart by what to do next: the text names the socket, the group or
//! the permission that is missing. Never carries a secret.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Gid, Group};

use super::address::Address;
use super::said::sentence;
use crate::policy::mitigation::Outcome;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    pub outcome: Outcome,
    /// One sentence: what happened and what to try.
    pub detail: String,
}

impl Failure {
    pub(crate) fn refused(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Refused, detail: sentence(detail.into()) }
    }

    pub(crate) fn unsupported(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unsupported, detail: sentence(detail.into()) }
    }

    pub(crate) fn unreachable(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unreachable, detail: sentence(detail.into()) }
    }

    pub(crate) fn timed_out(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::TimedOut, detail: sentence(detail.into()) }
    }

    pub(crate) fn overridden(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Overridden, detail: sentence(detail.into()) }
    }

    /// Somebody else set these since the last look, and they were not overwritten.
    pub(crate) fn set_meanwhile(keys: &[&str]) -> Self {
        Self::overridden(format!("left alone, because somebody else set it meanwhile: {}", keys.join(", ")))
    }

    /// Nothing was sent.
    pub(crate) fn expired(why: &str) -> Self {
        Self { outcome: Outcome::Expired, detail: format!("not done, nothing was sent: {why}") }
    }

    pub(crate) fn epoch_changed(service: &str) -> Self {
        Self {
            outcome: Outcome::EpochChanged,
            detail: format!(
                "{service} has restarted or reloaded since; earlier settings ended with that, unless somebody saved \
                 them to its configuration"
            ),
        }
    }
}

/// Why it could not be connected to, and what to try.
#[must_use]
pub(crate) fn connecting(service: &str, address: &Address, error: &io::Error) -> Failure {
    match address {
        Address::Unix(socket) => connecting_to_socket(service, socket, error),
        Address::Tcp(host) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Failure::unreachable(format!("nobody listens on {host}: is {service} running, and bound to this address?"))
        }
        Address::Tcp(host) => Failure::unreachable(format!("cannot connect to {service} on {host}: {error}")),
    }
}

fn connecting_to_socket(service: &str, socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound => Failure::unreachable(format!(
            "{path} does not exist: is {service} running, and does its configuration name this socket?"
        )),
        io::ErrorKind::ConnectionRefused => {
            Failure::unreachable(format!("nobody listens on {path}: {service} is down or restarting"))
        }
        io::ErrorKind::PermissionDenied => Failure::unreachable(forbidden(socket)),
        io::ErrorKind::WouldBlock => Failure::timed_out(format!(
            "{service} accepts no connection on {path}: its queue is full; is the process stopped or stuck?"
        )),
        _ => Failure::unreachable(format!("cannot connect to {service} on {path}: {error}")),
    }
}

fn forbidden(socket: &Path) -> String {
    let path = socket.display();
    let Ok(metadata) = std::fs::metadata(socket) else {
        return format!("may not reach {path}: a folder above it is closed to the guardian's user");
    };
    let gid = Gid::from_raw(metadata.gid());
    let group = match Group::from_gid(gid) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(_) => gid.to_string(),
    };
    let mode = metadata.mode() & 0o777;
    // Connecting takes the right to write.
    let advice = if mode & 0o020 == 0 || gid.as_raw() == 0 {
        "let a group of its own open it (HAProxy: `mode 660 group NAME` on that `stats socket` line; Redis: \
         `unixsocketperm 770`), and add the guardian's user to that group"
            .to_owned()
    } else {
        format!("run `usermod -aG {group} node-guardian` and restart the guardian")
    };
    format!("may not open {path}, which belongs to group {group} with mode {mode:04o}: {advice}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_way_of_not_connecting_says_what_to_try() {
        let socket = Address::Unix("/nowhere/at/all.sock".into());
        let told = |kind: io::ErrorKind| connecting("HAProxy", &socket, &kind.into());
        assert_eq!(told(io::ErrorKind::NotFound).outcome, Outcome::Unreachable);
        assert!(told(io::ErrorKind::NotFound).detail.contains("does not exist"));
        assert!(told(io::ErrorKind::ConnectionRefused).detail.contains("nobody listens"));
        assert!(told(io::ErrorKind::PermissionDenied).detail.contains("a folder above it"));
        assert_eq!(told(io::ErrorKind::WouldBlock).outcome, Outcome::TimedOut);
        let port = Address::Tcp("127.0.0.1:1".into());
        let told = |kind: io::ErrorKind| connecting("Redis", &port, &kind.into());
        assert!(told(io::ErrorKind::ConnectionRefused).detail.contains("bound to this address"));
        assert_eq!(told(io::ErrorKind::TimedOut).outcome, Outcome::Unreachable);
    }

    #[test]
    fn a_closed_socket_names_its_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let detail =
            connecting("Redis", &Address::Unix(file.path().into()), &io::ErrorKind::PermissionDenied.into()).detail;
        assert!(detail.contains("belongs to group") && detail.contains("0600"), "{detail}");
        assert!(detail.contains("mode 660") && !detail.contains("usermod"), "a group that may not either: {detail}");
    }

    #[test]
    fn who_is_to_join_a_group_is_told_which() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o660)).unwrap();
        let gid = fs::metadata(file.path()).unwrap().gid();
        let detail =
            connecting("Redis", &Address::Unix(file.path().into()), &io::ErrorKind::PermissionDenied.into()).detail;
        assert_eq!(detail.contains("usermod -aG"), gid != 0, "nobody is to join root's: {detail}");
    }
}
