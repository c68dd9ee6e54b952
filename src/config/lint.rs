//! What is allowed and will surprise: rules that can never fire or never clear, conditions that contradict each other,
//! steps that the level forbids. Warnings only; and only where it is certain.

use super::controls::Declared;
use super::here::Here;
use super::source::{BUILT_IN_ORIGIN, BUILT_IN_RULES};
use super::steps::Placed;
use crate::control::place::Undeclared;
use crate::document::origin::Place;
use crate::document::section::{Findings, Section};
use crate::document::value;
use crate::policy::condition::{Comparison, Expression, Function, Operand};
use crate::policy::metric::{Family, Metric};
use crate::policy::mitigation::Level;
use crate::policy::rule::Rule;
use crate::policy::unit::Unit;

/// Combinations of values that are tried at most; more operands than fit are not judged.
const MOST_TRIED: usize = 20_000;

pub fn rule(rule: &Rule, section: Section<'_>, here: &Here, findings: &mut Findings<'_>) {
    let when_place = section.place("when");
    grows_only(&rule.when.expression, when_place, findings);
    instances(&rule.when.expression, when_place, here, findings);
    let possible = |expression: &Expression| possible(expression, here);
    match possible(&rule.when.expression) {
        Some((false, _)) => {
            findings.warning(when_place, "this can never hold: the rule never fires", "check the values")
        }
        Some((true, false)) => {
            let message = match rule.clear {
                None => "this always holds: the rule fires and never clears",
                Some(_) => "this always holds: the rule fires at the first sample, and again after each clear",
            };
            findings.warning(when_place, message, "check the values");
        }
        Some((true, true)) | None => {}
    }
    let Some(clear) = &rule.clear else { return };
    if possible(&clear.expression).is_some_and(|(holds, _)| !holds) {
        let message = "this can never hold: once fired, the rule never clears";
        findings.warning(section.place("clear"), message, "check the values, or leave `clear` out");
    } else if overlap(&rule.when.expression, &clear.expression) {
        overlapping(&clear.text, section, findings);
    }
}

/// All rules: that there is one.
pub fn rules(rules: &[Rule], root: Section<'_>, findings: &mut Findings<'_>) {
    let built_in = root.get(BUILT_IN_RULES, findings, value::boolean);
    if rules.is_empty() && built_in == Some(false) {
        let message = "no rule is left: node-guardian watches and does nothing";
        findings.warning(root.place(BUILT_IN_RULES), message, "write rules of your own, or leave this out");
    }
}

fn overlapping(clear: &str, section: Section<'_>, findings: &mut Findings<'_>) {
    let place = section.place("clear");
    if place.origin == BUILT_IN_ORIGIN {
        let message = format!("this and the built-in `clear = \"{clear}\"` can hold at once: the rule would flap");
        return findings.warning(section.place("when"), message, "set `clear` too");
    }
    let message = "`when` and `clear` can hold at once: the rule would flap";
    findings.warning(place, message, "move `clear` further away from `when`, or leave it out");
}

/// A counter since boot never falls, so a rule on it would stay for ever.
fn grows_only(expression: &Expression, place: &Place, findings: &mut Findings<'_>) {
    let mut comparisons = Vec::new();
    collect(expression, &mut comparisons);
    for comparison in comparisons {
        let operand = &comparison.operand;
        if operand.metric == Metric::MemoryOomKills && operand.function != Some(Function::Rate) {
            let message = format!("`{operand}` only ever grows: the rule would never clear");
            findings.warning(place, message, format!("use rate({}) > 0/s", operand.metric.name()));
        }
    }
}

/// Steps for all controls of a kind, where there are none.
pub fn idle(places: &[Place], findings: &mut Findings<'_>) {
    for place in places.iter().filter(|place| place.origin != BUILT_IN_ORIGIN) {
        let message = "no control that is configured can do this: the step does nothing";
        findings.warning(place, message, "configure such a control, or remove the step");
    }
}

/// Instances that this node does not have, or that are never watched.
fn instances(expression: &Expression, place: &Place, here: &Here, findings: &mut Findings<'_>) {
    let mut comparisons = Vec::new();
    collect(expression, &mut comparisons);
    for comparison in comparisons {
        if let Some((why, help)) = here.lacks(&comparison.operand) {
            findings.warning(place, why, help);
        }
    }
}

