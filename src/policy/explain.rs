//! Why a rule does what it does, in words and numbers, from a plan and a view of it.

use std::time::Duration;

use serde::Serialize;

use super::effect::Effect;
use super::event::Skip;
use super::gives::Matters;
use super::mitigation::{Class, Lasting, Level, Outcome};
use super::moment::Moment;
use super::plan::Plan;
use super::program::Program;
use super::reading::Reading;
use super::rule::{Rule, Step};
use super::unit::Unit;
use super::verdict::Verdict;
use super::view::{Phase, RuleView, State, StepView, View};

#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Explanation {
    pub name: String,
    pub severity: &'static str,
    pub priority: i32,
    pub state: &'static str,
    /// Seconds in this state.
    pub state_seconds: f64,
    /// What it waits for: `fires in 0.4s if the condition goes on to hold`, `waits for its clear condition`.
    pub waits_for: String,
    /// Seconds since it is known that none of its steps helps; `null` where one may.
    pub stood_down_seconds: Option<f64>,
    /// Seconds until a ladder that stood down is tried again.
    pub retries_in_seconds: Option<f64>,
    pub when: ConditionExplanation,
    pub clear: ConditionExplanation,
    pub steps: Vec<StepExplanation>,
    pub fired: u64,
    pub dry_run: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct ConditionExplanation {
    pub text: String,
    pub verdict: &'static str,
    pub comparisons: Vec<ComparisonExplanation>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct ComparisonExplanation {
    /// `memory.available_percent < 8.0%`
    pub text: String,
    /// In the base unit; `null` where it could not be read.
    pub value: Option<f64>,
    /// `41.2%`, or `unknown`.
    pub shown: String,
    pub verdict: &'static str,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct StepExplanation {
    /// `throttle edge to 50%`, `throttle edge to 90%..20%`
    pub text: String,
    /// What can be lost by it: `notify`, `lossless`, `reversible`, `lossy`, `destructive`.
    pub class: &'static str,
    /// Taken at once with the next one.
    pub together: bool,
    /// `in_force`, `done`, `failed`, `skipped`, `next`, `waiting`.
    pub state: &'static str,
    /// Why it was skipped, or the last outcome.
    pub detail: String,
    /// Share of the gap that it closed, last time it was judged. `null` where it was not, or where its effect cannot be
    /// told from noise.
    pub effect: Option<f64>,
    /// The same in words, also where it is no number.
    pub effect_text: String,
}

/// One explanation per rule, in the order of the plan. A view of another plan (in the middle of a reload) gives none.
#[must_use]
pub(crate) fn explain(plan: &Plan, view: &View, now: Moment) -> Vec<Explanation> {
    (0..plan.rules().len()).filter_map(|index| explain_rule(plan, view, now, index)).collect()
}

/// `None` where the view is of another plan.
#[must_use]
pub(crate) fn explain_rule(plan: &Plan, view: &View, now: Moment, index: usize) -> Option<Explanation> {
    let fits = view.rules.len() == plan.rules().len() && view.steps.len() == plan.step_count();
    let (rule, life) = (plan.rules().get(index)?, view.rules.get(index).filter(|_| fits)?);
    let programs = &plan.programs()[index];
    let readings: Vec<Reading> = view.slots.iter().map(|value| reading(*value)).collect();
    let when = condition(plan, &rule.when.text, &programs.when, &readings, life.when);
    let clear = match (&rule.clear, &programs.clear) {
        (Some(clear), Some(program)) => condition(plan, &clear.text, program, &readings, life.clear),
        _ => condition(plan, &format!("not ({})", rule.when.text), &programs.when, &readings, life.clear),
    };
    Some(Explanation {
        name: rule.name.to_string(),
        severity: rule.severity.name(),
        priority: rule.priority,
        state: life.state.name(),
        state_seconds: now.since(life.since).as_secs_f64(),
        waits_for: waits_for(rule, life, now),
        stood_down_seconds: life.stood_down.map(|since| now.since(since).as_secs_f64()),
        retries_in_seconds: life.retries_at.map(|at| at.since(now).as_secs_f64()),
        when,
        clear,
        steps: steps(plan, view, now, index),
        fired: life.fired,
        dry_run: rule.dry_run || plan.policy.dry_run,
    })
}

fn reading(value: Option<f64>) -> Reading {
    Reading { value: value.unwrap_or(f64::NAN), incomplete: value.is_none() }
}

fn condition(
    plan: &Plan,
    text: &str,
    program: &Program,
    readings: &[Reading],
    verdict: Verdict,
) -> ConditionExplanation {
    let comparisons = program.comparisons().map(|compare| {
        let operand = &plan.operands()[compare.slot];
        let value = readings.get(compare.slot).and_then(|reading| reading.known());
        ComparisonExplanation {
            text: format!("{operand} {} {}", compare.relation.symbol(), operand.show(compare.threshold)),
            value: value.filter(|value| value.is_finite()),
            shown: value.map_or_else(|| "unknown".to_owned(), |value| shown(operand.unit(), value)),
            verdict: compare.evaluate(readings).name(),
        }
    });
    ConditionExplanation { text: text.to_owned(), verdict: verdict.name(), comparisons: comparisons.collect() }
}

fn shown(unit: Unit, value: f64) -> String {
    if value.is_finite() { unit.show(value).to_string() } else { "no believable trend".to_owned() }
}

fn waits_for(rule: &Rule, life: &RuleView, now: Moment) -> String {
    let left = life.until.map(|until| until.since(now)).map(time);
    match (life.state, left) {
        (State::Quiet, _) => "waits for its condition".to_owned(),
        (State::Pending, Some(left)) => format!("fires in {left} if the condition still holds"),
        (State::Pending, None) => "waits for the condition to go on holding".to_owned(),
        (State::Firing, Some(left)) if life.clear == Verdict::True => {
            format!("clears in {left} if it stays clear")
        }
        (State::Firing, _) if life.unjudged.is_some() => {
            "unknown: waits until its condition can be read again".to_owned()
        }
        (State::Firing, _) if life.stood_down.is_some() => stood_down(life, now),
        (State::Firing, Some(left)) => format!("judges its last step in {left}"),
        (State::Firing, None) if life.taken == rule.steps.len() => "waits for its clear condition".to_owned(),
        (State::Firing, None) => "waits for its clear condition, or its next step".to_owned(),
        (State::Undoing, _) => "waits for its steps to be undone, last first".to_owned(),
        (State::Cooling, Some(left)) if rule.steps.iter().any(|step| step.class >= Class::Lossy) => {
            format!("fires again if its condition holds; lossy and destructive steps wait for another {left}")
        }
        (State::Cooling, _) => "fires again if its condition holds".to_owned(),
        (State::NotApplicable, _) => "not applicable: this node lacks what its condition asks about".to_owned(),
        (State::Blind, _) => "waits until its condition can be read again".to_owned(),
    }
}

/// Since when nothing helps, and when that is tried again.
fn stood_down(life: &RuleView, now: Moment) -> String {
    let since = life.stood_down.map_or_else(String::new, |since| format!(" for {}", time(now.since(since))));
    match life.retries_at {
        Some(at) if at <= now => {
            format!("has stood down{since}: nothing helps; its ladder is tried again once its condition holds")
        }
        Some(at) => {
            format!("has stood down{since}: nothing helps; its ladder is tried again in {}", time(at.since(now)))
        }
        None => format!("has stood down{since}: nothing helped; its ladder is being tried again"),
    }
}

fn time(duration: Duration) -> String {
    Unit::Seconds.show(duration.as_secs_f64()).to_string()
}

fn steps(plan: &Plan, view: &View, now: Moment, index: usize) -> Vec<StepExplanation> {
    let rule = &plan.rules()[index];
    let life = &view.rules[index];
    let explained = rule.steps.iter().enumerate().map(|(step, meant)| {
        let memory = &view.steps[plan.flat_step(index, step)];
        let action = view
            .actions
            .iter()
            .find(|action| meant.is(&action.mitigation) && matches!(action.phase, Phase::InForce | Phase::Applying));
        let (state, detail) = match (action, memory.skipped, memory.outcome) {
            (Some(action), _, _) if step < life.taken => (action.phase.name(), action.detail.to_string()),
            (_, Some(Skip::CannotHelp), _) => ("skipped", cannot_help(view, index, meant)),
            (_, Some(Skip::Breaker), _) if memory.breaker_until.is_some_and(|until| now < until) => {
                ("skipped", breaker(memory, now))
            }
            (_, Some(skip), _) => ("skipped", skip.to_string()),
            (_, None, Some(outcome)) if step < life.taken => match left(view, life, meant, outcome) {
                Some(why) => ("waiting", why.to_owned()),
                None => done(outcome),
            },
            _ if step == life.taken && life.state == State::Firing => ("next", breaker(memory, now)),
            _ if step < life.taken && !(rule.dry_run || plan.policy.dry_run) => {
                ("waiting", "not answered yet".to_owned())
            }
            _ if step < life.taken => ("done", "dry run: decided and not done".to_owned()),
            _ => ("waiting", breaker(memory, now)),
        };
        let needed = Level::needed_for(meant.class);
        let detail = match (state, action.filter(|_| meant.range.is_some())) {
            ("waiting" | "next", _) if !plan.policy.level.allows(meant.class) => format!("needs level {needed}"),
            (_, Some(action)) if detail.is_empty() => format!("now {}", action.mitigation),
            (_, Some(action)) => format!("now {}; {detail}", action.mitigation),
            _ => detail,
        };
        let class = meant.class.name();
        StepExplanation {
            text: meant.to_string(),
            class,
            together: meant.together,
            state,
            detail,
            effect: memory.effect.and_then(Effect::share),
            effect_text: memory.effect.map_or_else(String::new, |effect| effect.to_string()),
        }
    });
    explained.collect()
}

/// Why a step that nobody wrote by name is not taken, from the service's own numbers.
fn cannot_help(view: &View, rule: usize, step: &Step) -> String {
    let ports = view.troubled.get(rule).map_or(&[][..], Vec::as_slice);
    match step.resource.map(|resource| view.services.matters(&step.mitigation.control, resource, ports)) {
        Some(Matters::No(why)) => format!("cannot help here, because {why}"),
        Some(Matters::Yes | Matters::Unknown) | None => Skip::CannotHelp.to_string(),
    }
}

/// Why what was applied, and lasts, is not in force any more. `None` where it is, if only in a stronger step.
fn left(view: &View, life: &RuleView, step: &Step, outcome: Outcome) -> Option<&'static str> {
    let lasts = step.mitigation.verb.lasting() == Lasting::InForce && outcome == Outcome::Applied;
    let is_there = view.actions.iter().any(|action| step.mitigation.same_knob(&action.mitigation));
    let why = if life.stood_down.is_some() { "undone, because nothing helped" } else { "not in force any more" };
    (lasts && !is_there).then_some(why)
}

