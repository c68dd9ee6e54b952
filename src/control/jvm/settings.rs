//! `[control.jvm.NAME]`

use super::target::Jvm;
use crate::control::place::Written;
use crate::control::process::settings::{locator, require};
use crate::document::node::Entry;
use crate::document::section::{Findings, Section};

impl Written for Jvm {
    const KEYS: &'static [&'static str] = &["pid_file", "command", "cgroup", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let locator = locator(section, findings);
        require(title, section, &locator, findings);
        Some(Jvm { locator })
    }
}
