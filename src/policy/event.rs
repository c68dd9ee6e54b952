//! Everything that the policy decides, as values with their reasons. `replay` prints them, the daemon logs and counts
//! them (`events.rs`), tests compare them; the policy itself never prints.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::mitigation::{ActionId, Level, Mitigation, Outcome};
use super::rule::Severity;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    #[default]
    Normal,
    Emergency,
    Recovering,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::Normal, Mode::Emergency, Mode::Recovering];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Normal => "normal",
            Mode::Emergency => "emergency",
            Mode::Recovering => "recovering",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The condition holds; the rule fires if it still does after `hold_for`.
    Pending {
        rule: Arc<str>,
        hold_for: Duration,
        because: String,
    },
    /// The condition stopped holding before its time was up.
    Relented {
        rule: Arc<str>,
    },
    Fired {
        rule: Arc<str>,
        severity: Severity,
        because: String,
    },
    /// Fired again while its steps were still being released.
    Relapsed {
        rule: Arc<str>,
        severity: Severity,
        because: String,
    },
    Cleared {
        rule: Arc<str>,
        because: String,
    },
    /// All its steps are gone; it may not start again before the cooldown is over.
    Cooling {
        rule: Arc<str>,
        cooldown: Duration,
    },
    Quiet {
        rule: Arc<str>,
    },
    /// What the condition needs cannot be read.
    Blind {
        rule: Arc<str>,
        missing: String,
    },
    Sees {
        rule: Arc<str>,
    },
    Step {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        id: Option<ActionId>,
        kind: StepKind,
    },
    Skipped {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        why: Skip,
    },
    /// The answer to an apply.
    Acted {
        rule: Arc<str>,
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        took: Duration,
        freed_bytes: Option<i64>,
    },
    /// The step's settle time is over: share of the gap to the threshold that it closed against the trend.
    Judged {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        effect: Option<f64>,
    },
    /// A step did nothing several times running and is left out for a while.
    BreakerOpen {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        retry_in: Duration,
    },
    /// The ladder has no further step.
    Exhausted {
        rule: Arc<str>,
    },
    Releasing {
        id: ActionId,
        mitigation: Mitigation,
        why: Release,
    },
    /// The answer to a revert that ended the matter, one way or another.
    Released {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        took: Duration,
    },
    /// The revert failed; it is tried again and never forgotten.
    Owed {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        retry_in: Duration,
    },
    /// Found while reading back: no longer in force, or no longer ours.
    Lost {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
    },
    /// Found in the journal at start.
    Inherited {
        id: ActionId,
        mitigation: Mitigation,
    },
    Mode {
        from: Mode,
        to: Mode,
        why: String,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepKind {
    Act,
    /// Decided and told, not done.
    DryRun,
    /// Already in force through another rule, or at least as strongly.
    Shared,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Skip {
    /// The step's class needs this level.
    Level {
        needed: Level,
    },
    Breaker,
    /// Somebody else changed the value; it is theirs until the rule is quiet again.
    Drifted,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Release {
    /// No firing rule wants it any more.
    Recovered,
    /// An operator asked for it.
    Operator,
    /// The guardian is stopping.
    Stopping,
    /// A stop or a reload left it without a rule.
    Orphaned,
    /// The level no longer allows it.
    Level,
}
