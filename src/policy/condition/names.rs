//! Names that a condition may use, and what to answer to one that it may not.

use super::Mistake;
use crate::policy::family::Selector;
use crate::policy::metric::{Family, Metric};
use crate::policy::nearest::nearest;
use std::ops::Range;

/// The functions in the order in which a complaint lists them.
pub(super) const FUNCTIONS: [&str; 6] = ["avg", "max", "min", "p95", "rate", "time_to"];

/// Words that other tools use for ours.
const SYNONYMS: [(&str, &str); 7] = [
    ("free", "available"),
    ("usage", "used"),
    ("utilization", "used"),
    ("iops", "busy"),
    ("rx", "receive"),
    ("tx", "transmit"),
    ("mem", "memory"),
];

/// Families of metrics that are announced and not here yet.
const LATER: [&str; 1] = ["cgroup"];

pub(super) fn unknown_metric(name: &str, span: Range<usize>) -> Mistake {
    let family = name.split('.').next().unwrap_or(name);
    if LATER.contains(&family) {
        let message = format!("metrics of `{family}` are not in this version");
        return Mistake { span, message, help: Some("`node-guardian metrics` lists those that are".to_owned()) };
    }
    if family == Family::App.prefix() {
        let message = format!("`{name}` does not say whose number it is");
        return Mistake { span, message, help: Some("name the control: app[\"api\"].inflight".to_owned()) };
    }
    let help = match nearest_metric(name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`node-guardian metrics` lists them all".to_owned(),
    };
    Mistake { span, message: format!("unknown metric `{name}`"), help: Some(help) }
}

fn nearest_metric(name: &str) -> Option<&'static str> {
    let named = |metric: &&Metric| metric.family() != Family::App;
    let names = || Metric::ALL.iter().filter(named).map(|metric| metric.name());
    nearest(&translated(name), names()).or_else(|| nearest(name, names()))
}

/// Each part of the name in our own words, where somebody else's was used.
fn translated(name: &str) -> String {
    name.split('.').map(translated_part).collect::<Vec<_>>().join(".")
}

fn translated_part(part: &str) -> String {
    let word =
        |word: &str| SYNONYMS.iter().find(|(theirs, _)| *theirs == word).map_or(word.to_owned(), |(_, o)| (*o).into());
    part.split('_').map(word).collect::<Vec<_>>().join("_")
}

pub(super) fn unknown_function(name: &str, span: Range<usize>) -> Mistake {
    if matches!(name, "anomaly" | "drift") {
        let message = format!("`{name}(…)` is not in this version: it needs a learned baseline");
        let help = "compare with a fixed value, or use rate(…) or time_to(…)".to_owned();
        return Mistake { span, message, help: Some(help) };
    }
    let help = match nearest(name, FUNCTIONS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the functions are {}", FUNCTIONS.join(", ")),
    };
    Mistake { span, message: format!("unknown function `{name}`"), help: Some(help) }
}

/// The selector as a sample names its instances, or why it cannot be one.
pub(super) fn selector(metric: Metric, selector: &str, span: Range<usize>) -> Result<String, Mistake> {
    let refuse = |message: String, help: &str| Err(Mistake { span, message, help: Some(help.to_owned()) });
    let family = metric.family();
    match family.selector() {
        Selector::Nothing => {
            let message = format!("`{}` is one number for the whole node: it takes no selector", metric.name());
            refuse(message, &format!("write `{}`", metric.name()))
        }
        Selector::Path if !selector.starts_with('/') => {
            refuse(format!("`{selector}` is not a mount point"), "mount points are absolute, such as disk[\"/var\"]")
        }
        Selector::Name if selector.is_empty() => {
            let (prefix, example) = (family.prefix(), family.example());
            let help = format!("name one, such as {prefix}[\"{example}\"]");
            refuse(format!("an empty {} name", family.instance().unwrap_or_default()), &help)
        }
        Selector::Port => match selector.parse::<u16>() {
            Ok(port) if port > 0 => Ok(port.to_string()),
            _ => refuse(format!("`{selector}` is not a TCP port"), "ports go from 1 to 65535: connections[443]"),
        },
        Selector::Path | Selector::Name | Selector::Reported => Ok(selector.to_owned()),
    }
}

/// A number of an application's, and as which instance a sample has it; or why there cannot be one.
pub(super) fn number(control: &str, number: &str, span: Range<usize>) -> Result<(Metric, String), Mistake> {
    let is_control = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_number = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = number.chars().next().is_some_and(|c| c.is_ascii_lowercase());
    if control.is_empty() || !control.chars().all(is_control) {
        let message = format!("`{control}` cannot be the name of a control");
        return Err(Mistake { span, message, help: Some("such as app[\"api\"].inflight".to_owned()) });
    }
    if !begins || number.len() > 64 || !number.chars().all(is_number) {
        let message = format!("`{number}` cannot be the name of a number");
        let help = "names are a-z 0-9 _ and begin with a letter, such as app[\"api\"].inflight".to_owned();
        return Err(Mistake { span, message, help: Some(help) });
    }
    Ok((Metric::of_app(number), format!("{control}.{number}")))
}
