//! `[rule.NAME]`: condition, times and ladder, merged key by key over the built-in rule of the same name.

use std::sync::Arc;
use std::time::Duration;

use super::controls::{Declared, check_name};
use super::here::Here;
use super::ladders::{self, Ladder};
use super::lint;
use super::source::BUILT_IN_ORIGIN;
use super::steps::{self, Placed};
use crate::document::node::{Entry, Node, Value};
use crate::document::origin::{Place, printable};
use crate::document::section::{Fault, Findings, Read, Section, proposal, refuse};
use crate::document::value;
use crate::policy::condition::{self, Condition};
use crate::policy::mitigation::Level;
use crate::policy::nearest::nearest;
use crate::policy::proportion::is_measurable;
use crate::policy::rule::{Hint, Resource, Rule, Scale, Severity, Step};

pub const RULE: &[&str] = &[
    "when",
    "for",
    "clear",
    "clear_for",
    "severity",
    "priority",
    "cooldown",
    "steps",
    "ladder",
    "dry_run",
    "enabled",
    "hint",
];

const CLEAR_FOR: Duration = Duration::from_secs(10);
/// Peers act again after 15 to 300 s.
const COOLDOWN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const PRIORITIES: std::ops::RangeInclusive<i32> = -1000..=1000;

/// What a rule is judged against.
pub struct Around<'a> {
    pub controls: &'a [Declared],
    pub level: Level,
    pub here: Here,
}

/// All rules that are enabled: highest priority first, then by name.
pub fn read(root: Section<'_>, around: &Around<'_>, findings: &mut Findings<'_>) -> Vec<Rule> {
    let Some(entry) = root.table.get("rule") else { return Vec::new() };
    let Some(named) = Section::named("[rule]", &entry.key, &entry.node, findings) else { return Vec::new() };
    let built_in: Vec<&str> =
        named.table.iter().filter(|(_, entry)| is_built_in(entry)).map(|(name, _)| &**name).collect();
    let mut rules = Vec::new();
    for (name, entry) in named.table {
        if let Err(message) = check_name(name) {
            findings.error(&entry.key, message, "use letters, digits, - and _");
        }
        rules.extend(rule((name, entry), around, &built_in, findings));
    }
    rules.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
    rules
}

/// Whether some part of the rule came with us.
fn is_built_in(entry: &Entry) -> bool {
    let ours = |entry: &Entry| entry.node.versions().any(|version| version.place.origin == BUILT_IN_ORIGIN);
    match &entry.node.value {
        Value::Table(table) => table.values().any(ours),
        _ => false,
    }
}

fn rule(
    (name, entry): (&str, &Entry),
    around: &Around<'_>,
    built_in: &[&str],
    findings: &mut Findings<'_>,
) -> Option<Rule> {
    let Around { controls, level, here } = around;
    let title = format!("[rule.{}]", printable(name));
    let section = Section::open(&title, &entry.key, &entry.node, RULE, findings)?;
    if !section.has("when") {
        let help = match nearest(name, built_in.iter().copied()) {
            Some(near) => {
                format!("did you mean the built-in rule `{near}`? Otherwise add when = \"cpu.used_percent > 90%\"")
            }
            None if built_in.is_empty() => {
                "the built-in rules are switched off: add a condition, or remove it".to_owned()
            }
            None => "add a condition, such as when = \"cpu.used_percent > 90%\"".to_owned(),
        };
        findings.absence(section.key, format!("{title} has no `when`"), help);
    }
    let enabled = section.get("enabled", findings, value::boolean).unwrap_or(true);
    let when = section.get("when", findings, condition);
    let clear = section.get("clear", findings, condition);
    let own = section.get("steps", findings, |_, node| own_ladder(node, controls)).unwrap_or_default();
    let idle: Vec<Place> = own.iter().filter(|(_, steps)| steps.is_empty()).map(|(place, _)| place.clone()).collect();
    let own: Vec<Placed> = own.into_iter().flat_map(|(_, steps)| steps).collect();
    let built_in_ladder =
        section.get("ladder", findings, |key, node| value::choice(key, node, &Ladder::ALL, Ladder::name));
    let hold_for = section.get("for", findings, time).unwrap_or(Duration::ZERO);
    let clear_for = section.get("clear_for", findings, time).unwrap_or(CLEAR_FOR);
    let severity = section.get("severity", findings, severity).unwrap_or(Severity::Warning);
    let priority = section.get("priority", findings, |key, node| value::integer(key, node, PRIORITIES)).unwrap_or(0);
    let cooldown = section.get("cooldown", findings, time).unwrap_or(COOLDOWN);
    let dry_run = section.get("dry_run", findings, value::boolean).unwrap_or(false);
    let hints = section.get("hint", findings, hints).unwrap_or_default();
    let (ladder, written) = match built_in_ladder.filter(|_| comes_from_ladder(section, findings)) {
        Some(named) => (ladders::expand(named, severity, controls, section.place("ladder")), Written::Named),
        None => (own, Written::StepByStep),
    };
    // Only now, so that the other mistakes of a rule without a condition are found too.
    let when = when?;
    let resource = when.expression.resource();
    let relieving = |(step, _): &Placed| Step { resource: step.resource.or(resource), ..step.clone() };
    let (name, steps) = (Arc::from(name), ladder.iter().map(relieving).collect());
    let rule = Rule { name, when, hold_for, clear, clear_for, severity, priority, cooldown, steps, dry_run, hints };
    if !enabled {
        return None;
    }
    lint::rule(&rule, section, here, findings);
    if !is_measurable(&rule.when.expression) {
        refuse_ranges(&ladder, findings);
    }
    if written == Written::StepByStep {
        lint::idle(&idle, findings);
        lint::ladder(&ladder, *level, findings);
        lint::declarations(&ladder, controls, findings);
    }
    lint::numbers(&rule, controls, section.place("when"), findings);
    Some(rule)
}

