//! What was done of late that lost something, so that it is not done again too soon. A rule knows that of its own steps by
//! itself; this is for another rule that would do the same, for a step that a reload took out and put back, and for the
//! guardian's next life, which would else flush or end something at each start in the same trouble. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::mitigation::Knob;
use super::moment::Moment;

/// More of them at once nobody has; the newest count.
const MOST: usize = 64;
/// One of a rule that is not there is kept as long: with a typo, another configuration is guarded by for a while.
const KEPT_WITHOUT_RULE: Duration = Duration::from_secs(3600);

#[derive(Clone, PartialEq, Debug)]
pub struct Loss {
    pub rule: Arc<str>,
    /// As it was called: where its address is written differently, the loss follows it. Empty where an earlier version kept
    /// it.
    pub control: Arc<str>,
    pub knob: Knob,
    pub at: Moment,
    known: Known,
}

/// Whether the rule whose deed it was knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// By its own step.
    ToTheRule,
    /// No more, and the rule has not been seen to be clear since: it may be the same firing.
    OnlyHere,
    /// No more, and the rule was clear since.
    OnlyHereAndClear,
}

impl Loss {
    #[must_use]
    pub const fn new(rule: Arc<str>, control: Arc<str>, knob: Knob, at: Moment) -> Self {
        Self { rule, control, knob, at, known: Known::ToTheRule }
    }
}

/// What the rules make of it now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    /// The rule whose deed it was.
    pub is_clear: bool,
    /// The longest of all rules that could do the same.
    pub cooldown: Duration,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Losses {
    /// Oldest first.
    list: Vec<Loss>,
}

impl Losses {
    #[must_use]
    pub const fn of(list: Vec<Loss>) -> Self {
        Self { list }
    }

    #[must_use]
    pub(crate) const fn all(&self) -> &[Loss] {
        self.list.as_slice()
    }

    pub(crate) fn note(&mut self, loss: Loss) {
        self.list.retain(|known| known.knob != loss.knob || known.rule != loss.rule);
        self.list.push(loss);
        let excess = self.list.len().saturating_sub(MOST);
        self.list.drain(..excess);
    }

    /// It turned out that nothing was lost.
    pub(crate) fn take_back(&mut self, rule: &str, knob: &Knob) {
        self.list.retain(|known| known.knob != *knob || *known.rule != *rule);
    }

    /// Those that `is_known` says no of are known by nothing else any more: the guardian begins anew, or a reload took the
    /// step.
    pub(crate) fn unless_known(&mut self, is_known: impl Fn(&Loss) -> bool) {
        let forgotten = |loss: &&mut Loss| loss.known == Known::ToTheRule && !is_known(loss);
        self.list.iter_mut().filter(forgotten).for_each(|loss| loss.known = Known::OnlyHere);
    }

    pub(crate) fn each_knob(&mut self, change: impl Fn(&mut Knob)) {
        self.list.iter_mut().for_each(|loss| change(&mut loss.knob));
    }

    /// Those of before these.
    pub(crate) fn join(&mut self, mut earlier: Self) {
        for loss in self.list.drain(..) {
            earlier.note(loss);
        }
        *self = earlier;
    }

    /// After a look at all rules: forgets what forbids nothing any more. `None`: there is no such rule now.
    pub(crate) fn judge(&mut self, now: Moment, standing: impl Fn(&Loss) -> Option<Standing>) {
        self.list.retain_mut(|loss| {
            let Some(Standing { is_clear, cooldown }) = standing(loss) else {
                return now < loss.at + KEPT_WITHOUT_RULE;
            };
            if is_clear && loss.known == Known::OnlyHere {
                loss.known = Known::OnlyHereAndClear;
            }
            let is_open = loss.known == Known::OnlyHere || loss.known == Known::ToTheRule && !is_clear;
            is_open || now < loss.at + cooldown
        });
    }