fn done(outcome: Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::Applied | Outcome::Already => ("done", outcome.name().to_owned()),
        Outcome::NoEffect => ("done", "no_effect: it freed nothing".to_owned()),
        other => ("failed", other.name().to_owned()),
    }
}

fn breaker(memory: &StepView, now: Moment) -> String {
    match memory.breaker_until.filter(|until| now < *until) {
        Some(until) => {
            let left = time(until.since(now));
            format!(
                "breaker open for another {left}: it did nothing three times in a row; `node-guardian resume` closes it"
            )
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::condition;
    use crate::policy::mitigation::{Amount, Mitigation, Verb};
    use crate::policy::rule::Severity;

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn rule(verb: Verb) -> Rule {
        let mitigation = Mitigation { control: "cache".into(), verb, amount: Amount::Whole };
        Rule {
            name: "memory".into(),
            when: condition::parse("memory.used_percent > 90%").unwrap(),
            hold_for: Duration::ZERO,
            clear: None,
            clear_for: Duration::ZERO,
            severity: Severity::Emergency,
            priority: 0,
            cooldown: Duration::from_secs(60),
            steps: vec![Step::new(mitigation, Duration::ZERO)],
            dry_run: false,
            hints: Vec::new(),
        }
    }

    #[test]
    fn a_rule_that_cools_fires_again_and_only_what_loses_something_waits() {
        let cooling = RuleView { state: State::Cooling, until: Some(at(141)), ..RuleView::default() };
        let told = |verb| waits_for(&rule(verb), &cooling, at(100));
        assert_eq!(told(Verb::Throttle), "fires again if its condition holds");
        assert_eq!(
            told(Verb::Flush),
            "fires again if its condition holds; lossy and destructive steps wait for another 41.0s"
        );
    }

    #[test]
    fn a_rule_that_stood_down_says_since_when_and_when_next() {
        let down = RuleView { state: State::Firing, stood_down: Some(at(40)), ..RuleView::default() };
        let told = |view: RuleView| waits_for(&rule(Verb::Throttle), &view, at(100));
        let resting = RuleView { retries_at: Some(at(160)), ..down };
        assert_eq!(told(resting), "has stood down for 60.0s: nothing helps; its ladder is tried again in 60.0s");
        let waiting = RuleView { retries_at: Some(at(90)), ..down };
        let words = "has stood down for 60.0s: nothing helps; its ladder is tried again once its condition holds";
        assert_eq!(told(waiting), words);
        assert_eq!(told(down), "has stood down for 60.0s: nothing helped; its ladder is being tried again");
    }

    #[test]
    fn what_was_given_back_is_not_done() {
        let (throttle, flush) = (rule(Verb::Throttle).steps.remove(0), rule(Verb::Flush).steps.remove(0));
        let down = RuleView { state: State::Firing, stood_down: Some(at(40)), ..RuleView::default() };
        let told = |life: &RuleView, step: &Step| left(&View::default(), life, step, Outcome::Applied);
        assert_eq!(told(&down, &throttle), Some("undone, because nothing helped"));
        assert_eq!(told(&RuleView::default(), &throttle), Some("not in force any more"));
        assert_eq!(told(&down, &flush), None);
    }

    #[test]
    fn an_open_breaker_says_for_how_long() {
        let memory = StepView { breaker_until: Some(at(220)), ..StepView::default() };
        assert!(breaker(&memory, at(100)).starts_with("breaker open for another 2.0m: it did nothing"));
        assert_eq!(breaker(&memory, at(220)), "");
    }
}
