//! `[control.KIND.NAME]`: the services that may be acted on, each with where it is and what may be touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::control::address::Overlap;
use crate::control::target::{self, LATER, Target, described};
use crate::document::node::{Entry, Value};
use crate::document::origin::{Place, printable};
use crate::document::section::{Findings, Section, proposal};
use crate::document::value;

const PORTS: &str = "ports";

/// A control that the configuration names. Its target is unknown where its kind is; such a name is still a name, so that
/// one mistake does not become one more in each step.
#[derive(Debug)]
pub struct Declared {
    pub name: Arc<str>,
    pub target: Option<Target>,
    /// The ports that it stands before, where that is written.
    pub ports: Option<Vec<u16>>,
}

/// All controls, in name order.
pub fn read(root: Section<'_>, findings: &mut Findings<'_>) -> Vec<Declared> {
    let mut declared = BTreeMap::new();
    let Some(entry) = root.table.get("control") else { return Vec::new() };
    let Some(kinds) = Section::named("[control]", &entry.key, &entry.node, findings) else { return Vec::new() };
    for (kind, entry) in kinds.table {
        let title = format!("[control.{}]", printable(kind));
        if described(kind).is_none() {
            unknown_kind(kind, entry, findings);
            if !matches!(entry.node.value, Value::Table(_)) {
                continue;
            }
        }
        if let Some(names) = Section::named(&title, &entry.key, &entry.node, findings) {
            for (name, entry) in names.table {
                read_one(kind, name, entry, &mut declared, findings);
            }
        }
    }
    refuse_twins(&declared, findings);
    let one = |(name, found): (String, Found)| Declared { name: name.into(), target: found.target, ports: found.ports };
    declared.into_iter().map(one).collect()
}

fn unknown_kind(kind: &str, entry: &Entry, findings: &mut Findings<'_>) {
    let shown = printable(kind);
    if LATER.contains(&kind) {
        let help = format!("this version knows {}", target::names().join(", "));
        return findings.error(&entry.key, format!("controls of kind `{shown}` are not in this version"), help);
    }
    let help = format!("{} (a control is written [control.KIND.NAME])", proposal(kind, &target::names()));
    findings.error(&entry.key, format!("unknown kind of control `{shown}`"), help);
}

/// One control, as it is read.
struct Found {
    key: Place,
    target: Option<Target>,
    ports: Option<Vec<u16>>,
}

type All = BTreeMap<String, Found>;

fn read_one(kind: &str, name: &str, entry: &Entry, declared: &mut All, findings: &mut Findings<'_>) {
    let title = format!("[control.{}.{}]", printable(kind), printable(name));
    if let Err(message) = check_name(name) {
        findings.error(&entry.key, message, "use letters, digits, - and _");
    }
    if let Some(other) = declared.get(name) {
        let place = written(&other.key, findings);
        let message = format!("two controls are named `{}`{place}", printable(name));
        findings.error(&entry.key, message, "steps name a control by its name alone: rename one of them");
        return;
    }
    let target = Target::read(kind, &title, entry, findings);
    let ports = ports(kind, entry, findings);
    declared.insert(name.to_owned(), Found { key: entry.key.clone(), target, ports });
}

/// Of every kind that takes that key; what is no table was complained about.
fn ports(kind: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Vec<u16>> {
    let Value::Table(table) = &entry.node.value else { return None };
    let takes = described(kind).is_some_and(|kind| kind.keys.contains(&PORTS));
    let section = Section { key: &entry.key, table };
    takes.then(|| section.get(PORTS, findings, value::ports)).flatten()
}

/// ` (config.toml:7)`
fn written(place: &Place, findings: &Findings<'_>) -> String {
    findings.origins.get(place.origin).map_or_else(String::new, |origin| {
        format!(" ({}:{})", printable(&origin.name), origin.position(&place.span).line)
    })
}

/// What two controls turn at once, neither could put back: each would take the other's value for the operator's.
fn refuse_twins(declared: &All, findings: &mut Findings<'_>) {
    let mut all: Vec<_> =
        declared.iter().filter_map(|(name, found)| Some((name, &found.key, found.target.as_ref()?))).collect();
    all.sort_by_key(|(_, key, _)| (key.origin, key.span.start));
    for (at, (name, key, target)) in all.iter().enumerate() {
        let twin = all[..at].iter().find_map(|(other, place, theirs)| Some((other, place, target.overlap(theirs)?)));
        let Some((other, place, Overlap { what, help })) = twin else { continue };
        let place = written(place, findings);
        findings.error(key, format!("`{}` and `{}`{place} {what}", printable(name), printable(other)), help);
    }
}

/// Names appear in commands, metrics' labels and addresses of HTTP.
pub fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        return Ok(());
    }
    Err(format!("`{}` cannot be a name", printable(name)))
}
