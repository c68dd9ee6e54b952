//! What a command came to, in the words of its report.

use crate::control::failure::Failure;
use crate::control::{Control, Done};
use crate::policy::mitigation::Outcome;

pub struct Answer {
    pub outcome: Outcome,
    pub detail: String,
    pub freed_bytes: Option<i64>,
    pub theirs: Option<String>,
}

impl Answer {
    pub fn of(done: Result<Done, Failure>) -> Self {
        done.map_or_else(Self::failed, Self::done)
    }

    pub fn done(done: Done) -> Self {
        Self { outcome: done.outcome, detail: done.detail, freed_bytes: done.freed_bytes, theirs: None }
    }

    pub fn failed(failure: Failure) -> Self {
        Self { outcome: failure.outcome, detail: failure.detail, freed_bytes: None, theirs: None }
    }

    pub fn applied(detail: &str) -> Self {
        Self { outcome: Outcome::Applied, detail: detail.to_owned(), freed_bytes: None, theirs: None }
    }

    pub fn in_force(theirs: Option<String>) -> Self {
        match theirs {
            None => Self::applied("still in force"),
            Some(found) => {
                let detail = format!("still in force, except for values that somebody else set: {found}");
                Self { theirs: Some(found), ..Self::applied(&detail) }
            }
        }
    }

    pub fn already(detail: &str) -> Self {
        Self { outcome: Outcome::Already, detail: detail.to_owned(), freed_bytes: None, theirs: None }
    }

    /// Nothing was sent that changes anything, so that a silent target leaves no doubt.
    pub fn unsent(failure: Failure) -> Self {
        let is_silent = failure.outcome == Outcome::TimedOut;
        Self::failed(if is_silent { Failure::unreachable(failure.detail) } else { failure })
    }

    /// Something may have been changed; nobody can tell now.
    pub fn doubtful(failure: Failure) -> Self {
        Self::failed(Failure::timed_out(failure.detail))
    }

    /// What was in force before is not any more either.
    pub fn ended(why: Failure) -> Self {
        let detail = format!("{}; the prior values are back, nothing of it is in force", why.detail);
        Self { outcome: Outcome::EpochChanged, detail, freed_bytes: None, theirs: None }
    }

    pub fn lapsed() -> Self {
        Self { outcome: Outcome::EpochChanged, detail: "it lapsed".to_owned(), freed_bytes: None, theirs: None }
    }

    /// What was left of the earlier life is back.
    pub fn succeeded(control: &Control, back: &Done) -> Self {
        let detail = format!("{} was started again; left of the earlier one: {}", control.service(), back.detail);
        Self { outcome: Outcome::EpochChanged, detail, freed_bytes: None, theirs: None }
    }

    pub fn restarted(control: &Control) -> Self {
        Self::failed(Failure::epoch_changed(control.service()))
    }
}
