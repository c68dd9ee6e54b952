//! What the kinds `socket` and `http` have in common: verbs as tables with `read`, `set` and `to`, or with `do`; and
//! steps. Whatever could not be undone exactly is refused here, before anything is ever sent.

use super::text::{PASSWORD, VALUE, is_plain};
use super::{Act, BYTES, KEPT, Knob, Meaning, Recipe, Request, SHARE, SHED, Step, Take};
use crate::control::address::Address;
use crate::document::node::{Node, Value};
use crate::document::origin::{Place, printable};
use crate::document::secret::warn_open_secret;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;
use crate::policy::mitigation::{Lasting, Verb};

const LASTING: &[&str] = &["name", "read", "may", "set", "unset", "to", "least", "unlimited_is"];
const ONCE: &[&str] = &["name", "may", "do", "memory"];
const MEANING: &[&str] = &["has", "value"];
const LONGEST_TEXT: usize = 16 * 1024;

/// How one kind writes a request.
pub struct Dialect {
    /// All keys of a step.
    pub keys: &'static [&'static str],
    pub example: &'static str,
    pub request: fn(Section<'_>, &mut Findings<'_>) -> Option<Request>,
    /// Whether the protocol itself tells an error from an answer.
    pub tells_errors: bool,
}

/// What is missing where the peer of a unix socket cannot be asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peers {
    Seen,
    Unseen,
}

/// Where a service listens: `socket` or `address`.
pub fn place_of(title: &str, section: Section<'_>, example: &str, findings: &mut Findings<'_>) -> Option<Address> {
    let socket = section.get("socket", findings, value::socket).map(Address::Unix);
    let address = section.get("address", findings, value::address).map(Address::Tcp);
    match (section.has("socket"), section.has("address")) {
        (true, true) => {
            let message = "a service is reached by `socket` or by `address`, not by both";
            findings.error(section.place("address"), message, "remove one of them");
        }
        (false, false) => {
            let help = format!("add socket = \"{example}\", or address = \"127.0.0.1:8080\"");
            findings.absence(section.key, format!("{title} has neither `socket` nor `address`"), help);
        }
        (true, false) | (false, true) => {}
    }
    socket.or(address)
}

pub fn read(title: &str, section: Section<'_>, dialect: &Dialect, peers: Peers, findings: &mut Findings<'_>) -> Recipe {
    let mut recipe = Recipe {
        epoch: one(title, "epoch", section, dialect, findings),
        password_file: section.get("password_file", findings, value::path),
        ..Recipe::default()
    };
    if takes_nothing(section, "epoch") {
        let help = "add take = \"…{value}\" or json = \"/…\": a value that never repeats, such as a start time";
        findings.error(section.place("epoch"), "`epoch` takes nothing from the answer", help);
    }
    for verb in Verb::ALL {
        let Some(entry) = section.table.get(verb.name()) else { continue };
        recipe.verbs.push(verb);
        let title = format!("{}.{verb}]", title.trim_end_matches(']'));
        let example = "{ read = …, set = …, to = … }, or { do = … } for what leaves nothing in force";
        for table in tables(&title, &entry.key, &entry.node, example, findings) {
            match verb.lasting() {
                Lasting::InForce => recipe.knobs.extend(knob(&title, verb, table, dialect, findings)),
                Lasting::Once => recipe.acts.extend(act(&title, verb, table, dialect, findings)),
            }
        }
    }
    whole(title, section, &recipe, peers, findings);
    recipe
}

fn whole(title: &str, section: Section<'_>, recipe: &Recipe, peers: Peers, findings: &mut Findings<'_>) {
    if recipe.verbs.is_empty() {
        let help = format!("add {}.flush], or another verb", title.trim_end_matches(']'));
        findings.absence(section.key, format!("{title} has no verb"), help);
    }
    if !recipe.knobs.is_empty() && !section.has("epoch") && peers == Peers::Unseen {
        let message = format!("over TCP {title} cannot see when the service restarts");
        findings.absence(section.key, message, "add `epoch`: a request that identifies the running instance");
    }
    for (at, knob) in recipe.knobs.iter().enumerate() {
        if recipe.knobs[..at].iter().any(|other| other.name == knob.name) {
            let message = format!("two values of {title} are named `{}`", printable(&knob.name));
            findings.error(section.key, message, "give each a `name` of its own");
        }
    }
    if let Some((one, other)) = recipe.twins() {
        let [one, other] = [one, other].map(|knob| printable(&knob.name));
        let message = format!("`{one}` and `{other}` of {title} set the same value, which only one of them can undo");
        findings.error(section.key, message, "let one verb set it: steps give it different strengths");
    }
    match &recipe.password_file {
        Some(file) => warn_open_secret(section.place("password_file"), file, findings),
        None if format!("{recipe:?}").contains(PASSWORD) => {
            let message = format!("{title} uses {{password}} and has no `password_file`");
            findings.absence(section.key, message, "name the file that holds it");
        }
        None => {}
    }
}

