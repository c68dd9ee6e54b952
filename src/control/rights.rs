//! What a control may do, verb by verb, as its target says: a verb is allowed only where everything that doing it, reading
//! it back and undoing it needs was seen to be. In words for `status`; never asks anybody itself.

use super::failure::Failure;
use crate::policy::mitigation::{Outcome, Verb};

/// What was asked, in the order of asking.
#[derive(Default)]
pub struct Rights {
    /// What may be done, in words.
    may: Vec<String>,
    denied: Vec<(Verb, Failure)>,
}

impl Rights {
    /// # Errors
    /// Where nobody answers, which is no matter of rights.
    pub fn note(&mut self, verb: Verb, permitted: Result<(), Failure>) -> Result<(), Failure> {
        self.note_as(verb, permitted.map(|()| verb.name().to_owned()))
    }

    /// The same, where there is more to say than the verb.
    ///
    /// # Errors
    /// As `note`.
    pub fn note_as(&mut self, verb: Verb, permitted: Result<String, Failure>) -> Result<(), Failure> {
        match permitted {
            Ok(words) => self.may.push(words),
            Err(failure) if matches!(failure.outcome, Outcome::Refused | Outcome::Unsupported) => {
                self.denied.push((verb, failure));
            }
            Err(unanswered) => return Err(unanswered),
        }
        Ok(())
    }

    /// `may throttle and shed; cannot drain: …`
    ///
    /// # Errors
    /// Where nothing may be done.
    pub fn told(&self) -> Result<String, Failure> {
        let denials = self.denials();
        if !self.may.is_empty() {
            return Ok([format!("may {}", list(&self.may))].into_iter().chain(denials).collect::<Vec<_>>().join("; "));
        }
        let outcome = self.denied.first().map_or(Outcome::Unsupported, |(_, failure)| failure.outcome);
        let detail = if denials.is_empty() { "it can do nothing".to_owned() } else { denials.join("; ") };
        Err(Failure { outcome, detail })
    }

    /// Verbs with one reason are told together.
    fn denials(&self) -> Vec<String> {
        let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
        for (verb, failure) in &self.denied {
            match reasons.iter_mut().find(|(reason, _)| *reason == failure.detail) {
                Some((_, verbs)) => verbs.push(verb.name().to_owned()),
                None => reasons.push((&failure.detail, vec![verb.name().to_owned()])),
            }
        }
        reasons.into_iter().map(|(reason, verbs)| format!("cannot {}: {reason}", list(&verbs))).collect()
    }
}

fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_comes_first_and_one_reason_is_told_once() {
        let mut rights = Rights::default();
        let denied = || Err(Failure::refused("give it `level admin`"));
        rights.note(Verb::Throttle, denied()).unwrap();
        rights.note(Verb::Shed, Ok(())).unwrap();
        rights.note_as(Verb::Release, Ok("release heap (1.0MiB)".into())).unwrap();
        rights.note(Verb::Drain, denied()).unwrap();
        rights.note(Verb::Flush, Err(Failure::unsupported("no cache"))).unwrap();
        assert_eq!(
            rights.told().unwrap(),
            "may shed and release heap (1.0MiB); cannot throttle and drain: give it `level admin`; cannot flush: no cache"
        );
    }

    #[test]
    fn where_nothing_is_allowed_or_nobody_answers_the_control_is_not_usable() {
        let mut rights = Rights::default();
        rights.note(Verb::Throttle, Err(Failure::refused("no"))).unwrap();
        let failure = rights.told().unwrap_err();
        assert_eq!((failure.outcome, failure.detail.as_str()), (Outcome::Refused, "cannot throttle: no"));
        let silent = rights.note(Verb::Shed, Err(Failure::timed_out("silent"))).unwrap_err();
        assert_eq!(silent.outcome, Outcome::TimedOut);
    }
}
