//! A rule as it was meant: what the configuration compiles to and the policy runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::condition::Condition;
use super::mitigation::{Level, Mitigation};

/// Everything that the policy needs to know; nothing of it changes until the next reload.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub level: Level,
    pub dry_run: bool,
    pub emergency: Emergency,
    /// Highest priority first, then by name.
    pub rules: Vec<Rule>,
}

/// How long emergency mode lasts and how it is left.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Emergency {
    /// Least stay; grows by itself on each relapse.
    pub hold: Duration,
    pub hold_max: Duration,
    /// Recovery undoes one step per interval.
    pub release_interval: Duration,
}

impl Default for Emergency {
    /// Ten seconds' hold that grows by ten, as Meta's sideloader does it (research: peers §1.7).
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(10),
            hold_max: Duration::from_secs(60),
            release_interval: Duration::from_secs(5),
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

#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    pub mitigation: Mitigation,
    /// How long the step may take to show its effect before it is judged.
    pub settle: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Severity {
    Info,
    Warning,
    Emergency,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Emergency];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Emergency => "emergency",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hint {
    pub resource: Resource,
    pub scale: Scale,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Resource {
    Cpu,
    Memory,
    Disk,
    Network,
    Connections,
}

impl Resource {
    pub const ALL: [Resource; 5] =
        [Resource::Cpu, Resource::Memory, Resource::Disk, Resource::Network, Resource::Connections];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "cpu",
            Resource::Memory => "memory",
            Resource::Disk => "disk",
            Resource::Network => "network",
            Resource::Connections => "connections",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    Up,
    Down,
}
