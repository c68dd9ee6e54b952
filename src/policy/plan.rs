//! A policy made ready to run: every condition compiled against shared slots, so that a tick compares numbers and
//! nothing else. Fixed until the next reload.

use std::sync::Arc;
use std::time::Duration;

use super::condition::{Comparison, Expression, Function, Operand};
use super::life::Patience;
use super::mitigation::{Knob, Mitigation};
use super::program::{Program, Stack};
use super::proportion::Measure;
use super::reading::Reading;
use super::rule::{Policy, Rule};
use super::troubles::Spots;
use super::verdict::Verdict;

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub policy: Policy,
    /// In the order of `policy.rules`.
    programs: Vec<Programs>,
    operands: Vec<Arc<Operand>>,
    /// Of each operand, the longest time in which the effect of a step is measured by it.
    watched: Vec<Option<Duration>>,
    /// Where each rule's steps begin in the flat list of all steps.
    first_steps: Vec<usize>,
    steps: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub when: Program,
    /// `None`: the rule clears when `when` is false.
    pub clear: Option<Program>,
    pub patience: Patience,
    /// What tells how far beyond its threshold the rule is; none where no step asks for it.
    pub measures: Vec<Measure>,
    /// Which ports the rule is about.
    pub spots: Spots,
}

impl Programs {
    /// Whether the rule would clear now, when it reads `when` so: what is unknown never does.
    #[must_use]
    pub(crate) fn is_clear(&self, when: Verdict, readings: &[Reading], stack: &mut Stack) -> Verdict {
        // What cannot be here is waited for by nobody.
        let clear = self.clear.as_ref().map(|clear| clear.evaluate(readings, stack).unwrap_or(Verdict::True));
        match (when, clear) {
            (Verdict::True, _) => Verdict::False,
            (Verdict::Unknown, _) => Verdict::Unknown,
            (Verdict::False, clear) => clear.unwrap_or(Verdict::True),
        }
    }
}

/// Rates are missing on the first tick, and a hung file system for a few: that is not blindness.
const PATIENCE: Duration = Duration::from_secs(10);