/// How a rule says what to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    StepByStep,
    Named,
}

/// Of `steps` and `ladder` the one that was written later counts; in one file they contradict each other.
fn comes_from_ladder(section: Section<'_>, findings: &mut Findings<'_>) -> bool {
    if !section.has("steps") {
        return true;
    }
    let (steps, ladder) = (section.place("steps"), section.place("ladder"));
    if steps.origin == ladder.origin {
        let message = "a rule has `steps` of its own or a built-in `ladder`, not both";
        findings.error(ladder, message, "remove one of them");
    }
    ladder.origin > steps.origin
}

/// Steps whose strength follows a number, in a rule that gives none.
fn refuse_ranges(ladder: &[Placed], findings: &mut Findings<'_>) {
    for (step, place) in ladder.iter().filter(|(step, _)| step.range.is_some()) {
        let message = format!("`when` has no threshold to measure from, so `{step}` cannot scale");
        findings.error(
            place,
            message,
            "compare a metric by < or > with more than 0 in `when`, or write one percentage",
        );
    }
}

fn time(key: &str, node: &Node) -> Read<Duration> {
    value::duration(key, node, Duration::ZERO..=LONGEST)
}

fn severity(key: &str, node: &Node) -> Read<Severity> {
    value::choice(key, node, &Severity::ALL, Severity::name)
}

fn condition(key: &str, node: &Node) -> Read<Condition> {
    let text = value::text(key, node, "cpu.used_percent > 90%")?;
    condition::parse(text).map_err(|mistakes| {
        let fault = |mistake: condition::Mistake| Fault {
            part: Some(mistake.span),
            ..Fault::new(printable(&mistake.message), printable(&mistake.help.unwrap_or_default()))
        };
        mistakes.into_iter().map(fault).collect()
    })
}

/// What is written for each step, and where: several where it names several controls, none where no control fits.
type Line = (Place, Vec<Placed>);

fn own_ladder(node: &Node, controls: &[Declared]) -> Read<Vec<Line>> {
    let read = |step: &Node| Ok((step.place.clone(), steps::read(step, controls)?));
    value::list("steps", node, |_, step| read(step))
}

/// `{ cpu = "down", memory = "up" }`
fn hints(key: &str, node: &Node) -> Read<Vec<Hint>> {
    let Value::Table(table) = &node.value else {
        return refuse(format!("`{key}` is a table, not {}", node.value.described()), "such as { cpu = \"up\" }");
    };
    let read = table.iter().map(|(resource, entry)| hint(resource, entry));
    let (hints, faults) = partition(read);
    if faults.is_empty() { Ok(hints) } else { Err(faults) }
}

fn hint(resource: &str, entry: &Entry) -> Read<Hint> {
    let names = Resource::ALL.map(Resource::name);
    let Some(found) = Resource::ALL.into_iter().find(|known| known.name() == resource) else {
        let message = format!("unknown resource `{}`", printable(resource));
        return Err(vec![Fault::new(message, proposal(resource, &names)).at(&entry.key)]);
    };
    let scale = value::choice("scale hint", &entry.node, &[Scale::Up, Scale::Down], scale_name);
    let scale =
        scale.map_err(|faults| faults.into_iter().map(|fault| fault.at(&entry.node.place)).collect::<Vec<_>>())?;
    Ok(Hint { resource: found, scale })
}

fn scale_name(scale: Scale) -> &'static str {
    match scale {
        Scale::Up => "up",
        Scale::Down => "down",
    }
}

fn partition<T>(read: impl Iterator<Item = Read<T>>) -> (Vec<T>, Vec<Fault>) {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for read in read {
        match read {
            Ok(value) => values.push(value),
            Err(found) => faults.extend(found),
        }
    }
    (values, faults)
}
