//! A policy made ready to run: every condition compiled against slots, so that a tick compares numbers and nothing else.

use super::rule::Policy;

/// Fixed until the next reload.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub policy: Policy,
}
