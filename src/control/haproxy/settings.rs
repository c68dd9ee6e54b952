//! `[control.haproxy.NAME]`

use super::target::Haproxy;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::origin::printable;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;
use crate::policy::unit::{Quantity, Suffix};

/// The stick table that the packaged HAProxy snippet declares.
const LEASE_TABLE: &str = "ng_lease";

impl Written for Haproxy {
    const KEYS: &'static [&'static str] =
        &["socket", "frontends", "backends", "lease_table", "map", "connection_rate", "frontend_maxconn", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        if !section.has("socket") {
            let help = "add socket = \"/run/haproxy/admin.sock\" (HAProxy: `stats socket … level admin`)";
            findings.absence(section.key, format!("{title} has no `socket`"), help);
        }
        if section.has("frontend_maxconn") && !section.has("frontends") {
            let message = "`frontend_maxconn` needs `frontends`";
            findings.error(section.place("frontend_maxconn"), message, "add frontends = [\"web\"]");
        }
        let names = |key: &str, node: &Node| value::list(key, node, value::word);
        Some(Haproxy {
            socket: section.get("socket", findings, value::socket).unwrap_or_default(),
            frontends: section.get("frontends", findings, names).unwrap_or_default(),
            backends: section.get("backends", findings, names).unwrap_or_default(),
            lease_table: section.get("lease_table", findings, value::word).unwrap_or_else(|| LEASE_TABLE.to_owned()),
            map: section.get("map", findings, map),
            connection_rate: section.get("connection_rate", findings, connection_rate),
            frontend_maxconn: section.get("frontend_maxconn", findings, value::boolean).unwrap_or(false),
        })
    }
}

/// It goes into commands as it is written in `haproxy.cfg`.
fn map(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "/etc/haproxy/ng.map")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | ':');
    if !written.is_empty() && written.len() <= 255 && written.chars().all(plain) {
        return Ok(written.to_owned());
    }
    let help = "write it as haproxy.cfg does: letters, digits and / _ - . : only";
    refuse(format!("`{}` is not the path of a map", printable(written)), help)
}

fn connection_rate(key: &str, node: &Node) -> Read<u32> {
    const EXAMPLE: &str = "1000/s";
    match value::quantity(key, node, EXAMPLE)? {
        Quantity { value, suffix: Suffix::PerSecond } if (1.0..=1e9).contains(&value) => Ok(value as u32),
        _ => {
            refuse(format!("`{key}` is how many new connections a second are normal"), format!("such as \"{EXAMPLE}\""))
        }
    }
}
