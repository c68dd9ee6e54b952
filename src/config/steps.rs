//! The ladder of a rule: `{ throttle = "edge", to = "50%", settle = "3s" }`. A step names one control, or all that can do
//! it: `"*"`, or `"haproxy.*"` for those of one kind; so the built-in rules use whatever is configured.

use std::sync::Arc;
use std::time::Duration;

use super::controls::Declared;
use super::strength::{self, Strength, at};
use crate::control::target::{self, Target, described};
use crate::document::node::{Node, Table, Value};
use crate::document::origin::{Place, printable};
use crate::document::section::{Fault, Read, proposal, refuse};
use crate::document::value;
use crate::policy::mitigation::{Mitigation, Verb};
use crate::policy::nearest::nearest;
use crate::policy::rule::{Asked, Step};

/// Besides the verbs.
pub const ARGUMENTS: [&str; 3] = ["to", "share", "settle"];

const SETTLE: Duration = Duration::from_secs(5);
const SHORTEST_SETTLE: Duration = Duration::from_millis(10);
const LONGEST_SETTLE: Duration = Duration::from_secs(3600);

/// A step with its place, for warnings that come later.
pub type Placed = (Step, Place);

/// One step as written: as many as there are controls that it names.
pub fn read(node: &Node, controls: &[Declared]) -> Read<Vec<Placed>> {
    let Value::Table(table) = &node.value else {
        let message = format!("a step is a table, not {}", node.value.described());
        return refuse(message, "such as { throttle = \"edge\", to = \"50%\" }");
    };
    let mut faults = unknown_keys(table);
    let verb = verb(table).map_err(|found| faults.extend(found)).ok();
    let settle = keep(&mut faults, settle(verb, table));
    let strength = verb.and_then(|verb| {
        let read = if is_all_or_nothing(verb, table, controls) {
            strength::whole(verb, table)
        } else {
            strength::read(verb, table)
        };
        keep(&mut faults, read)
    });
    let named = verb.and_then(|verb| keep(&mut faults, named(verb, table, controls)));
    match (verb, settle, strength, named) {
        (Some(verb), Some(settle), Some(Strength { amount, range }), Some(Named { names, asked }))
            if faults.is_empty() =>
        {
            let mitigation = |control| Mitigation { control, verb, amount };
            let step = |control| Step { range, asked, ..Step::new(mitigation(control), settle) };
            Ok(names.into_iter().map(|control| (step(control), node.place.clone())).collect())
        }
        _ => Err(faults),
    }
}

fn keep<T>(faults: &mut Vec<Fault>, read: Read<T>) -> Option<T> {
    read.map_err(|found| faults.extend(found)).ok()
}

fn verb_named(name: &str) -> Option<Verb> {
    Verb::ALL.into_iter().find(|verb| verb.name() == name)
}

fn unknown_keys(table: &Table) -> Vec<Fault> {
    let known: Vec<&'static str> = Verb::ALL.map(Verb::name).into_iter().chain(ARGUMENTS).collect();
    let unknown = table.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    let fault = |key: &str| Fault::new(format!("unknown key `{}` in a step", printable(key)), proposal(key, &known));
    unknown.map(|(key, entry)| fault(key).at(&entry.key)).collect()
}

fn verb(table: &Table) -> Read<Verb> {
    let mut verbs = table.iter().filter_map(|(key, entry)| Some((verb_named(key)?, entry)));
    match (verbs.next(), verbs.next()) {
        (Some((verb, _)), None) => Ok(verb),
        (Some((first, _)), Some((second, entry))) => {
            let message = format!("a step does one thing: `{first}` or `{second}`");
            Err(vec![Fault::new(message, "make it two steps, the gentler one first").at(&entry.key)])
        }
        (None, _) if unknown_keys(table).is_empty() => {
            refuse("this step says nothing to do", "such as { throttle = \"edge\", to = \"50%\" }")
        }
        // A misspelt verb is complained about as an unknown key.
        (None, _) => Err(Vec::new()),
    }
}

