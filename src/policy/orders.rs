//! The operator's standing orders: a pause, and the knobs that an operator undid. They outlive reloads, restarts and
//! crashes (whoever keeps them writes [`Orders`] down), and each ends by itself, so that none is forgotten. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::mitigation::{ActionId, Knob, Mitigation};
use super::moment::Moment;

/// An undone knob is the operator's until the rules that could want it were quiet for so long.
pub const QUIET_FOR: Duration = Duration::from_secs(600);

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Orders {
    pub pause: Option<Pause>,
    /// Oldest first.
    pub undone: Vec<Undone>,
}

/// No new actions until then.
#[derive(Clone, PartialEq, Debug)]
pub struct Pause {
    pub since: Moment,
    pub until: Moment,
    pub hold: Hold,
    /// Who asked: `uid 0 (root)`.
    pub by: Arc<str>,
}

/// What becomes of what is in force when a pause begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// It is undone.
    Undo,
    /// It stays, and may only become weaker.
    Keep,
}

/// A knob that an operator undid: no rule turns it.
#[derive(Clone, PartialEq, Debug)]
pub struct Undone {
    /// The action that was undone, by which `resume` names it.
    pub id: ActionId,
    pub knob: Knob,
    /// What was undone, for people.
    pub mitigation: Mitigation,
    pub since: Moment,
    pub by: Arc<str>,
    /// Since when no rule that could want it does.
    pub quiet_since: Option<Moment>,
}

impl Orders {
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether what is in force stays although nothing new is done.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.hold == Hold::Keep)
    }

    #[must_use]
    pub fn is_undone(&self, knob: &Knob) -> bool {
        self.undone.iter().any(|undone| undone.knob == *knob)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pause.is_none() && self.undone.is_empty()
    }

    /// The newest order on a knob is the one that counts.
    pub fn note(&mut self, undone: Undone) {
        self.undone.retain(|known| known.knob != undone.knob);
        self.undone.push(undone);
    }

    /// Ends a pause whose time is over.
    pub fn end_pause(&mut self, now: Moment) -> Option<Pause> {
        self.pause.take_if(|pause| now >= pause.until)
    }

    /// Gives back the knobs whose rules have been quiet for long enough.
    pub fn hand_back(&mut self, now: Moment, is_wanted: impl Fn(&Knob) -> bool) -> Vec<Undone> {
        let mut over = Vec::new();
        self.undone.retain_mut(|undone| {
            if is_wanted(&undone.knob) {
                undone.quiet_since = None;
                return true;
            }
            let since = *undone.quiet_since.get_or_insert(now);
            let stays = now.since(since) < QUIET_FOR;
            if !stays {
                over.push(undone.clone());
            }
            stays
        });
        over
    }

    /// Gives these back, or all where none is named; which they were.
    pub fn resume(&mut self, ids: &[ActionId]) -> Vec<Undone> {
        let (back, kept) = self.undone.drain(..).partition(|undone| ids.is_empty() || ids.contains(&undone.id));
        self.undone = kept;
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::{Amount, Verb};

    fn undone(id: u64, target: &str) -> Undone {
        let mitigation = Mitigation { control: target.into(), verb: Verb::Throttle, amount: Amount::Whole };
        let knob = Knob { target: target.into(), verb: Verb::Throttle };
        Undone { id: ActionId(id), knob, mitigation, since: Moment::ORIGIN, by: "uid 0".into(), quiet_since: None }
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_knob_is_the_operators_until_its_rules_were_quiet_for_ten_minutes() {
        let mut orders = Orders::default();
        orders.note(undone(1, "edge"));
        assert!(orders.hand_back(at(0), |_| false).is_empty());
        assert!(orders.hand_back(at(599), |_| true).is_empty(), "wanted again");
        assert!(orders.hand_back(at(700), |_| false).is_empty(), "counted anew");
        assert_eq!(orders.hand_back(at(1300), |_| false).len(), 1);
        assert!(orders.is_empty());
    }

    #[test]
    fn resume_names_the_action_that_was_undone() {
        let mut orders = Orders::default();
        orders.note(undone(1, "edge"));
        orders.note(undone(2, "cache"));
        orders.note(undone(3, "cache"));
        assert_eq!(orders.undone.len(), 2);
        assert_eq!(orders.resume(&[ActionId(3)]).len(), 1);
        assert_eq!(orders.resume(&[]).len(), 1);
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let pause = Pause { since: at(0), until: at(60), hold: Hold::Keep, by: "uid 0".into() };
        let mut orders = Orders { pause: Some(pause), ..Orders::default() };
        assert!(orders.end_pause(at(59)).is_none() && orders.holds());
        assert!(orders.end_pause(at(60)).is_some() && !orders.is_paused());
    }
}
