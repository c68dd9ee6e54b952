//! When a knob may be tried again: the one place that knows. What failed is tried again with growing pauses; what was so
//! before us is tried again only for more. Whose a knob is, is none of its business (`orders.rs`), and nothing here has to
//! outlive a restart.

use std::time::Duration;

use super::action::pause_after;
use super::mitigation::{Amount, Knob};
use super::moment::Moment;

#[derive(Clone, Debug, Default)]
pub(crate) struct Retries {
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct Block {
    knob: Knob,
    until: Moment,
    tries: u32,
    why: Why,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Why {
    /// It could not be done.
    Failed,
    /// The target or something of ours at it forbids it.
    Refused,
    /// That much was so before us: only more than that is worth another try.
    Already(Amount),
}

impl Retries {
    /// Whether turning this knob as strongly as that has to wait.
    #[must_use]
    pub(crate) fn must_wait(&self, now: Moment, knob: &Knob, amount: Amount) -> bool {
        let block = self.blocks.iter().find(|block| block.knob == *knob);
        block.is_some_and(|block| match block.why {
            Why::Already(known) if amount.is_stronger_than(known) => false,
            Why::Failed | Why::Refused | Why::Already(_) => now < block.until,
        })
    }

    /// Leaves a knob alone for a growing while, but at least so long.
    pub(crate) fn failed(&mut self, now: Moment, knob: &Knob, least: Duration) {
        let block = self.block_of(knob);
        block.until = now + pause_after(block.tries).max(least);
        block.tries += 1;
        block.why = Why::Failed;
    }

    /// The same of what is not to be tried again before something changes.
    pub(crate) fn refused(&mut self, now: Moment, knob: &Knob, least: Duration) {
        self.failed(now, knob, least);
        self.block_of(knob).why = Why::Refused;
    }

    /// Something of ours is gone: what was refused because of it, or was so by it already, need not wait any longer.
    pub(crate) fn something_ended(&mut self, now: Moment) {
        let by_ours = |block: &&mut Block| block.why != Why::Failed;
        self.blocks.iter_mut().filter(by_ours).for_each(|block| block.until = now);
    }

    /// There is nothing to do as strongly as that: a small limit is not lowered by a tenth of it.
    pub(crate) fn already(&mut self, now: Moment, knob: &Knob, amount: Amount, least: Duration) {
        self.failed(now, knob, least);
        self.block_of(knob).why = Why::Already(amount);
    }

    /// It worked, or an operator gives it back.
    pub(crate) fn forget(&mut self, knob: &Knob) {
        self.blocks.retain(|block| block.knob != *knob);
    }

    /// This target can be used again.
    pub(crate) fn usable(&mut self, target: &str) {
        self.blocks.retain(|block| *block.knob.target != *target);
    }

    /// Forgets the knobs that no rule wants.
    pub(crate) fn keep(&mut self, is_wanted: impl Fn(&Knob) -> bool) {
        self.blocks.retain(|block| is_wanted(&block.knob));
    }

    fn block_of(&mut self, knob: &Knob) -> &mut Block {
        let at = self.blocks.iter().position(|block| block.knob == *knob).unwrap_or_else(|| {
            self.blocks.push(Block { knob: knob.clone(), until: Moment::ORIGIN, tries: 0, why: Why::Failed });
            self.blocks.len() - 1
        });
        &mut self.blocks[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Verb;

    fn knob() -> Knob {
        Knob { target: "edge".into(), verb: Verb::Throttle }
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn what_failed_is_tried_again_with_growing_pauses() {
        let mut retries = Retries::default();
        for pause in [1, 2, 4] {
            retries.failed(at(0), &knob(), Duration::ZERO);
            assert!(retries.must_wait(at(pause - 1), &knob(), Amount::Whole));
            assert!(!retries.must_wait(at(pause), &knob(), Amount::Whole));
        }
        retries.forget(&knob());
        retries.failed(at(0), &knob(), Duration::ZERO);
        assert!(!retries.must_wait(at(1), &knob(), Amount::Whole), "from the beginning");
    }

    #[test]
    fn what_was_refused_waits_for_the_end_of_something_else() {
        let mut retries = Retries::default();
        retries.refused(at(0), &knob(), Duration::from_secs(60));
        assert!(retries.must_wait(at(59), &knob(), Amount::Whole));
        retries.something_ended(at(5));
        assert!(!retries.must_wait(at(5), &knob(), Amount::Whole));
        retries.failed(at(5), &knob(), Duration::from_secs(60));
        retries.something_ended(at(6));
        assert!(retries.must_wait(at(6), &knob(), Amount::Whole), "that has another reason");
    }

    #[test]
    fn more_than_what_was_so_before_is_tried_at_once() {
        let mut retries = Retries::default();
        retries.already(at(0), &knob(), Amount::Keep(90.0), Duration::from_secs(60));
        assert!(retries.must_wait(at(1), &knob(), Amount::Keep(90.0)));
        assert!(!retries.must_wait(at(1), &knob(), Amount::Keep(50.0)));
    }
}