    /// Whether this is too early to do it again: it was done within the rule's cooldown, whoever's deed it was, or in what
    /// may be the same firing. What the rule knows of its own steps is left to the rule.
    #[must_use]
    pub(crate) fn forbid(&self, now: Moment, rule: &str, knob: &Knob, cooldown: Duration) -> bool {
        self.list.iter().filter(|loss| loss.knob == *knob).any(|loss| {
            let is_recent = now < loss.at + cooldown;
            match loss.known {
                Known::ToTheRule => *loss.rule != *rule && is_recent,
                Known::OnlyHere => *loss.rule == *rule || is_recent,
                Known::OnlyHereAndClear => is_recent,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Verb;

    const COOLDOWN: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    fn knob(target: &str) -> Knob {
        Knob { target: target.into(), verb: Verb::Flush }
    }

    fn judged(losses: &mut Losses, now: Moment, is_clear: bool) -> (bool, usize) {
        losses.judge(now, |loss| (&*loss.rule == "short").then_some(Standing { is_clear, cooldown: COOLDOWN }));
        (losses.forbid(now, "short", &knob("a"), COOLDOWN), losses.all().len())
    }

    #[test]
    fn only_what_an_earlier_guardian_did_forbids_it() {
        let mut losses = Losses::default();
        losses.note(Loss::new("short".into(), "cache".into(), knob("a"), at(100)));
        assert_eq!(judged(&mut losses, at(101), false), (false, 1));
        losses.unless_known(|_| false);
        // The same firing, for as long as it takes.
        assert_eq!(judged(&mut losses, at(900), false), (true, 1));
        assert!(!losses.forbid(at(900), "short", &knob("b"), COOLDOWN));
        assert!(!losses.forbid(at(900), "other", &knob("a"), COOLDOWN));
        assert_eq!(judged(&mut losses, at(901), true), (false, 0));
    }

    #[test]
    fn another_rule_waits_for_its_own_cooldown_before_it_does_the_same() {
        let mut losses = Losses::default();
        losses.note(Loss::new("short".into(), "cache".into(), knob("a"), at(100)));
        assert!(losses.forbid(at(159), "other", &knob("a"), COOLDOWN), "it was done just now");
        assert!(!losses.forbid(at(159), "other", &knob("b"), COOLDOWN));
        assert!(!losses.forbid(at(160), "other", &knob("a"), COOLDOWN));
        losses.unless_known(|_| true);
        assert!(!losses.forbid(at(101), "short", &knob("a"), COOLDOWN), "a ladder that has it twice means it");
    }

    #[test]
    fn once_its_rule_was_clear_the_cooldown_counts_from_the_deed() {
        let mut losses = Losses::default();
        losses.note(Loss::new("short".into(), "cache".into(), knob("a"), at(100)));
        losses.unless_known(|_| false);
        assert_eq!(judged(&mut losses, at(110), true), (true, 1));
        assert_eq!(judged(&mut losses, at(159), false), (true, 1));
        assert_eq!(judged(&mut losses, at(160), false), (false, 0));
    }

    #[test]
    fn there_are_never_many_and_the_newest_count() {
        let mut losses = Losses::default();
        for n in 0..1000 {
            losses.note(Loss::new("short".into(), "cache".into(), knob(&n.to_string()), at(n)));
            losses.note(Loss::new("short".into(), "cache".into(), knob(&n.to_string()), at(n)));
        }
        assert_eq!((losses.all().len(), losses.all()[MOST - 1].at), (MOST, at(999)));
        let mut newer = Losses::default();
        newer.note(Loss::new("short".into(), "cache".into(), knob("999"), at(2000)));
        newer.join(losses);
        assert_eq!((newer.all().len(), newer.all()[MOST - 1].at), (MOST, at(2000)));
        newer.judge(at(2000), |_| None);
        assert_eq!(newer.all().len(), MOST, "a typo may be mended");
        newer.judge(at(2000) + KEPT_WITHOUT_RULE, |_| None);
        assert!(newer.all().is_empty(), "its rule is gone");
    }

    #[test]
    fn what_was_not_begun_forbids_nothing() {
        let mut losses = Losses::default();
        losses.note(Loss::new("short".into(), "cache".into(), knob("a"), at(100)));
        losses.note(Loss::new("short".into(), "cache".into(), knob("b"), at(100)));
        losses.take_back("short", &knob("a"));
        losses.take_back("other", &knob("b"));
        losses.unless_known(|_| false);
        assert!(!losses.forbid(at(101), "short", &knob("a"), COOLDOWN));
        assert!(losses.forbid(at(101), "short", &knob("b"), COOLDOWN));
    }
}
