//! Reading one table: every key is known or complained about, every value is read by its kind, and whatever is wrong
//! is reported in place while the rest is read on.

use std::ops::Range;

use super::complaint::{About, Complaint, Gravity};
use super::node::{Node, Table, Value};
use super::origin::{Origin, Place, printable};
use crate::policy::nearest::nearest;

/// Why a value cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub message: String,
    pub help: String,
    /// Bytes of the string's value; the whole value where there is no better place.
    pub part: Option<Range<usize>>,
    /// Where it is not the value itself but something within it.
    pub place: Option<Place>,
}

impl Fault {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into(), part: None, place: None }
    }

    /// The same, unless it names a place already, about this place.
    #[must_use]
    pub fn at(self, place: &Place) -> Self {
        Self { part: None, place: self.place.or_else(|| Some(place.clone())), ..self }
    }
}

/// What a value is read to. Several things may be wrong with one value.
pub type Read<T> = Result<T, Vec<Fault>>;

pub fn refuse<T>(message: impl Into<String>, help: impl Into<String>) -> Read<T> {
    Err(vec![Fault::new(message, help)])
}

/// Complaints as they are found.
pub struct Findings<'o> {
    pub origins: &'o [Origin],
    pub list: Vec<Complaint>,
}

impl Findings<'_> {
    pub fn error(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(Gravity::Error, place, About::Meaning, message.into(), help.into());
    }

    pub fn absence(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(Gravity::Error, place, About::Absence, message.into(), help.into());
    }

    pub fn warning(&mut self, place: &Place, message: impl Into<String>, help: impl Into<String>) {
        self.add(Gravity::Warning, place, About::Meaning, message.into(), help.into());
    }

    fn add(&mut self, gravity: Gravity, place: &Place, about: About, message: String, help: String) {
        self.list.push(Complaint { gravity, place: place.clone(), message, help: Some(help), about });
    }

    fn faults(&mut self, node: &Node, faults: Vec<Fault>) {
        for fault in faults {
            let mut place = fault.place.unwrap_or_else(|| node.place.clone());
            if let (Some(part), Value::Text(text), Some(origin)) =
                (&fault.part, &node.value, self.origins.get(place.origin))
            {
                place.span = origin.inside(&place.span, text, part);
            }
            self.error(&place, fault.message, fault.help);
        }
    }
}

/// An open table of the configuration.
#[derive(Clone, Copy)]
pub struct Section<'n> {
    pub key: &'n Place,
    pub table: &'n Table,
}

impl<'n> Section<'n> {
    /// Complains where the node is no table, and about each key that is not one of `keys`. `title` names the table as
    /// it is written, `[sampling]`.
    pub fn open(
        title: &str,
        key: &'n Place,
        node: &'n Node,
        keys: &[&'static str],
        findings: &mut Findings<'_>,
    ) -> Option<Self> {
        let section = Self::named(title, key, node, findings)?;
        section.refuse_unknown(title, keys, findings);
        Some(section)
    }

    /// A table whose keys are names that the operator chooses.
    pub fn named(title: &str, key: &'n Place, node: &'n Node, findings: &mut Findings<'_>) -> Option<Self> {
        let mut newest = None;
        for version in node.versions() {
            match &version.value {
                Value::Table(table) => newest = newest.or(Some(Section { key, table })),
                other => {
                    let message = format!("{title} is a table, not {}", other.described());
                    findings.error(&version.place, message, format!("write {title} on a line of its own"));
                }
            }
        }
        newest
    }

    pub fn refuse_unknown(&self, title: &str, keys: &[&'static str], findings: &mut Findings<'_>) {
        for (name, entry) in self.table.iter().filter(|(name, _)| !keys.contains(&name.as_str())) {
            let shown = printable(name);
            if let Some(sentence) = later(title, name) {
                findings.error(&entry.key, format!("`{shown}` {sentence}"), "remove it");
                continue;
            }
            let message = format!("unknown key `{shown}` in {title}");
            findings.error(&entry.key, message, proposal(name, keys));
        }
    }

    /// The value of a key where it is set and can be used.
    pub fn get<T>(
        &self,
        key: &'static str,
        findings: &mut Findings<'_>,
        read: impl Fn(&str, &Node) -> Read<T>,
    ) -> Option<T> {
        let entry = self.table.get(key)?;
        let mut newest = None;
        for (age, version) in entry.node.versions().enumerate() {
            match read(key, version) {
                Ok(value) if age == 0 => newest = Some(value),
                Ok(_) => {}
                Err(faults) => findings.faults(version, faults),
            }
        }
        newest
    }

    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the value of a key is, or the table where it is not set.
    #[must_use]
    pub fn place(&self, key: &str) -> &'n Place {
        self.table.get(key).map_or(self.key, |entry| &entry.node.place)
    }
}

/// `did you mean …?`, or all that there is.
pub fn proposal(word: &str, known: &[&'static str]) -> String {
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

/// Keys that are announced, or that people expect, with the honest answer.
fn later(title: &str, key: &str) -> Option<&'static str> {
    match (title, key) {
        ("[sampling]", "cgroups") => Some("is not in this version: it samples the node, not single control groups"),
        (_, "password") => Some("is a secret, and secrets are never in the file: name a `password_file`"),
        ("[http]", "token") => Some("is a secret, and secrets are never in the file: name a `token_file`"),
        _ => None,
    }
}
