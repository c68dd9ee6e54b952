//! Finding a service's process: by its pid file, or as the one of its control group that the others descend from. A pid
//! file can outlive its process and be written by whoever owns it, so it is believed only as far as that goes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::pinned::Pinned;
use super::table::{self, MOST_PROCESSES};
use crate::control::address::{Identity, is_same_file};
use crate::control::failure::Failure;

/// Version 2, the mixture of both, and version 1 as systemd mounts it.
const CGROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// How the configuration names a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Locator {
    pub pid_file: Option<PathBuf>,
    /// As `ps -o comm` shows it.
    pub command: Option<String>,
    /// `system.slice/gunicorn.service`
    pub cgroup: Option<String>,
}

impl Locator {
    /// Nothing was written, which was complained about where it is needed.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        self.pid_file.is_none() && self.cgroup.is_none()
    }

    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.pid_file, &other.pid_file) {
            (Some(mine), Some(theirs)) => is_same_file(mine, theirs),
            (None, None) => self.cgroup == other.cgroup && self.cgroup.is_some(),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// # Errors
    /// Where there is no such process, or it must not be acted on.
    pub fn find(&self) -> Result<Pinned, Failure> {
        match (&self.pid_file, &self.cgroup) {
            (Some(file), _) => self.named_by(file),
            (None, Some(cgroup)) => self.first_of(cgroup),
            (None, None) => Err(Failure::unsupported("name the process: `pid_file` or `cgroup`")),
        }
    }

    /// All processes of the service, as far as the configuration says which they are.
    ///
    /// # Errors
    /// Where there is none.
    pub fn members(&self) -> Result<Vec<i32>, Failure> {
        match &self.cgroup {
            Some(cgroup) => listed(cgroup, &CGROUPS),
            None => {
                let process = self.find()?;
                Ok(table::tree(process.pid).unwrap_or_else(|_| vec![process.pid]))
            }
        }
    }

    fn named_by(&self, file: &Path) -> Result<Pinned, Failure> {
        let shown = file.display();
        let (pid, owner) = read_pid(file)?;
        let gone = || {
            Failure::unreachable(format!("{shown} names process {pid}, which is not there: is the service running?"))
        };
        let process = Pinned::open(pid)?.ok_or_else(gone)?;
        let stat = process.stat().ok_or_else(gone)?;
        if let Some(command) = &self.command
            && !stat.is_called(command)
        {
            return Err(Failure::refused(format!(
                "{shown} names process {pid}, which is `{}` and not `{command}`: the file is of an earlier process, or \
                 `command` is not what `ps -o comm= -p {pid}` shows",
                stat.command
            )));
        }
        let uid = table::status(pid).map(|status| status.uid);
        if owner != 0 && Some(owner) != uid && owner != nix::unistd::getuid().as_raw() {
            return Err(Failure::refused(format!(
                "{shown} belongs to user {owner}, who could name any process of others in it: let it belong to root \
                 or to \
                 the user of process {pid}"
            )));
        }
        Ok(process)
    }

    fn first_of(&self, cgroup: &str) -> Result<Pinned, Failure> {
        let pids = listed(cgroup, &CGROUPS)?;
        let stats: Vec<_> = pids.iter().filter_map(|pid| Some((*pid, table::stat(*pid)?))).collect();
        let wanted = |stat: &table::Stat| self.command.as_ref().is_none_or(|command| stat.is_called(command));
        let is_first = |stat: &table::Stat| {
            wanted(stat) && !stats.iter().any(|(pid, parent)| *pid == stat.parent && wanted(parent))
        };
        let first: Vec<i32> = stats.iter().filter(|(_, stat)| is_first(stat)).map(|(pid, _)| *pid).collect();
        match first.as_slice() {
            [pid] => {
                Pinned::open(*pid)?.ok_or_else(|| Failure::unreachable(format!("the process of {cgroup} has ended")))
            }
            [] => Err(Failure::unreachable(format!(
                "no process{} runs in {cgroup}: is the service running?",
                self.command.as_ref().map(|command| format!(" `{command}`")).unwrap_or_default()
            ))),
            several => Err(Failure::refused(format!(
                "{} processes of {cgroup} have no parent there: say which one with `command`, or by its `pid_file`",
                several.len()
            ))),
        }
    }
}

