//! `[control.cgroup.NAME]`

use super::spared;
use super::target::Cgroup;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::origin::printable;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;

/// What a small service needs to go on.
const FLOOR_BYTES: u64 = 64 << 20;

impl Written for Cgroup {
    const KEYS: &'static [&'static str] = &["path", "floor", "sacrificial", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        if !section.has("path") {
            let help = "add path = \"batch.slice\": the directory, from the root of the cgroup tree on";
            findings.absence(section.key, format!("{title} does not say which cgroup"), help);
        }
        Some(Cgroup {
            path: section.get("path", findings, path).unwrap_or_default(),
            floor_bytes: section.get("floor", findings, value::size).unwrap_or(FLOOR_BYTES),
            sacrificial: section.get("sacrificial", findings, value::boolean).unwrap_or(false),
        })
    }
}

fn path(key: &str, node: &Node) -> Read<String> {
    const HELP: &str = "such as \"batch.slice\" or \"system.slice/reports.service\": what `systemctl show -p ControlGroup \
                        UNIT` shows, without the mount point";
    let written = value::text(key, node, "batch.slice")?;
    let path = written.trim_matches('/');
    let is_plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.is_empty() || !path.split('/').all(is_plain) || path.contains('\0') {
        return refuse(format!("`{}` is not a cgroup below the root", printable(written)), HELP);
    }
    match spared::by_name(path) {
        Some(why) => refuse(format!("`{}` {why}: it is never acted on", printable(path)), HELP),
        None => Ok(path.to_owned()),
    }
}