/// Steps that the level will skip. An operator who allows no change at all knows what that means.
pub fn ladder(ladder: &[Placed], level: Level, findings: &mut Findings<'_>) {
    if level < Level::Standard {
        return;
    }
    for (step, place) in ladder.iter().filter(|(_, place)| place.origin != BUILT_IN_ORIGIN) {
        let class = step.class;
        if !level.allows(class) {
            let message = format!("level {level} never allows `{}`: this step is skipped", step.mitigation.verb);
            findings.warning(
                place,
                message,
                format!("set level = \"{}\", or remove the step", Level::needed_for(class)),
            );
        }
    }
}

/// Steps that their control will refuse, as it is declared.
pub fn declarations(ladder: &[Placed], controls: &[Declared], findings: &mut Findings<'_>) {
    for (step, place) in ladder {
        let on = |declared: &&Declared| declared.name == step.mitigation.control;
        let Some(target) = controls.iter().find(on).and_then(|declared| declared.target.as_ref()) else { continue };
        if let Some(Undeclared { what, help }) = target.place().undeclared(step.mitigation.verb) {
            findings.warning(place, format!("{what}, so this step is refused"), help);
        }
    }
}

/// Numbers of applications that no control asks for: the rule would stay blind.
pub fn numbers(rule: &Rule, controls: &[Declared], place: &Place, findings: &mut Findings<'_>) {
    let mut comparisons = Vec::new();
    collect(&rule.when.expression, &mut comparisons);
    let operands = comparisons.iter().map(|comparison| &comparison.operand);
    for operand in operands.filter(|operand| operand.metric.family() == Family::App) {
        let name = operand.selector.as_deref().and_then(|selector| selector.split('.').next()).unwrap_or_default();
        let is_app = |declared: &&Declared| declared.target.as_ref().is_none_or(|target| target.kind() == "app");
        if !controls.iter().filter(is_app).any(|declared| *declared.name == *name) {
            let message = format!("no application reports `{operand}`: there is no [control.app.{name}]");
            findings.warning(place, message, "add that control, or correct its name");
        }
    }
}

fn collect<'e>(expression: &'e Expression, into: &mut Vec<&'e Comparison>) {
    match expression {
        Expression::Compare(comparison) => into.push(comparison),
        Expression::Not(inner) => collect(inner, into),
        Expression::And(left, right) | Expression::Or(left, right) => {
            collect(left, into);
            collect(right, into);
        }
    }
}

/// Whether the expression can hold, and whether it can fail. `None` where that takes too long to find out.
fn possible(expression: &Expression, here: &Here) -> Option<(bool, bool)> {
    let mut comparisons = Vec::new();
    collect(expression, &mut comparisons);
    let (mut holds, mut fails) = (false, false);
    each_case(&comparisons, here, |values| {
        let truth = value_of(expression, values);
        holds |= truth;
        fails |= !truth;
        holds && fails
    })?;
    Some((holds, fails))
}

/// Whether both can hold at once. Only where `clear` asks about nothing but what `when` asks about too: how an average
/// moves against its metric, nobody can tell from here.
fn overlap(when: &Expression, clear: &Expression) -> bool {
    let (mut asked, mut comparisons) = (Vec::new(), Vec::new());
    collect(when, &mut asked);
    collect(clear, &mut comparisons);
    if !comparisons.iter().all(|comparison| asked.iter().any(|when| when.operand == comparison.operand)) {
        return false;
    }
    comparisons.extend(asked);
    let mut both = false;
    let judged = each_case(&comparisons, &Here::default(), |values| {
        both = value_of(when, values) && value_of(clear, values);
        both
    });
    judged.is_some() && both
}

type Values<'e> = [(&'e Operand, f64)];

fn value_of(expression: &Expression, values: &Values<'_>) -> bool {
    match expression {
        Expression::Compare(Comparison { operand, relation, threshold }) => {
            let value = values.iter().find(|(known, _)| *known == operand).map_or(f64::NAN, |(_, value)| *value);
            relation.holds(value, *threshold)
        }
        Expression::Not(inner) => !value_of(inner, values),
        Expression::And(left, right) => value_of(left, values) && value_of(right, values),
        Expression::Or(left, right) => value_of(left, values) || value_of(right, values),
    }
}

