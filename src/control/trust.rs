//! Who listens where a secret is about to be sent, by what the kernel says, and whether that is who it is meant for. Asked
//! on every new connection that a secret goes over, before its first byte. What cannot be told (another host, another
//! network namespace) is the network's to protect.

mod tcp;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::address::Address;
use super::failure::Failure;
use super::stream::{Stream, place};
use tcp::Listener;

/// Users below are the system's own, which no person logs in as (`SYS_UID_MAX` of login.defs).
const FIRST_PERSON: u32 = 1000;
/// Written by group or others.
const OPEN_TO_OTHERS: u32 = 0o022;

/// Whom the operator expects, and by which key that is written.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub uid: Option<u32>,
    pub key: &'static str,
}

impl Expected {
    pub const fn listener(uid: Option<u32>) -> Self {
        Self { uid, key: "listener" }
    }
}

/// # Errors
/// `Refused`, and who it is instead.
pub fn check(stream: &Stream, address: &Address, expected: Expected) -> Result<(), Failure> {
    let (uid, is_trusted) = match address {
        Address::Unix(path) => {
            let Some(uid) = stream.uid() else {
                return Err(Failure::refused(format!("cannot tell who listens on {}", place(address))));
            };
            (uid, has_right_to(path, uid))
        }
        Address::Tcp(_) => match stream.tcp().map_or(Listener::Elsewhere, tcp::listener) {
            Listener::Elsewhere => return Ok(()),
            Listener::Gone => {
                let whose = format!("the listener on {} closed it during the check", place(address));
                return Err(Failure::refused(format!("{whose}: no secret was sent")));
            }
            Listener::User(uid) => (uid, uid < FIRST_PERSON),
        },
    };
    let is_expected = match expected.uid {
        Some(expected) => uid == expected || uid == 0,
        None => uid == 0 || uid == nix::unistd::geteuid().as_raw() || is_trusted,
    };
    if is_expected { Ok(()) } else { Err(stranger(uid, address, expected)) }
}

/// Who may make a socket there: the owner of its directory. Where that is root and nobody else may write to it, root has
/// put whoever listens there.
fn has_right_to(path: &Path, uid: u32) -> bool {
    let folder = path.parent().and_then(|folder| fs::metadata(folder).ok());
    folder.is_some_and(|folder| folder.uid() == uid || folder.uid() == 0 && folder.mode() & OPEN_TO_OTHERS == 0)
}

fn stranger(uid: u32, address: &Address, Expected { uid: expected, key }: Expected) -> Failure {
    let why = match (expected, address) {
        (Some(expected), _) => format!("`{key}` expects uid {expected}"),
        (None, Address::Unix(_)) => "that is neither root, nor the guardian, nor the owner of its directory".to_owned(),
        (None, Address::Tcp(_)) => "that is neither root, nor the guardian, nor a system user".to_owned(),
    };
    let at = place(address);
    Failure::refused(format!(
        "uid {uid} listens on {at}: {why}; no secret was sent. If that is right, write {key} = {uid} on this control"
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn who_may_make_a_socket_there_is_trusted_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let me = nix::unistd::geteuid().as_raw();
        assert!(has_right_to(&path, me) && (me == 0 || !has_right_to(&path, 4242)));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(!has_right_to(&path, 4242), "anybody may make one in such a directory");
        let _listener = UnixListener::bind(&path).unwrap();
        let address = Address::Unix(path);
        let stream = Stream::connect(&address).await.unwrap();
        let checked = |uid| check(&stream, &address, Expected::listener(uid));
        assert!(checked(None).is_ok() && checked(Some(me)).is_ok());
        assert_eq!(checked(Some(4242)).is_ok(), me == 0);
        let told = stranger(4242, &address, Expected::listener(None)).detail;
        assert!(told.contains("listener = 4242") && told.contains("no secret was sent"), "{told}");
    }
}