/// The number in it, and whose file it is.
fn read_pid(file: &Path) -> Result<(i32, u32), Failure> {
    let shown = file.display();
    let unread = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::unreachable(format!(
            "{shown} does not exist: is the service running, and does it write this file?"
        )),
        _ if error.raw_os_error() == Some(libc::ELOOP) => {
            Failure::refused(format!("{shown} is a link, which others could redirect: name the file itself"))
        }
        _ => Failure::unreachable(format!("cannot read {shown}: {error}")),
    };
    // What waits to be written to would hold up everything.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let opened = File::options().read(true).custom_flags(flags).open(file);
    let mut opened = opened.map_err(unread)?;
    let metadata = opened.metadata().map_err(unread)?;
    if !metadata.is_file() {
        return Err(Failure::refused(format!("{shown} is not a regular file, so not a pid file")));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(Failure::refused(format!("everybody may write {shown}, so it is not trusted: chmod o-w {shown}")));
    }
    let mut text = String::new();
    opened.by_ref().take(64).read_to_string(&mut text).map_err(unread)?;
    match text.trim().parse::<i32>() {
        Ok(pid) if pid > 0 => Ok((pid, metadata.uid())),
        Ok(_) | Err(_) => Err(Failure::unreachable(format!("there is no process number in {shown}"))),
    }
}

fn listed(cgroup: &str, roots: &[&str]) -> Result<Vec<i32>, Failure> {
    let mut seen = false;
    for root in roots {
        let Ok(text) = std::fs::read_to_string(Path::new(root).join(cgroup).join("cgroup.procs")) else { continue };
        seen = true;
        // 0 is a process of another namespace.
        let pids: Vec<i32> = text.lines().filter_map(|line| line.trim().parse().ok()).filter(|pid| *pid > 0).collect();
        if pids.len() > MOST_PROCESSES {
            return Err(Failure::unsupported(format!("{} processes run in {cgroup}: too many to look at", pids.len())));
        }
        if !pids.is_empty() {
            return Ok(pids);
        }
    }
    Err(Failure::unreachable(if seen {
        format!("the control group {cgroup} is empty: is the service running?")
    } else {
        format!("there is no control group {cgroup}: `systemctl show -p ControlGroup UNIT` names it")
    }))
}

impl From<&Locator> for Identity {
    fn from(locator: &Locator) -> Self {
        match &locator.pid_file {
            Some(file) => Self::File(file.clone()),
            None => Self::Group(locator.cgroup.clone().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::policy::mitigation::Outcome;

    fn by_file(text: &str, mode: u32) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let locator = Locator { pid_file: Some(file.path().to_owned()), ..Locator::default() };
        locator.find().err().map(|failure| failure.detail).unwrap_or_default()
    }

    #[test]
    fn a_pid_file_is_believed_only_as_far_as_that_goes() {
        assert!(by_file("", 0o644).contains("no process number"));
        assert!(by_file("-1\n", 0o644).contains("no process number"));
        assert!(by_file("all of them\n", 0o644).contains("no process number"));
        assert!(by_file("1\n", 0o644).contains("never acted on"));
        assert!(by_file("2147483647\n", 0o644).contains("is not there"));
        assert!(by_file("77\n", 0o666).contains("everybody may write"));
        assert_eq!(by_file(&format!("{}\n", std::os::unix::process::parent_id()), 0o644), "");
    }

    #[test]
    fn a_link_to_somebody_elses_pid_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("root.pid"), folder.path().join("pid"));
        fs::write(&file, std::os::unix::process::parent_id().to_string()).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let locator = Locator { pid_file: Some(link), ..Locator::default() };
        let failure = locator.find().err().unwrap();
        assert_eq!(failure.outcome, Outcome::Refused);
        assert!(failure.detail.contains("is a link"), "{}", failure.detail);
    }

    #[test]
    fn a_group_lists_its_processes_in_the_first_tree_that_has_them() {
        let folder = tempfile::tempdir().unwrap();
        let group = |root: &str, text: &str| {
            let path = folder.path().join(root).join("system.slice/x.service");
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), text).unwrap();
        };
        group("one", "");
        group("two", "0\n70\n71\n");
        let roots = ["none", "one", "two"].map(|root| folder.path().join(root).display().to_string());
        let roots: Vec<&str> = roots.iter().map(String::as_str).collect();
        assert_eq!(listed("system.slice/x.service", &roots).unwrap(), [70, 71]);
        assert!(listed("system.slice/x.service", &roots[..2]).unwrap_err().detail.contains("is empty"));
        assert!(listed("system.slice/y.service", &roots).unwrap_err().detail.contains("no control group"));
        let many: String = (0..=MOST_PROCESSES).map(|pid| format!("{}\n", 1000 + pid)).collect();
        group("one", &many);
        assert!(listed("system.slice/x.service", &roots).unwrap_err().detail.contains("too many"));
    }
}
