//! `[control.haproxy.NAME]`

use crate::config::document::{Entry, Node};
use crate::config::section::{Findings, Section};
use crate::config::value;
use crate::control::target::Haproxy;

pub const KEYS: &[&str] = &["socket", "frontends", "backends", "lease_table"];

/// The stick table that the packaged HAProxy snippet declares.
const LEASE_TABLE: &str = "ng_lease";

pub fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Haproxy> {
    let section = Section::open(title, &entry.key, &entry.node, KEYS, findings)?;
    if !section.has("socket") {
        let help = "add socket = \"/run/haproxy/admin.sock\" (HAProxy: `stats socket … level admin`)";
        findings.absence(section.key, format!("{title} has no `socket`"), help);
    }
    let names = |key: &str, node: &Node| value::list(key, node, value::word);
    Some(Haproxy {
        socket: section.get("socket", findings, value::socket).unwrap_or_default(),
        frontends: section.get("frontends", findings, names).unwrap_or_default(),
        backends: section.get("backends", findings, names).unwrap_or_default(),
        lease_table: section.get("lease_table", findings, value::word).unwrap_or_else(|| LEASE_TABLE.to_owned()),
    })
}
