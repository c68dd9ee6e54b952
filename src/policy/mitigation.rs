//! What may be done to a control: verbs with their class, how strongly, and what came of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::requester::Requester;
use super::unit::Unit;

/// Gentlest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    Notify,
    Release,
    Throttle,
    Shed,
    Shrink,
    Freeze,
    Drain,
    Flush,
    Prune,
    Terminate,
}

/// How much can be lost; the level caps it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    Notify,
    Lossless,
    Reversible,
    Lossy,
    Destructive,
}

impl Class {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Class::Notify => "notify",
            Class::Lossless => "lossless",
            Class::Reversible => "reversible",
            Class::Lossy => "lossy",
            Class::Destructive => "destructive",
        }
    }
}

/// Whether a verb leaves something in force that must be undone later, or is over when it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lasting {
    InForce,
    Once,
}

impl Verb {
    pub const ALL: [Verb; 10] = [
        Verb::Notify,
        Verb::Release,
        Verb::Throttle,
        Verb::Shed,
        Verb::Shrink,
        Verb::Freeze,
        Verb::Drain,
        Verb::Flush,
        Verb::Prune,
        Verb::Terminate,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Verb::Notify => "notify",
            Verb::Release => "release",
            Verb::Throttle => "throttle",
            Verb::Shed => "shed",
            Verb::Shrink => "shrink",
            Verb::Freeze => "freeze",
            Verb::Drain => "drain",
            Verb::Flush => "flush",
            Verb::Prune => "prune",
            Verb::Terminate => "terminate",
        }
    }

    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Verb::Notify => Class::Notify,
            Verb::Release => Class::Lossless,
            Verb::Throttle | Verb::Shed | Verb::Shrink | Verb::Freeze | Verb::Drain => Class::Reversible,
            Verb::Flush | Verb::Prune => Class::Lossy,
            Verb::Terminate => Class::Destructive,
        }
    }

    /// Whether it withholds a share of the work, which recovery gives back by halves.
    #[must_use]
    pub(crate) const fn is_eased(self) -> bool {
        matches!(self, Verb::Throttle | Verb::Shed)
    }

    #[must_use]
    pub const fn lasting(self) -> Lasting {
        match self.class() {
            Class::Reversible => Lasting::InForce,
            Class::Notify | Class::Lossless | Class::Lossy | Class::Destructive => Lasting::Once,
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The harshest class of action that is allowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Level {
    Disabled,
    Minimal,
    #[default]
    Standard,
    Aggressive,
    Maximum,
}

impl Level {
    pub const ALL: [Level; 5] = [Level::Disabled, Level::Minimal, Level::Standard, Level::Aggressive, Level::Maximum];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Level::Disabled => "disabled",
            Level::Minimal => "minimal",
            Level::Standard => "standard",
            Level::Aggressive => "aggressive",
            Level::Maximum => "maximum",
        }
    }

    #[must_use]
    pub fn allows(self, class: Class) -> bool {
        match self {
            Level::Disabled => false,
            Level::Minimal => class <= Class::Notify,
            Level::Standard => class <= Class::Reversible,
            Level::Aggressive => class <= Class::Lossy,
            Level::Maximum => true,
        }
    }

    /// The gentlest level that allows this class.
    #[must_use]
    pub fn needed_for(class: Class) -> Level {
        Level::ALL.into_iter().find(|level| level.allows(class)).unwrap_or(Level::Maximum)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How strongly. `Keep` is what remains: a throttle to 50 % keeps 50, a shed of a quarter keeps 75.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    Whole,
    /// Percent of the normal value that remains.
    Keep(f64),
    /// An absolute limit in bytes.
    Bytes(u64),
}

impl Amount {
    /// Percent that remains, where this is a share.
    #[must_use]
    pub const fn kept_percent(self) -> Option<f64> {
        match self {
            Amount::Keep(percent) => Some(percent),
            Amount::Whole | Amount::Bytes(_) => None,
        }
    }

    /// Whether this leaves less than the other. A share and a size cannot be compared: then neither is stronger.
    #[must_use]
    pub fn is_stronger_than(self, other: Amount) -> bool {
        match (self, other) {
            (Amount::Keep(mine), Amount::Keep(theirs)) => mine < theirs,
            (Amount::Bytes(mine), Amount::Bytes(theirs)) => mine < theirs,
            (Amount::Whole | Amount::Keep(_) | Amount::Bytes(_), _) => false,
        }
    }
}

/// One thing to do to one control.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Mitigation {
    pub control: Arc<str>,
    pub verb: Verb,
    pub amount: Amount,
}

impl Mitigation {
    /// Two mitigations on one knob exclude each other: the strongest one is in force.
    #[must_use]
    pub(crate) fn same_knob(&self, other: &Mitigation) -> bool {
        self.verb == other.verb && self.control == other.control
    }
}

/// One thing that can be set: a target, by what identifies it wherever it is configured, and a verb.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Knob {
    pub target: Arc<str>,
    pub verb: Verb,
}

/// `throttle edge to 50%`, `shed edge by 25%`, `release cache`.
impl fmt::Display for Mitigation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.control)?;
        match (self.verb, self.amount) {
            (_, Amount::Whole) => Ok(()),
            (Verb::Shed, Amount::Keep(kept)) => write!(f, " by {}%", trimmed(100.0 - kept)),
            (_, Amount::Keep(kept)) => write!(f, " to {}%", trimmed(kept)),
            (_, Amount::Bytes(bytes)) => write!(f, " to {}", Unit::Bytes.show(bytes as f64)),
        }
    }
}

