//! Who has an action put in force: a rule, by its name, or a drill. The one place that knows how a drill is written down.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// In place of a rule's name; no rule can be called this.
const DRILL: &str = "(drill)";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requester(Arc<str>);

impl Requester {
    #[must_use]
    pub fn rule(name: &Arc<str>) -> Self {
        Self(Arc::clone(name))
    }

    #[must_use]
    pub(crate) fn drill() -> Self {
        Self(DRILL.into())
    }

    #[must_use]
    pub fn is_drill(&self) -> bool {
        *self.0 == *DRILL
    }
}

impl Deref for Requester {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// As the journal has it.
impl From<&str> for Requester {
    fn from(written: &str) -> Self {
        Self(written.into())
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_is_no_rule_and_is_read_back_as_one() {
        let drill = Requester::drill();
        assert!(drill.is_drill() && Requester::from(&*drill.to_string()).is_drill());
        assert!(!Requester::rule(&"drill".into()).is_drill());
    }
}
