//! The process at the other end of a unix socket: which life of it this is, and how much memory it holds. As the kernel
//! tells it, never the service.

use std::fs;

use crate::control::boot_id;
use crate::control::failure::Failure;
use crate::control::stream::Stream;

/// The one that listens, as it was when it began to (`SO_PEERCRED`, unix(7)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer(i32);

impl Peer {
    /// `None` where it is in a namespace of its own, out of sight.
    pub(crate) fn of(stream: &Stream) -> Option<Peer> {
        stream.pid().map(Peer)
    }

    /// Boot, process and when it started: a number alone comes back.
    pub fn epoch(self) -> Result<String, Failure> {
        // A socket that systemd listens on stays the same over each restart of the service behind it.
        if self.0 == 1 && self.read("comm").is_ok_and(|name| name.trim_end() == "systemd") {
            return Err(Failure::unsupported(
                "systemd itself listens on this socket, so a restart of the service cannot be seen: add `epoch`",
            ));
        }
        let stat = self.read("stat").unwrap_or_default();
        match started(&stat) {
            Some(start) => Ok(format!("{}:{}:{start}", boot_id(), self.0)),
            // Its number may come back to any process, and then say nothing.
            None => Err(Failure::unsupported(
                "the process that opened this socket has ended, so a restart of the service cannot be seen: add `epoch`",
            )),
        }
    }

    /// Resident bytes.
    pub fn resident(self) -> Option<u64> {
        let status = self.read("status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    fn read(self, file: &str) -> std::io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0))
    }
}

/// Field 22 of `/proc/PID/stat`; the name in field 2 may have spaces and brackets.
fn started(stat: &str) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n";
        assert_eq!(started(stat), Some("4711"));
        let own = Peer(i32::try_from(std::process::id()).unwrap());
        assert!(own.resident().unwrap() > 1 << 20);
        assert_eq!(own.epoch().unwrap(), own.epoch().unwrap());
        assert!(Peer(i32::MAX).epoch().unwrap_err().detail.contains("add `epoch`"));
    }
}
