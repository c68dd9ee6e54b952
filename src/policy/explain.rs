//! Why a rule does what it does, in words and numbers, from a plan and a view of it.

use serde::Serialize;

use super::moment::Moment;
use super::plan::Plan;
use super::view::View;

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explanation {
    pub name: String,
    pub severity: &'static str,
    pub priority: i32,
    pub state: &'static str,
    /// Seconds in this state.
    pub state_seconds: f64,
    /// What it waits for: `fires in 0.4s if the condition holds`, `may fire again in 41s`.
    pub waits_for: String,
    pub when: ConditionExplanation,
    pub clear: ConditionExplanation,
    pub steps: Vec<StepExplanation>,
    pub fired: u64,
    pub dry_run: bool,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ConditionExplanation {
    pub text: String,
    pub verdict: &'static str,
    pub comparisons: Vec<ComparisonExplanation>,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ComparisonExplanation {
    /// `memory.available_percent < 8.0%`
    pub text: String,
    /// In the base unit; `null` where it could not be read.
    pub value: Option<f64>,
    /// `41.2%`, or `unknown`.
    pub shown: String,
    pub verdict: &'static str,
}

#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct StepExplanation {
    /// `throttle edge to 50%`
    pub text: String,
    /// `in_force`, `done`, `next`, `waiting`, `skipped`.
    pub state: &'static str,
    /// Why it was skipped, or the last outcome.
    pub detail: String,
    /// Share of the gap that it closed, last time it was judged.
    pub effect: Option<f64>,
}

/// One explanation per rule, in the order of the plan.
#[must_use]
pub fn explain(plan: &Plan, view: &View, now: Moment) -> Vec<Explanation> {
    let _ = (plan, view, now);
    Vec::new()
}