impl Mitigation {
    /// `50% → 75%`, where this leaves more than what was before it; a shed as what it takes, `50% → 25%`.
    #[must_use]
    pub(crate) fn loosened(&self, from: Amount) -> Option<String> {
        let (Amount::Keep(before), Amount::Keep(kept)) = (from, self.amount) else { return None };
        let shown = |kept: f64| if self.verb == Verb::Shed { trimmed(100.0 - kept) } else { trimmed(kept) };
        (before < kept).then(|| format!("{}% → {}%", shown(before), shown(kept)))
    }
}

fn trimmed(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

/// Names one mitigation from its first intent to its verified end; unique within the life of the journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActionId(pub u64);

impl fmt::Display for ActionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the shell is told to do. `Apply` on an id that is already in force adjusts it; its undo stays the first one.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    Apply {
        id: ActionId,
        mitigation: Mitigation,
        rule: Requester,
        /// What the level must allow for it. `Lossy` and harsher asks the policy again immediately before it acts.
        class: Class,
        /// Not begun after this: it would answer a node that is no more.
        valid_until: Moment,
    },
    /// Read back what is in force.
    Verify {
        id: ActionId,
        lease: Lease,
    },
    Undo {
        id: ActionId,
    },
    /// An operator gives up the undo: it leaves the journal, and nothing is done to the target.
    Forget {
        id: ActionId,
    },
}

/// What becomes of something that lapses by itself when it is read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lease {
    /// Some rule wants it: renew it, even if it has lapsed. After this moment it is only read back.
    Renew { valid_until: Moment },
    /// Some rule wanted it before a time in which nobody looked: renew what stands, and give nothing again that has lapsed.
    Keep { valid_until: Moment },
    /// Nobody wants it: write nothing.
    LetLapse,
}

impl Command {
    #[must_use]
    pub const fn id(&self) -> ActionId {
        match self {
            Command::Apply { id, .. } | Command::Verify { id, .. } | Command::Undo { id } | Command::Forget { id } => {
                *id
            }
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Apply { id, mitigation, .. } => write!(f, "apply {id}: {mitigation}"),
            Command::Verify { id, .. } => write!(f, "verify {id}"),
            Command::Undo { id } => write!(f, "undo {id}"),
            Command::Forget { id } => write!(f, "forget {id}"),
        }
    }
}

/// Which command a report answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answered {
    Apply,
    Verify,
    Undo,
}

/// What came of a command.
///
/// | outcome | after `Apply` | after `Verify` | after `Undo` |
/// |---|---|---|---|
/// | `Applied` | in force, read back | still in force | restored, read back |
/// | `Already` | was so before; nothing is owed | – | the prior value was already back |
/// | `NoEffect` | done, and changed nothing | – | – |
/// | `Refused`, `Unsupported` | not in force | – | still owed |
/// | `Unreachable` | not in force: nothing was sent, or nobody answered before anything was | unknown | still owed |
/// | `TimedOut` | in doubt | unknown | still owed |
/// | `EpochChanged` | not in force: the target restarted, or an adjustment failed and the prior values are back | gone: the target restarted | gone with the restart |
/// | `Overridden` | the value is somebody else's; not touched | somebody changed it; ours no longer | left as somebody set it |
/// | `Expired` | not done, nothing was sent: too late, or no longer wanted | – | – |
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    Applied,
    Already,
    NoEffect,
    Refused,
    Unreachable,
    TimedOut,
    Unsupported,
    EpochChanged,
    Overridden,
    Expired,
}

impl Outcome {
    pub const ALL: [Outcome; 10] = [
        Outcome::Applied,
        Outcome::Already,
        Outcome::NoEffect,
        Outcome::Refused,
        Outcome::Unreachable,
        Outcome::TimedOut,
        Outcome::Unsupported,
        Outcome::EpochChanged,
        Outcome::Overridden,
        Outcome::Expired,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Applied => "applied",
            Outcome::Already => "already",
            Outcome::NoEffect => "no_effect",
            Outcome::Refused => "refused",
            Outcome::Unreachable => "unreachable",
            Outcome::TimedOut => "timed_out",
            Outcome::Unsupported => "unsupported",
            Outcome::EpochChanged => "epoch_changed",
            Outcome::Overridden => "overridden",
            Outcome::Expired => "expired",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The answer to one command.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    pub id: ActionId,
    pub answered: Answered,
    pub outcome: Outcome,
    /// One sentence with the values before and after, or why not and what to try.
    pub detail: Arc<str>,
    pub took: Duration,
    /// Memory that the target's resident set lost, where it was measured. Negative where it grew.
    pub freed_bytes: Option<i64>,
    /// Of what is still in force, the part that somebody else has set meanwhile; of what was undone, what somebody else had
    /// put back before. It stays theirs.
    pub theirs: Option<Arc<str>>,
}

impl Report {
    /// It is over, and what it changed, or a part of that, is somebody else's now. The journal has it until that is kept.
    #[must_use]
    pub fn is_parting(&self) -> bool {
        self.outcome == Outcome::Overridden || self.answered == Answered::Undo && self.theirs.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_allows_its_class_and_all_gentler_ones() {
        assert!(!Level::Disabled.allows(Class::Notify));
        assert!(!Level::Minimal.allows(Class::Lossless));
        assert!(Level::Standard.allows(Class::Reversible) && !Level::Standard.allows(Class::Lossy));
        assert_eq!(Level::needed_for(Class::Lossy), Level::Aggressive);
    }

    #[test]
    fn mitigations_read_as_sentences() {
        let shed = Mitigation { control: "edge".into(), verb: Verb::Shed, amount: Amount::Keep(75.0) };
        assert_eq!(shed.to_string(), "shed edge by 25%");
        let shrink = Mitigation { control: "cache".into(), verb: Verb::Shrink, amount: Amount::Bytes(1 << 30) };
        assert_eq!(shrink.to_string(), "shrink cache to 1.0GiB");
    }
}