/// Nothing waits for what somebody is told, unless it is to be waited for.
fn settle(verb: Option<Verb>, table: &Table) -> Read<Duration> {
    let usual = if verb == Some(Verb::Notify) { Duration::ZERO } else { SETTLE };
    let Some(entry) = table.get("settle") else { return Ok(usual) };
    value::duration("settle", &entry.node, SHORTEST_SETTLE..=LONGEST_SETTLE).map_err(|found| at(found, &entry.node))
}

/// Whether what this names knows no share for this verb: it does it wholly or not.
fn is_all_or_nothing(verb: Verb, table: &Table, controls: &[Declared]) -> bool {
    let Some(Value::Text(name)) = table.get(verb.name()).map(|entry| &entry.node.value) else { return false };
    let named = |declared: &&Declared| match name.strip_suffix(".*") {
        Some(kind) => declared.target.as_ref().is_some_and(|target| target.kind() == kind),
        None => *declared.name == **name,
    };
    let mut targets = controls.iter().filter(named).filter_map(|declared| declared.target.as_ref()).peekable();
    targets.peek().is_some() && targets.all(|target| target.place().is_all_or_nothing(verb))
}

/// The controls that a step acts on, in name order.
struct Named {
    names: Vec<Arc<str>>,
    asked: Asked,
}

fn named(verb: Verb, table: &Table, controls: &[Declared]) -> Read<Named> {
    let Some(entry) = table.get(verb.name()) else { return Ok(Named { names: Vec::new(), asked: Asked::ByName }) };
    one_or_all(verb, &entry.node, controls).map_err(|found| at(found, &entry.node))
}

fn one_or_all(verb: Verb, node: &Node, controls: &[Declared]) -> Read<Named> {
    let name = value::text(verb.name(), node, "edge")?;
    let wanted_kind = match name {
        "*" => None,
        pattern if pattern.ends_with(".*") => {
            let kind = &pattern[..pattern.len() - 2];
            if described(kind).is_none() {
                return refuse(
                    format!("unknown kind of control `{}`", printable(kind)),
                    proposal(kind, &target::names()),
                );
            }
            Some(kind)
        }
        name => return one(verb, name, controls).map(|name| Named { names: vec![name], asked: Asked::ByName }),
    };
    let fits = |target: &Target| {
        wanted_kind.is_none_or(|kind| target.kind() == kind)
            && can(target, verb).is_ok()
            && !target.place().is_undeclared(verb)
            // What knows no share is not meant by a step for all that throttle by one.
            && !(wanted_kind.is_none() && target.place().is_all_or_nothing(verb))
    };
    let able = |declared: &&Declared| declared.target.as_ref().is_some_and(fits);
    let names = controls.iter().filter(able).map(|declared| Arc::clone(&declared.name)).collect();
    Ok(Named { names, asked: Asked::ByLadder })
}

fn one(verb: Verb, name: &str, controls: &[Declared]) -> Read<Arc<str>> {
    let shown = printable(name);
    let Some(declared) = controls.iter().find(|declared| &*declared.name == name) else {
        let help = if controls.is_empty() {
            format!("no control is configured: add [control.haproxy.{shown}]")
        } else {
            let names = controls.iter().map(|declared| &*declared.name);
            match nearest(name, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("configured: {}", names.collect::<Vec<_>>().join(", ")),
            }
        };
        return refuse(format!("no control is named `{shown}`"), help);
    };
    match declared.target.as_ref().map(|target| can(target, verb)) {
        None | Some(Ok(())) => Ok(Arc::clone(&declared.name)),
        Some(Err(fault)) => Err(vec![fault]),
    }
}

/// Whether a control of this kind can do it at all.
fn can(target: &Target, verb: Verb) -> Result<(), Fault> {
    if target.verbs().contains(&verb) {
        return Ok(());
    }
    let verbs: Vec<&str> = target.verbs().iter().map(|verb| verb.name()).collect();
    let message = format!("a control of kind {} cannot `{verb}`", target.kind());
    Err(Fault::new(message, format!("it can {}", verbs.join(", "))))
}