/// A table, or several: `[[control.http.edge.drain]]`.
fn tables<'n>(
    title: &str,
    key: &'n Place,
    node: &'n Node,
    example: &str,
    findings: &mut Findings<'_>,
) -> Vec<Section<'n>> {
    let mut table = |node: &'n Node| match &node.value {
        Value::Table(table) => Some(Section { key, table }),
        other => {
            let message = format!("{title} is a table, not {}", other.described());
            findings.error(&node.place, message, format!("such as {example}"));
            None
        }
    };
    match &node.value {
        Value::Array(nodes) => nodes.iter().filter_map(table).collect(),
        _ => table(node).into_iter().collect(),
    }
}

/// Neither key that takes a value is written in this step.
fn takes_nothing(section: Section<'_>, key: &str) -> bool {
    let step = section.table.get(key).map(|entry| &entry.node.value);
    matches!(step, Some(Value::Table(table)) if !table.contains_key("take") && !table.contains_key("json"))
}

fn knob(title: &str, verb: Verb, section: Section<'_>, dialect: &Dialect, findings: &mut Findings<'_>) -> Option<Knob> {
    section.refuse_unknown(title, LASTING, findings);
    let name = section.get("name", findings, label).unwrap_or_else(|| verb.name().to_owned());
    let read = one(title, "read", section, dialect, findings);
    let set = several(title, "set", section, dialect, findings);
    let unset = several(title, "unset", section, dialect, findings);
    let to = section.get("to", findings, to);
    let missing = ["read", "set", "to"].into_iter().find(|key| !section.has(key));
    if let Some(missing) = missing {
        let message = format!("{title} has no `{missing}`");
        let help = format!("`{verb}` needs `read` for the prior value, `set`, and `to`");
        findings.absence(section.key, message, help);
    }
    if takes_nothing(section, "read") {
        let help = "add take = \"limit: {value}\", a pattern, or json = \"/limit\", a pointer";
        findings.error(section.place("read"), "`read` takes nothing from the answer", help);
    }
    if !set.is_empty() && !set.iter().any(|step| names(&step.request, VALUE)) {
        let help = "write {value} where the value goes: `set` applies a value, and restores the prior one";
        findings.error(section.place("set"), "`set` always sets the same", help);
    }
    let number = |key: &str, node: &Node| value::integer(key, node, 0..=i32::MAX).map(i32::unsigned_abs);
    Some(Knob {
        verb,
        name,
        read: read?,
        may: question(title, section, dialect, findings),
        set,
        unset,
        to: to?,
        least: section.get("least", findings, number).unwrap_or(1),
        unlimited_is: section.get("unlimited_is", findings, number),
    })
}

fn act(title: &str, verb: Verb, section: Section<'_>, dialect: &Dialect, findings: &mut Findings<'_>) -> Option<Act> {
    section.refuse_unknown(title, ONCE, findings);
    let steps = several(title, "do", section, dialect, findings);
    if !section.has("do") {
        let help = format!("`{verb}` leaves nothing in force, so it only needs do = {}", dialect.example);
        findings.absence(section.key, format!("{title} has no `do`"), help);
    }
    for step in &steps {
        if !dialect.tells_errors && step.expect.is_none() && step.take.is_none() {
            let help = "add expect = \"OK\": how its answer begins where it worked";
            findings.error(section.place("do"), "nothing checks whether this worked", help);
        }
    }
    Some(Act {
        verb,
        name: section.get("name", findings, label).unwrap_or_else(|| verb.name().to_owned()),
        may: question(title, section, dialect, findings),
        steps,
        memory: section.get("memory", findings, value::boolean).unwrap_or(false),
    })
}

/// What asks the service whether it allows this.
fn question(title: &str, section: Section<'_>, dialect: &Dialect, findings: &mut Findings<'_>) -> Option<Step> {
    let step = one(title, "may", section, dialect, findings)?;
    if !dialect.tells_errors && step.expect.is_none() {
        let help = "add expect = \"yes\": how its answer begins where it is allowed";
        findings.error(section.place("may"), "nothing checks whether this is allowed", help);
    }
    Some(step)
}