impl Plan {
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let mut plan = Self { policy, ..Self::default() };
        for rule in &plan.policy.rules {
            let mut slot_of = |comparison: &Comparison| slot(&mut plan.operands, &comparison.operand);
            let when = Program::compile(&rule.when.expression, &mut slot_of);
            let clear = rule.clear.as_ref().map(|clear| Program::compile(&clear.expression, &mut slot_of));
            let measures = match rule.steps.iter().any(|step| step.range.is_some()) {
                true => Measure::all(&rule.when.expression, &mut slot_of),
                false => Vec::new(),
            };
            let patience = Patience { unknown: PATIENCE + longest_window(rule), spacing: plan.policy.spacing };
            let spots = Spots::of(&rule.when.expression);
            plan.programs.push(Programs { when, clear, patience, measures, spots });
            plan.watched.resize(plan.operands.len(), None);
            if let Some(settle) = rule.steps.iter().map(|step| step.settle).max() {
                watch(&plan.programs, settle, &mut plan.watched);
            }
            plan.first_steps.push(plan.steps);
            plan.steps += rule.steps.len();
        }
        plan
    }

    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.policy.rules
    }

    #[must_use]
    pub(crate) fn programs(&self) -> &[Programs] {
        &self.programs
    }

    #[must_use]
    pub(crate) fn operands(&self) -> &[Arc<Operand>] {
        &self.operands
    }

    #[must_use]
    pub(crate) fn watched(&self) -> &[Option<Duration>] {
        &self.watched
    }

    /// How many steps all rules have together.
    #[must_use]
    pub(crate) const fn step_count(&self) -> usize {
        self.steps
    }

    /// What a mitigation turns: its control's target, where the control is configured.
    #[must_use]
    pub fn knob(&self, mitigation: &Mitigation) -> Knob {
        let known = self.policy.targets.iter().find(|(control, _)| *control == mitigation.control);
        let target = known.map_or(&mitigation.control, |(_, target)| target);
        Knob { target: Arc::clone(target), verb: mitigation.verb }
    }

    /// Its control takes it: the operator has declared what that needs.
    #[must_use]
    pub(crate) fn declares(&self, Mitigation { control, verb, .. }: &Mitigation) -> bool {
        self.policy.undeclared.iter().all(|(known, refused)| known != control || refused != verb)
    }

    #[must_use]
    pub(crate) fn has_knob(&self, rule: &Rule, knob: &Knob) -> bool {
        rule.steps.iter().any(|step| self.knob(&step.mitigation) == *knob)
    }

    /// What identifies the target of this control.
    #[must_use]
    pub(crate) fn target_of(&self, control: &str) -> Arc<str> {
        let known = self.policy.targets.iter().find(|(known, _)| **known == *control);
        known.map_or_else(|| control.into(), |(_, target)| Arc::clone(target))
    }

    /// Of these controls and the targets that they had, from where to where each leads now; not where another control still
    /// leads to what it had.
    pub(crate) fn moved<'a>(
        &self,
        had: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>,
    ) -> Vec<(Arc<str>, Arc<str>)> {
        let targets = &self.policy.targets;
        let is_left = |target: &Arc<str>| targets.iter().all(|(_, known)| known != target);
        let now = |control: &Arc<str>| targets.iter().find(|(known, _)| known == control).map(|(_, target)| target);
        let moved = had.filter_map(|(control, from)| Some((from, now(control).filter(|_| is_left(from))?)));
        moved.map(|(from, to)| (Arc::clone(from), Arc::clone(to))).collect()
    }

    /// The place of a rule's step in the flat list of all steps.
    #[must_use]
    pub(crate) fn flat_step(&self, rule: usize, step: usize) -> usize {
        self.first_steps[rule] + step
    }

    /// The rule and the step within it of a flat step.
    #[must_use]
    pub(crate) fn owner_of(&self, flat: usize) -> (usize, usize) {
        let owns = |rule: &usize| self.first_steps[*rule] <= flat && !self.policy.rules[*rule].steps.is_empty();
        let rule = (0..self.policy.rules.len()).rev().find(owns).unwrap_or_default();
        (rule, flat - self.first_steps[rule])
    }

    #[must_use]
    pub fn rule_named(&self, name: &str) -> Option<usize> {
        self.policy.rules.iter().position(|rule| &*rule.name == name)
    }

    /// The comparisons of a program with what they read, in words: `memory.available_percent 7.1% < 8.0%`.
    #[must_use]
    pub(crate) fn reasons(&self, program: &Program, readings: &[Reading], wanted: Verdict) -> String {
        let mut text = String::new();
        for compare in program.comparisons() {
            if compare.evaluate(readings) != wanted {
                continue;
            }
            if !text.is_empty() {
                text.push_str(", ");
            }
            let operand = &self.operands[compare.slot];
            let value = readings.get(compare.slot).and_then(|reading| reading.known());
            text.push_str(&self.reason(operand, value));
            text.push_str(&format!(" {} {}", compare.relation.symbol(), operand.show(compare.threshold)));
        }
        text
    }

    /// The operands that a program needs and that cannot be read, by name.
    #[must_use]
    pub(crate) fn missing(&self, program: &Program, readings: &[Reading]) -> String {
        let mut names = Vec::new();
        for compare in program
            .comparisons()
            .filter(|compare| compare.evaluate(readings) == Verdict::Unknown && !compare.cannot_be(readings))
        {
            let name = self.operands[compare.slot].to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join(", ")
    }

    fn reason(&self, operand: &Operand, value: Option<f64>) -> String {
        match value {
            Some(value) => format!("{operand} {}", operand.show(value)),
            None => format!("{operand} unknown"),
        }
    }
}

/// Those that the last rule's condition reads.
fn watch(programs: &[Programs], settle: Duration, watched: &mut [Option<Duration>]) {
    for compare in programs.last().into_iter().flat_map(|last| last.when.comparisons()) {
        watched[compare.slot] = watched[compare.slot].max(Some(settle));
    }
}

fn slot(operands: &mut Vec<Arc<Operand>>, operand: &Operand) -> usize {
    operands.iter().position(|known| **known == *operand).unwrap_or_else(|| {
        operands.push(Arc::new(operand.clone()));
        operands.len() - 1
    })
}

fn longest_window(rule: &Rule) -> Duration {
    let clear = rule.clear.iter().map(|clear| window_of(&clear.expression));
    clear.chain([window_of(&rule.when.expression)]).max().unwrap_or_default()
}

fn window_of(expression: &Expression) -> Duration {
    match expression {
        Expression::And(left, right) | Expression::Or(left, right) => window_of(left).max(window_of(right)),
        Expression::Not(inner) => window_of(inner),
        Expression::Compare(comparison) => match comparison.operand.function {
            Some(
                Function::Average(span)
                | Function::Maximum(span)
                | Function::Minimum(span)
                | Function::Percentile95(span),
            ) => span,
            Some(Function::Rate | Function::TimeTo(_)) | None => Duration::ZERO,
        },
    }
}
