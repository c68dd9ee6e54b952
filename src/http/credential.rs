//! Who is at the other end of the admin socket, by the kernel's word at the time of connecting.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::AsRawFd;

use nix::unistd::{Gid, Uid};
use tokio::net::UnixStream;

/// `SO_PEERGROUPS`, Linux 4.13, asm-generic/socket.h; the libc crate does not have it.
const SO_PEERGROUPS: libc::c_int = 59;

/// More supplementary groups than this are not looked at.
const MOST_GROUPS: usize = 256;

/// Ten thousand accounts.
const LONGEST_PASSWD: u64 = 1 << 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// `None`: the kernel would not say, so nobody that we trust.
    uid: Option<Uid>,
    groups: Vec<Gid>,
}

impl Peer {
    #[cfg(any(test, feature = "fuzzing"))]
    pub const fn nobody() -> Self {
        Self { uid: None, groups: Vec::new() }
    }

    #[must_use]
    pub fn of(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else { return Self { uid: None, groups: Vec::new() } };
        let mut groups = supplementary_groups(stream);
        groups.push(Gid::from_raw(credentials.gid()));
        Self { uid: Some(Uid::from_raw(credentials.uid())), groups }
    }

    /// `uid 1000 (oncall)`
    #[must_use]
    pub fn name(&self) -> String {
        self.uid.map_or_else(|| "somebody".to_owned(), named)
    }

    /// Root, whoever runs this daemon, and the members of the group.
    #[must_use]
    pub fn may_change(&self, group: Option<Gid>) -> bool {
        let Some(uid) = self.uid else { return false };
        uid.is_root() || uid == Uid::effective() || group.is_some_and(|group| self.groups.contains(&group))
    }
}

/// `uid 1000 (oncall)`
#[must_use]
pub fn named(uid: Uid) -> String {
    let mut passwd = String::new();
    let read = File::open("/etc/passwd").and_then(|file| file.take(LONGEST_PASSWD).read_to_string(&mut passwd));
    match read.ok().and_then(|_| name_of(uid, &passwd)) {
        Some(name) => format!("uid {uid} ({name})"),
        None => format!("uid {uid}"),
    }
}

/// Of `/etc/passwd`: a directory service may take its time, and a number says as much.
fn name_of(uid: Uid, passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid.as_raw())).then_some(name)
    })
}

/// The peer's own groups rather than those of its name in the user database, since systemd and containers give groups
/// that no database knows.
fn supplementary_groups(stream: &UnixStream) -> Vec<Gid> {
    let mut groups = [0 as libc::gid_t; MOST_GROUPS];
    let mut length = size_of_val(&groups) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `groups`, which lives until after the call.
    let answer = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer != 0 {
        return Vec::new();
    }
    let count = length as usize / size_of::<libc::gid_t>();
    groups.iter().take(count).map(|raw| Gid::from_raw(*raw)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_named_where_the_node_knows_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\noncall:x:1000:1000::/home/oncall:/bin/sh\n";
        assert_eq!(name_of(Uid::from_raw(1000), passwd), Some("oncall"));
        assert_eq!(name_of(Uid::from_raw(100), passwd), None);
    }

    #[test]
    fn strangers_change_nothing() {
        let other = Uid::from_raw(Uid::effective().as_raw() + 4242);
        let stranger = Peer { uid: Some(other), groups: vec![Gid::from_raw(7)] };
        assert!(!stranger.may_change(None) && !stranger.may_change(Some(Gid::from_raw(8))));
        assert!(stranger.may_change(Some(Gid::from_raw(7))));
        assert!(!Peer { uid: None, groups: vec![Gid::from_raw(7)] }.may_change(Some(Gid::from_raw(7))));
        assert!(Peer { uid: Some(Uid::effective()), groups: Vec::new() }.may_change(None));
    }
}
