//! What was found to be somebody else's and is over for us. The journal gives it up only once it is kept whose it is now: a
//! crash in between would else forget that, and the next start would take their value for the one to begin with.

use std::time::Duration;

use tokio::sync::oneshot::{self, Receiver};

use crate::keeper::Heard;
use crate::policy::mitigation::{ActionId, Report};
use crate::policy::moment::Moment;

/// A disk that did not take it is asked again after this.
const AGAIN: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Partings {
    ended: Vec<ActionId>,
    handed_over: Vec<Handed>,
    not_before: Moment,
}

#[derive(Debug)]
struct Handed {
    ids: Vec<ActionId>,
    hears: Receiver<Result<(), String>>,
}

impl Partings {
    pub fn note(&mut self, report: &Report) {
        if report.is_parting() {
            self.ended.push(report.id);
        }
    }

    /// Whether the orders are to be kept for the sake of these.
    pub fn is_due(&self, now: Moment) -> bool {
        !self.ended.is_empty() && now >= self.not_before
    }

    /// To be told when the orders are durable that say whose these are.
    pub fn hand_over(&mut self) -> Option<Heard> {
        if self.ended.is_empty() {
            return None;
        }
        let (heard, hears) = oneshot::channel();
        self.handed_over.push(Handed { ids: std::mem::take(&mut self.ended), hears });
        Some(heard)
    }

    /// Those that the journal may give up now.
    pub fn kept(&mut self, now: Moment) -> Vec<ActionId> {
        let mut kept = Vec::new();
        for mut handed in std::mem::take(&mut self.handed_over) {
            match handed.hears.try_recv() {
                Ok(Ok(())) => kept.append(&mut handed.ids),
                Err(oneshot::error::TryRecvError::Empty) => self.handed_over.push(handed),
                Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => {
                    self.ended.append(&mut handed.ids);
                    self.not_before = now + AGAIN;
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::{Answered, Outcome};

    fn overridden(id: u64) -> Report {
        Report {
            id: ActionId(id),
            answered: Answered::Verify,
            outcome: Outcome::Overridden,
            detail: "".into(),
            took: Duration::ZERO,
            freed_bytes: None,
            theirs: None,
        }
    }

    #[test]
    fn nothing_is_given_up_before_it_is_kept_whose_it_is() {
        let mut partings = Partings::default();
        assert!(partings.hand_over().is_none() && !partings.is_due(Moment::ORIGIN));
        partings.note(&overridden(1));
        let heard = partings.hand_over().unwrap();
        assert_eq!(partings.kept(Moment::ORIGIN), []);
        heard.send(Err("no room".to_owned())).unwrap();
        assert_eq!(partings.kept(Moment::ORIGIN), []);
        assert!(!partings.is_due(Moment::ORIGIN) && partings.is_due(Moment::ORIGIN + AGAIN));
        partings.hand_over().unwrap().send(Ok(())).unwrap();
        assert_eq!(partings.kept(Moment::ORIGIN), [ActionId(1)]);
        assert_eq!(partings.kept(Moment::ORIGIN), []);
    }
}
