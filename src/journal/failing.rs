//! A disk that did not take a record: why, and when it is asked again. Only a record that it has taken says that it is well.

use std::time::Instant;

use super::JournalError;
use crate::policy::action::pause_after;

#[derive(Debug)]
pub struct Failing {
    why: String,
    tries: u32,
    due: Instant,
}

impl Failing {
    /// With growing pauses, for as long as each try fails.
    pub fn again(before: Option<Self>, error: &JournalError) -> Self {
        let tries = before.map_or(0, |failing| failing.tries.saturating_add(1));
        Self { why: error.to_string(), tries, due: Instant::now() + pause_after(tries) }
    }

    pub fn why(&self) -> &str {
        &self.why
    }

    pub const fn due(&self) -> Instant {
        self.due
    }

    pub fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }
}
