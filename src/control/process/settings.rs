//! `[control.process.NAME]`; and how every kind that acts on a process says which.

use std::time::Duration;

use super::locate::Locator;
use super::target::{Pool, Process};
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::origin::printable;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;

/// A service that takes longer to end has lost its chance.
const LONGEST_END: Duration = Duration::from_secs(300);

impl Written for Process {
    const KEYS: &'static [&'static str] =
        &["pid_file", "command", "cgroup", "workers", "idle_io", "sacrificial", "kill_after", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let pool = |key: &str, node: &Node| value::choice(key, node, &Pool::ALL, Pool::name);
        let seconds = |key: &str, node: &Node| value::duration(key, node, Duration::from_secs(1)..=LONGEST_END);
        let process = Process {
            locator: locator(section, findings),
            workers: section.get("workers", findings, pool),
            idle_io: section.get("idle_io", findings, value::boolean).unwrap_or(false),
            sacrificial: section.get("sacrificial", findings, value::boolean).unwrap_or(false),
            kill_after_seconds: section.get("kill_after", findings, seconds).map(|after| after.as_secs().max(1)),
        };
        require(title, section, &process.locator, findings);
        if process.workers.is_some() && process.idle_io {
            let message = "`idle_io` is for a throttle by niceness, and `workers` makes it one by workers";
            findings.error(section.place("idle_io"), message, "remove one of them");
        }
        if process.kill_after_seconds.is_some() && !process.sacrificial {
            let message = "`kill_after` needs `sacrificial = true`";
            findings.error(
                section.place("kill_after"),
                message,
                "declare that the node can do without it, or remove this",
            );
        }
        Some(process)
    }
}

pub fn locator(section: Section<'_>, findings: &mut Findings<'_>) -> Locator {
    let locator = Locator {
        pid_file: section.get("pid_file", findings, value::path),
        command: section.get("command", findings, command),
        cgroup: section.get("cgroup", findings, cgroup),
    };
    if section.has("pid_file") && section.has("cgroup") {
        let message = "a process is found by `pid_file` or by `cgroup`, not by both";
        findings.error(section.place("cgroup"), message, "remove one of them");
    }
    if section.has("pid_file") && !section.has("command") {
        let message = "`pid_file` needs `command`, because the file outlives its process";
        let help = "add command = \"gunicorn\", or what `ps -o comm= -p PID` shows";
        findings.error(section.place("pid_file"), message, help);
    }
    locator
}

pub fn require(title: &str, section: Section<'_>, locator: &Locator, findings: &mut Findings<'_>) {
    if locator.is_missing() && !section.has("pid_file") && !section.has("cgroup") {
        let help = "add cgroup = \"system.slice/NAME.service\", or pid_file = \"/run/NAME.pid\" and command = \"NAME\"";
        findings.absence(section.key, format!("{title} does not say which process"), help);
    }
}

fn command(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "gunicorn")?;
    if written.is_empty() || written.contains(['/', '\n', '\0']) {
        let message = format!("`{}` is not the name of a process", printable(written));
        return refuse(message, "what `ps -o comm= -p PID` shows, such as \"gunicorn\"; no path");
    }
    Ok(written.to_owned())
}

/// Below the root of the tree, wherever that is mounted.
fn cgroup(key: &str, node: &Node) -> Read<String> {
    const HELP: &str = "such as \"system.slice/gunicorn.service\": what `systemctl show -p ControlGroup UNIT` shows";
    let written = value::text(key, node, "system.slice/gunicorn.service")?;
    let path = written.trim_matches('/');
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.is_empty() || !path.split('/').all(is_plain) || path.contains('\0') {
        return refuse(format!("`{}` is not a control group", printable(written)), HELP);
    }
    if path == "init.scope" || path.starts_with("init.scope/") {
        return refuse("this is where process 1 lives, which is never acted on", HELP);
    }
    Ok(path.to_owned())
}
