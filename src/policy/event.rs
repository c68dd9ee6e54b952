//! Everything that the policy decides, as values with their reasons. `replay` prints them, the daemon logs and counts
//! them (`events.rs`), tests compare them; the policy itself never prints.

mod tell;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::effect::Effect;
use super::mitigation::{ActionId, Amount, Level, Mitigation, Outcome};
use super::orders::Hold;
use super::requester::Requester;
use super::severity::Severity;

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
    /// Fired again while its steps were still being undone.
    Relapsed {
        rule: Arc<str>,
        severity: Severity,
        because: String,
    },
    Cleared {
        rule: Arc<str>,
        because: String,
    },
    /// All its steps are gone. A relapse is met at once; only steps that lose something wait for the cooldown.
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
        rule: Requester,
        id: ActionId,
        mitigation: Mitigation,
        /// How strong it was before, where it was in force already.
        before: Option<Amount>,
        outcome: Outcome,
        detail: Arc<str>,
        took: Duration,
        freed_bytes: Option<i64>,
    },
    /// The step's settle time is over, or its rule cleared: what it did to the metric.
    Judged {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        effect: Effect,
    },
    /// A step did nothing three times in a row and is left out for a while.
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
    Undoing {
        id: ActionId,
        mitigation: Mitigation,
        why: UndoReason,
    },
    /// The answer to an undo that ended the matter, one way or another.
    Undone {
        id: ActionId,
        mitigation: Mitigation,
        outcome: Outcome,
        detail: Arc<str>,
        took: Duration,
    },
    /// The undo failed; it is tried again and never forgotten.
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
    /// Found while reading back: somebody else has set a part of it. That part stays theirs, the rest stays in force.
    Interfered {
        id: ActionId,
        mitigation: Mitigation,
        found: Arc<str>,
    },
    /// Found in the journal at start.
    Inherited {
        id: ActionId,
        mitigation: Mitigation,
    },
    /// A rung has not answered in its time; the ladder goes on without it.
    Overdue {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        waited: Duration,
    },
    /// It has not cleared for a while: what costs users is given back, as a test.
    StandingDown {
        rule: Arc<str>,
        after: Duration,
        why: Uncleared,
    },
    /// What was given back as a test made it worse, so it is taken again.
    TakenAgain {
        rule: Arc<str>,
        step: usize,
        mitigation: Mitigation,
        because: String,
    },
    /// Everything that costs users was given back; the ladder is tried again later, after nothing once its condition can be
    /// judged again.
    StoodDown {
        rule: Arc<str>,
        retry_in: Duration,
    },
    /// A ladder that had stood down is tried again.
    Retrying {
        rule: Arc<str>,
        because: String,
    },
    Paused {
        lasts: Duration,
        hold: Hold,
        by: Arc<str>,
    },
    /// A pause has ended, or knobs that an operator undid are the rules' again.
    Resumed {
        what: String,
        by: Arc<str>,
    },
    /// An operator undid it: the knob is the operator's.
    UndoneByOperator {
        id: ActionId,
        mitigation: Mitigation,
        by: Arc<str>,
    },
    /// An operator ended a debt that cannot be paid.
    Forgotten {
        id: ActionId,
        mitigation: Mitigation,
        by: Arc<str>,
    },
    Mode {
        from: Mode,
        to: Mode,
        why: ModeReason,
    },
}

/// Why the mode changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModeReason {
    Rule(Arc<str>),
    /// No emergency rule fires any more, and the hold is over.
    Cleared,
    FoundAtStart,
    /// What is still there when the recovery is over.
    Recovered {
        in_force: usize,
        owed: usize,
    },
}

impl fmt::Display for ModeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ModeReason::Rule(rule) => write!(f, "rule {rule}"),
            ModeReason::Cleared => f.write_str("no emergency rule fires any more"),
            ModeReason::FoundAtStart => f.write_str("found in force in the journal"),
            ModeReason::Recovered { in_force: 0, owed: 0 } => f.write_str("nothing is in force"),
            ModeReason::Recovered { in_force, owed: 0 } => write!(f, "{in_force} still in force"),
            ModeReason::Recovered { in_force: 0, owed } => write!(f, "{owed} still owed"),
            ModeReason::Recovered { in_force, owed } => write!(f, "{in_force} still in force, {owed} still owed"),
        }
    }
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
    Overridden,
    /// The control refused or could not be reached a moment ago; it is tried again later.
    Unavailable,
    /// An operator undid it, and has not given the knob back.
    Operator,
    /// An operator may have paused before a restart, and what cannot be undone waits until that is known.
    OrdersUnread,
    /// What loses something is not done before the cooldown is over.
    Cooldown,
    /// The service has nothing to give of what is short.
    CannotHelp,
    /// Nothing helped before a restart, and its pause is not over.
    StoodDown,
}

/// Why a rule that fires does not clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uncleared {
    /// What it is about stays as it is.
    Stays,
    /// Nobody can tell whether its condition holds.
    Unjudged,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UndoReason {
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
    /// It was only tried.
    Drilled,
    /// An operator pauses the guardian.
    Paused,
    /// Nothing helps: it is given back as a test.
    StoodDown,
    /// Nobody can tell whether it is still needed.
    Unjudged,
}

impl Skip {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Skip::Level { .. } => "level",
            Skip::Breaker => "breaker",
            Skip::Overridden => "overridden",
            Skip::Unavailable => "unavailable",
            Skip::Operator => "operator",
            Skip::OrdersUnread => "orders_unread",
            Skip::Cooldown => "cooldown",
            Skip::CannotHelp => "cannot_help",
            Skip::StoodDown => "stood_down",
        }
    }
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::Level { needed } => write!(f, "needs level {needed}"),
            Skip::Breaker => f.write_str("it did nothing three times in a row"),
            Skip::Overridden => f.write_str("somebody else changed the value"),
            Skip::Unavailable => f.write_str("the control failed a moment ago and is tried again later"),
            Skip::Operator => f.write_str("an operator undid it; `node-guardian resume` returns it to the rules"),
            Skip::OrdersUnread => f.write_str(
                "it is lossy or destructive, and earlier orders cannot be read; `pause` or `resume` replaces them",
            ),
            Skip::Cooldown => f.write_str("it is lossy or destructive, and its cooldown is not over"),
            Skip::CannotHelp => f.write_str("it cannot help here"),
            Skip::StoodDown => f.write_str("the rule has stood down"),
        }
    }
}

impl UndoReason {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            UndoReason::Recovered => "recovered",
            UndoReason::Operator => "operator",
            UndoReason::Stopping => "stopping",
            UndoReason::Orphaned => "orphaned",
            UndoReason::Level => "level",
            UndoReason::Drilled => "drilled",
            UndoReason::Paused => "paused",
            UndoReason::StoodDown => "stood_down",
            UndoReason::Unjudged => "unjudged",
        }
    }
}

impl fmt::Display for UndoReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UndoReason::Recovered => "no rule wants it any more",
            UndoReason::Operator => "an operator asked for it",
            UndoReason::Stopping => "the guardian is stopping",
            UndoReason::Orphaned => "left over, and no rule wants it",
            UndoReason::Level => "the configuration no longer allows it",
            UndoReason::Drilled => "the drill has read it back",
            UndoReason::Paused => "an operator paused the guardian",
            UndoReason::StoodDown => "as a test, because nothing helps",
            UndoReason::Unjudged => "the condition of its rule is unknown",
        })
    }
}
