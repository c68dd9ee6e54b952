//! Which cgroups are never acted on, whatever the configuration says: those without which nobody can get at the node, and
//! those that hold the guardian, process 1, or whoever started the guardian.

use std::fs;

use crate::control::failure::Failure;
use crate::control::resident;

/// Nobody's line of ancestors is longer.
const MOST_ANCESTORS: usize = 64;

/// Why this one is spared, by where it is. Pure.
pub fn by_name(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_of_system = |part: &&str| {
        let ends = part.ends_with(".service") || part.ends_with(".scope");
        *part == "init.scope" || ends && ["systemd-", "dbus"].iter().any(|first| part.starts_with(first))
    };
    let is_login = |part: &&str| part.starts_with("session-") && part.ends_with(".scope");
    let is_user = |part: &str| part.starts_with("user-") && part.ends_with(".slice");
    if parts.iter().any(is_of_system) {
        return Some("belongs to the system");
    }
    if parts.iter().any(is_login) {
        return Some("is a login session");
    }
    match parts.as_slice() {
        [] | [""] => Some("is the root of the tree"),
        ["system.slice"] => Some("contains the system"),
        ["user.slice"] => Some("contains login sessions"),
        ["user.slice", user] if is_user(user) => Some("contains login sessions"),
        ["user.slice", _, manager] if manager.starts_with("user@") => Some("contains the manager of a user"),
        _ => None,
    }
}

/// # Errors
/// Where this cgroup is spared, or nobody can tell.
pub fn check(path: &str) -> Result<(), Failure> {
    if let Some(why) = by_name(path) {
        return Err(Failure::refused(format!("cgroup {path} {why}: it is never acted on")));
    }
    let own = std::process::id();
    let Some(home) = home(own) else {
        return Err(Failure::refused(format!(
            "/proc/{own}/cgroup does not tell in which cgroup of version 2 the guardian itself runs, so nothing is acted on"
        )));
    };
    if holds(path, &home) {
        return Err(Failure::refused(format!("the guardian itself runs in cgroup {path}, which it never acts on")));
    }
    // Of whom /proc shows nothing, nothing is known.
    if self::home(1).is_some_and(|home| holds(path, &home)) {
        return Err(Failure::refused(format!("process 1 runs in cgroup {path}, which is never acted on")));
    }
    let mut pid = own;
    for _ in 0..MOST_ANCESTORS {
        let Some(parent) = resident::life(pid).map(|life| life.parent).filter(|parent| *parent > 1) else { break };
        if self::home(parent).is_some_and(|home| holds(path, &home)) {
            return Err(Failure::refused(format!(
                "process {parent}, which started the guardian, runs in cgroup {path}, which is not acted on"
            )));
        }
        pid = parent;
    }
    Ok(())
}

/// Whether the second is the first, or below it. Both from the root of the tree on.
fn holds(path: &str, other: &str) -> bool {
    let (path, other) = (path.trim_matches('/'), other.trim_matches('/'));
    other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The cgroup of version 2 that this process is in.
fn home(pid: u32) -> Option<String> {
    of_version_2(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

fn of_version_2(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_the_node_and_logins_are_spared() {
        for spared in [
            "",
            "init.scope",
            "system.slice",
            "system.slice/systemd-journald.service",
            "system.slice/dbus.service",
            "system.slice/systemd-udevd.service/udev",
            "user.slice",
            "user.slice/user-1000.slice",
            "user.slice/user-1000.slice/session-3.scope",
            "user.slice/user-1000.slice/user@1000.service",
        ] {
            assert!(by_name(spared).is_some(), "{spared}");
        }
        for free in [
            "batch.slice",
            "system.slice/reports.service",
            "machine.slice/a.scope",
            "user.slice/user-1000.slice/user@1000.service/app.slice/build.scope",
            "system.slice/systemd.d",
        ] {
            assert_eq!(by_name(free), None, "{free}");
        }
    }

    #[test]
    fn a_cgroup_holds_itself_and_what_is_below_it() {
        assert!(holds("a/b", "/a/b") && holds("a/b", "/a/b/c") && holds("/a/", "/a"));
        assert!(!holds("a/b", "/a/bc") && !holds("a/b", "/a") && !holds("a", "/"));
        assert_eq!(of_version_2("1:cpu:/x\n0::/a/b\n").as_deref(), Some("/a/b"));
        assert_eq!(of_version_2("1:cpu:/x\n"), None, "a node without version 2");
    }

    #[test]
    fn our_own_and_that_of_whoever_started_us_is_refused() {
        let own = home(std::process::id());
        let own = own.as_deref().unwrap_or_default().trim_matches('/');
        let wanted = if own.is_empty() { "batch" } else { own };
        assert_eq!(check(wanted).is_err(), !own.is_empty());
        assert!(check("").unwrap_err().detail.contains("root of the tree"));
    }
}
