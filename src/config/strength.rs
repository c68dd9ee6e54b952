//! How strongly a step acts: `to = "50%"`, `share = "25%"`, `to = "512MiB"`, or between two, `to = "90%..20%"`, by how far
//! beyond its threshold the rule's metric is.

use crate::document::node::{Entry, Node, Table, Value};
use crate::document::origin::{Place, printable};
use crate::document::section::{Fault, Read, refuse};
use crate::document::value;
use crate::policy::mitigation::{Amount, Verb};
use crate::policy::range::Range;
use crate::policy::unit::{Quantity, Suffix};

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Strength {
    /// Where there is a range, its gentle end.
    pub amount: Amount,
    pub range: Option<Range>,
}

impl Strength {
    const WHOLE: Strength = Strength { amount: Amount::Whole, range: None };
    /// What remains of what is pruned where a step does not say.
    const HALF: Strength = Strength { amount: Amount::Keep(50.0), range: None };
}

/// Of what knows no share for this verb.
pub fn whole(verb: Verb, table: &Table) -> Read<Strength> {
    let mut faults = Vec::new();
    if let Some(entry) = table.get("share") {
        faults.push(Fault::new(format!("`{verb}` takes no `share`"), "remove it").at(&entry.key));
    }
    if let Some(entry) = table.get("to") {
        let read = match written_range(entry) {
            Some(_) => Ok(None),
            None => value::quantity("to", &entry.node, "0%").map(Some),
        };
        match read {
            Ok(Some(Quantity { value: 0.0, suffix: Suffix::Percent })) => {}
            Ok(_) => {
                let message = format!("this control can only {verb} fully, not to a share");
                let help = "write to = \"0%\", or throttle the service in front of it";
                faults.push(Fault::new(message, help).at(&entry.node.place));
            }
            Err(found) => faults.extend(at(found, &entry.node)),
        }
    }
    if faults.is_empty() { Ok(Strength::WHOLE) } else { Err(faults) }
}

pub fn read(verb: Verb, table: &Table) -> Read<Strength> {
    let (argument, example) = match verb {
        Verb::Throttle | Verb::Prune => ("to", "to = \"50%\""),
        Verb::Shrink => ("to", "to = \"512MiB\""),
        Verb::Shed => ("share", "share = \"25%\""),
        Verb::Notify | Verb::Release | Verb::Freeze | Verb::Drain | Verb::Flush | Verb::Terminate => ("", ""),
    };
    let mut faults: Vec<Fault> = Vec::new();
    for other in ["to", "share"].into_iter().filter(|other| *other != argument) {
        if let Some(entry) = table.get(other) {
            let help = if argument.is_empty() { "remove it".to_owned() } else { format!("it takes {example}") };
            faults.push(Fault::new(format!("`{verb}` takes no `{other}`"), help).at(&entry.key));
        }
    }
    if argument.is_empty() {
        return if faults.is_empty() { Ok(Strength::WHOLE) } else { Err(faults) };
    }
    let Some(entry) = table.get(argument) else {
        if verb == Verb::Prune {
            return if faults.is_empty() { Ok(Strength::HALF) } else { Err(faults) };
        }
        faults.push(Fault::new(format!("`{verb}` needs `{argument}`"), format!("add {example}")));
        return Err(faults);
    };
    let read = match written_range(entry) {
        Some((text, ends)) => between(verb, argument, entry, text, ends),
        None => fixed(verb, argument, &entry.node).map(|amount| Strength { amount, range: None }),
    };
    match read {
        Ok(strength) if faults.is_empty() => Ok(strength),
        Ok(_) => Err(faults),
        Err(found) => {
            faults.extend(at(found, &entry.node));
            Err(faults)
        }
    }
}

pub(super) fn at(faults: Vec<Fault>, node: &Node) -> Vec<Fault> {
    faults.into_iter().map(|fault| fault.at(&node.place)).collect()
}

fn fixed(verb: Verb, argument: &str, node: &Node) -> Read<Amount> {
    match verb {
        Verb::Shed => value::percent(argument, node).map(|share| Amount::Keep(100.0 - share)),
        Verb::Shrink | Verb::Prune => size(argument, node),
        Verb::Notify | Verb::Release | Verb::Throttle | Verb::Freeze | Verb::Drain | Verb::Flush | Verb::Terminate => {
            value::percent(argument, node).map(Amount::Keep)
        }
    }
}

/// `90%..20%`
fn written_range(entry: &Entry) -> Option<(&str, (&str, &str))> {
    let Value::Text(text) = &entry.node.value else { return None };
    Some((text, text.split_once("..")?))
}

fn between(verb: Verb, argument: &str, entry: &Entry, text: &str, (first, last): (&str, &str)) -> Read<Strength> {
    let example = if verb == Verb::Shed { "share = \"10%..75%\"" } else { "to = \"90%..20%\"" };
    if matches!(verb, Verb::Shrink | Verb::Prune) {
        return refuse(format!("`{verb}` takes one size, not a range"), "such as \"512MiB\" or \"60%\"");
    }
    if first.trim().is_empty() || last.trim().is_empty() {
        return refuse(format!("`{}` is only one end of a range", printable(text)), format!("such as {example}"));
    }
    let end = |text: &str| {
        let place: Place = entry.node.place.clone();
        value::percent(argument, &Node::new(Value::Text(text.trim().to_owned()), place))
    };
    let (first, last) = (end(first)?, end(last)?);
    let kept = |percent: f64| if verb == Verb::Shed { 100.0 - percent } else { percent };
    match Range::new(kept(first), kept(last)) {
        Some(range) => Ok(Strength { amount: Amount::Keep(range.gentle()), range: Some(range) }),
        None => {
            let message = format!("`{}` begins with its harsher end", printable(text));
            refuse(message, format!("write the strength at the threshold first, such as {example}"))
        }
    }
}

fn size(key: &str, node: &Node) -> Read<Amount> {
    match value::quantity(key, node, "512MiB")? {
        Quantity { value, suffix: Suffix::Bytes } if value >= 1.0 && value < u64::MAX as f64 => {
            Ok(Amount::Bytes(value as u64))
        }
        Quantity { suffix: Suffix::Percent, .. } => value::percent(key, node).map(Amount::Keep),
        _ => refuse(format!("`{key}` is a size or a percentage here"), "such as \"512MiB\" or \"60%\""),
    }
}