pub fn several(
    title: &str,
    key: &'static str,
    section: Section<'_>,
    dialect: &Dialect,
    findings: &mut Findings<'_>,
) -> Vec<Step> {
    let Some(entry) = section.table.get(key) else { return Vec::new() };
    let title = format!("{key} of {title}");
    let steps = tables(&title, &entry.key, &entry.node, dialect.example, findings);
    steps.into_iter().filter_map(|table| step(&title, table, dialect, findings)).collect()
}

fn one(
    title: &str,
    key: &'static str,
    section: Section<'_>,
    dialect: &Dialect,
    findings: &mut Findings<'_>,
) -> Option<Step> {
    let entry = section.table.get(key)?;
    let title = format!("{key} of {title}");
    if let Value::Array(_) = entry.node.value {
        findings.error(&entry.node.place, format!("{title} is one step, not several"), "write it without brackets");
        return None;
    }
    let table = tables(&title, &entry.key, &entry.node, dialect.example, findings).pop()?;
    step(&title, table, dialect, findings)
}

fn step(title: &str, section: Section<'_>, dialect: &Dialect, findings: &mut Findings<'_>) -> Option<Step> {
    section.refuse_unknown(title, dialect.keys, findings);
    let take = section.get("take", findings, pattern).map(Take::Pattern);
    let json = section.get("json", findings, pointer).map(Take::Json);
    if section.has("take") && section.has("json") {
        findings.error(section.place("json"), "a value is taken by `take` or by `json`", "remove one of them");
    }
    Some(Step {
        request: (dialect.request)(section, findings)?,
        expect: section.get("expect", findings, text),
        take: take.or(json),
        means: meanings(title, section, findings),
        may_be_empty: section.get("may_be_empty", findings, value::boolean).unwrap_or(false),
    })
}

fn meanings(title: &str, section: Section<'_>, findings: &mut Findings<'_>) -> Vec<Meaning> {
    let Some(entry) = section.table.get("means") else { return Vec::new() };
    let title = format!("means in {title}");
    let mut meanings = Vec::new();
    for table in tables(&title, &entry.key, &entry.node, "{ has = \"up\", value = \"1\" }", findings) {
        table.refuse_unknown(&title, MEANING, findings);
        let Some(value) = table.get("value", findings, plain) else {
            if !table.has("value") {
                findings.absence(table.key, "a meaning has no `value`", "such as { has = \"Drn\", value = \"1\" }");
            }
            continue;
        };
        meanings.push(Meaning { has: table.get("has", findings, text).unwrap_or_default(), value });
    }
    meanings
}

/// Whether this is said anywhere in the request.
fn names(request: &Request, word: &str) -> bool {
    match request {
        Request::Send { text, .. } => text.contains(word),
        Request::Bytes { .. } => false,
        Request::Http { path, headers, body, .. } => {
            path.contains(word) || body.contains(word) || headers.iter().any(|(_, value)| value.contains(word))
        }
    }
}

pub fn text(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "OK")?;
    if written.len() > LONGEST_TEXT {
        return refuse(format!("`{key}` is longer than 16 KiB"), "shorten it");
    }
    Ok(written.to_owned())
}

fn label(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "connections of app")?;
    if written.is_empty() || written.len() > 64 || written.chars().any(char::is_control) {
        return refuse(format!("`{key}` is a few words on one line"), "such as \"connections of app\"");
    }
    Ok(written.to_owned())
}

fn pattern(key: &str, node: &Node) -> Read<String> {
    let written = text(key, node)?;
    if written.matches(VALUE).count() != 1 {
        let help = "such as \"limit: {value}\"; {*} stands for anything, up to what follows it";
        return refuse(format!("`{key}` says once, as {{value}}, where the value stands"), help);
    }
    Ok(written)
}

fn pointer(key: &str, node: &Node) -> Read<String> {
    let written = text(key, node)?;
    if !written.starts_with('/') {
        return refuse(format!("`{key}` is a pointer into JSON (RFC 6901)"), "such as \"/limits/0/value\"");
    }
    Ok(written)
}

fn to(key: &str, node: &Node) -> Read<String> {
    let written = text(key, node)?;
    let bare = [SHARE, KEPT, SHED, BYTES].iter().fold(written.clone(), |text, name| text.replace(name, "1"));
    if written.is_empty() || !is_plain(&bare) {
        let help = "{share} of the value before, {kept} or {shed} percent, {bytes}, or always the same, such as \"1\"";
        return refuse(format!("`{}` is not a value to set", printable(&written)), help);
    }
    Ok(written)
}

fn plain(key: &str, node: &Node) -> Read<String> {
    let written = text(key, node)?;
    if !is_plain(&written) {
        return refuse(format!("`{}` is not a plain value", printable(&written)), "letters, digits and . _ : / - only");
    }
    Ok(written)
}
