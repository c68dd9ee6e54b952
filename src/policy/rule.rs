//! A rule as it was meant: what the configuration compiles to and the policy runs.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::condition::Condition;
use super::mitigation::{Amount, Class, Level, Mitigation, Verb};
use super::ports::Ports;
use super::range::Range;
pub use super::resource::Resource;
pub use super::severity::Severity;
use super::spacing::Spacing;

/// Everything that the policy needs to know; nothing of it changes until the next reload.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub level: Level,
    pub dry_run: bool,
    pub emergency: Emergency,
    /// How far apart samples are meant to be; what is much further apart was not watched in between.
    pub spacing: Spacing,
    /// Highest priority first, then by name.
    pub rules: Vec<Rule>,
    /// What identifies the target of each control; a control that is not named is its own.
    pub targets: Vec<(Arc<str>, Arc<str>)>,
    /// By control, where the operator names the ports that it stands before.
    pub ports: Vec<(Arc<str>, Ports)>,
    /// What controls refuse, because it is not declared at them.
    pub undeclared: Vec<(Arc<str>, Verb)>,
}

/// How long emergency mode lasts and how it is left.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Emergency {
    /// Least stay; grows by itself on each relapse.
    pub hold: Duration,
    pub hold_max: Duration,
    /// Recovery undoes one step per interval.
    pub undo_interval: Duration,
    /// How long a ladder that is at its end may leave the gap as it is, before what costs users is given back.
    pub stand_down: Duration,
}

impl Default for Emergency {
    /// Ten seconds' hold that grows by ten, as Meta's sideloader does it. Two minutes of refusals
    /// and one of giving back: users are served again three minutes after a rule fired that nothing could help.
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(10),
            hold_max: Duration::from_secs(60),
            undo_interval: Duration::from_secs(5),
            stand_down: Duration::from_secs(120),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: Arc<str>,
    pub when: Condition,
    pub hold_for: Duration,
    /// `None`: the rule clears when `when` is false.
    pub clear: Option<Condition>,
    pub clear_for: Duration,
    pub severity: Severity,
    /// Higher first; also decides who wins a knob.
    pub priority: i32,
    pub cooldown: Duration,
    pub steps: Vec<Step>,
    pub dry_run: bool,
    /// What a cluster's autoscaler should hear while the rule fires.
    pub hints: Vec<Hint>,
}

impl Rule {
    /// While it fires, the node is in an emergency.
    #[must_use]
    pub(crate) fn is_alarm(&self) -> bool {
        self.severity == Severity::Emergency && !self.dry_run
    }

    /// The steps that are taken at once with this one.
    #[must_use]
    pub(crate) fn rung(&self, step: usize) -> RangeInclusive<usize> {
        let first = (0..step).rev().take_while(|before| self.steps[*before].together).last().unwrap_or(step);
        let last = (step..self.steps.len()).find(|at| !self.steps[*at].together).unwrap_or(self.steps.len() - 1);
        first..=last
    }

    /// Whether the steps before this one are only a part of their rung.
    #[must_use]
    pub(crate) fn is_within_rung(&self, taken: usize) -> bool {
        taken < self.steps.len() && taken.checked_sub(1).is_some_and(|last| self.steps[last].together)
    }
}

#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Where the step has a range, its gentle end.
    pub mitigation: Mitigation,
    /// How strongly, by how far beyond its threshold the rule's metric is.
    pub range: Option<Range>,
    /// How long the step may take to show its effect before it is judged.
    pub settle: Duration,
    /// What the level must allow. That of the verb, or a harsher one where this control loses something by it.
    pub class: Class,
    /// Taken at once with the step after it, and judged with it.
    pub together: bool,
    /// Who feels it.
    pub cost: Cost,
    /// How long it may take to answer before the ladder goes on without it.
    pub patience: Duration,
    pub asked: Asked,
    /// What the step is to relieve: that of the built-in ladder, else of the rule's metrics. `None` where these are of
    /// no resource or of several.
    pub resource: Option<Resource>,
}

/// Who feels a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cost {
    Users,
    /// Nobody: it is work that was declared sacrificial.
    Nobody,
}

/// Who chose the control of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// The step names its control: it is taken as written.
    ByName,
    /// A built-in ladder, `"*"` or `"kind.*"`: it is taken only where the service can matter to the resource.
    ByLadder,
}

/// For what knows no other: six conversations with a service that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

impl Step {
    /// What is given back first. What was declared sacrificial, and what frees memory, costs nobody.
    #[must_use]
    pub(crate) fn costs_users(&self) -> bool {
        let withholds = matches!(self.mitigation.verb, Verb::Throttle | Verb::Shed | Verb::Shrink | Verb::Drain);
        withholds && self.cost == Cost::Users
    }

    /// One thing, at one strength, of a control that is named.
    #[must_use]
    pub fn new(mitigation: Mitigation, settle: Duration) -> Self {
        let class = mitigation.verb.class();
        Self {
            mitigation,
            range: None,
            settle,
            class,
            together: false,
            asked: Asked::ByName,
            resource: None,
            cost: Cost::Users,
            patience: PATIENCE,
        }
    }

    /// Whether that is what this step does, at whatever strength it has now.
    #[must_use]
    pub(crate) fn is(&self, mitigation: &Mitigation) -> bool {
        match (self.range, mitigation.amount) {
            (Some(range), Amount::Keep(kept)) => {
                self.mitigation.same_knob(mitigation) && (range.harsh()..=range.gentle()).contains(&kept)
            }
            _ => self.mitigation == *mitigation,
        }
    }
}

/// `throttle edge to 50%`, `throttle edge to 90%..20%`, `shed edge by 10%..75%`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mitigation.fmt(f)?;
        match (self.range, self.mitigation.verb) {
            (None, _) => Ok(()),
            (Some(range), Verb::Shed) => write!(f, "..{}%", 100.0 - range.harsh()),
            (Some(range), _) => write!(f, "..{}%", range.harsh()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint {
    pub resource: Resource,
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    Up,
    Down,
}