/// Tries one value for each interval between the thresholds of each operand, in all combinations, until `stop`.
fn each_case<'e>(comparisons: &[&'e Comparison], here: &Here, mut stop: impl FnMut(&Values<'e>) -> bool) -> Option<()> {
    let mut operands: Vec<(&Operand, Vec<f64>)> = Vec::new();
    for comparison in comparisons {
        match operands.iter_mut().find(|(operand, _)| **operand == comparison.operand) {
            Some((_, thresholds)) => thresholds.push(comparison.threshold),
            None => operands.push((&comparison.operand, vec![comparison.threshold])),
        }
    }
    let cases: Vec<(&Operand, Vec<f64>)> =
        operands.into_iter().map(|(operand, thresholds)| (operand, candidates(operand, here, thresholds))).collect();
    let total = cases.iter().try_fold(1usize, |total, (_, values)| total.checked_mul(values.len()))?;
    if total > MOST_TRIED {
        return None;
    }
    let mut values: Vec<(&Operand, f64)> = cases.iter().map(|(operand, _)| (*operand, 0.0)).collect();
    for case in 0..total {
        let mut rest = case;
        for ((_, value), (_, candidates)) in values.iter_mut().zip(&cases) {
            *value = candidates.get(rest % candidates.len()).copied().unwrap_or(f64::NAN);
            rest /= candidates.len();
        }
        if stop(&values) {
            return Some(());
        }
    }
    Some(())
}

/// The thresholds, a value between each two, and one beyond them on each side where the metric can go there.
fn candidates(operand: &Operand, here: &Here, mut thresholds: Vec<f64>) -> Vec<f64> {
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    if operand.unit() == Unit::Flag {
        return vec![0.0, 1.0];
    }
    let least = if operand.function == Some(Function::Rate) { f64::NEG_INFINITY } else { 0.0 };
    let most = if operand.unit() == Unit::Percent { 100.0 } else { here.most(operand).unwrap_or(f64::INFINITY) };
    let low = thresholds.first().map_or(0.0, |first| (first - 1.0).max(least));
    let high = thresholds.last().map_or(0.0, |last| (last * 2.0 + 1.0).max(1.0).min(most));
    let between = thresholds.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
    let mut values: Vec<f64> = between.chain([low, high]).collect();
    values.extend(thresholds);
    // What lies beyond the end of the scale is no value: `memory.available_bytes < 1TiB` always holds on a node with less.
    values.iter_mut().for_each(|value| *value = value.min(most));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition::parse;

    fn expression(text: &str) -> Expression {
        parse(text).unwrap().expression
    }

    #[test]
    fn what_can_never_hold_or_always_holds_is_known() {
        let possible = |text| possible(&expression(text), &Here::default());
        assert_eq!(possible("cpu.used_percent > 90%"), Some((true, true)));
        assert_eq!(possible("cpu.used_percent > 100%"), Some((false, true)));
        assert_eq!(possible("cpu.used_percent >= 0%"), Some((true, false)));
        assert_eq!(possible("threads > 5 and threads < 3"), Some((false, true)));
        assert_eq!(possible("rate(threads) < 0/s"), Some((true, true)));
        assert_eq!(possible("memory.available_bytes < 1TiB"), Some((true, true)));
        assert_eq!(possible("disk.read_only == true or disk.read_only == false"), Some((true, false)));
    }

    #[test]
    fn an_overlap_needs_the_same_operands() {
        let overlap = |when, clear| overlap(&expression(when), &expression(clear));
        assert!(overlap("memory.used_percent > 75%", "memory.used_percent < 85%"));
        assert!(!overlap("memory.used_percent > 75%", "memory.used_percent < 70%"));
        assert!(overlap("memory.used_percent > 75% or threads > 5", "memory.used_percent < 70%"));
        assert!(!overlap("memory.used_percent > 75% or threads > 5", "memory.used_percent < 70% and threads < 4"));
        assert!(!overlap("avg(cpu.used_percent, 30s) > 90%", "cpu.used_percent < 95%"));
    }

    #[test]
    fn many_operands_are_given_up_on_and_not_guessed_at() {
        let many: Vec<String> = Metric::ALL
            .iter()
            .filter(|metric| metric.unit() == Unit::Percent && metric.family() != Family::App)
            .map(|metric| format!("{} > 50%", metric.name()))
            .collect();
        assert_eq!(possible(&expression(&many.join(" and ")), &Here::default()), None);
    }
}
