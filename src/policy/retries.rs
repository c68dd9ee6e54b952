//! When a knob may be tried again: the one place that knows. What somebody else set is left alone until no rule wants the
//! knob; what failed is tried again with growing pauses; what was so before us is tried again only for more.

use std::time::Duration;

use super::action::pause_after;
use super::mitigation::{Amount, Knob};
use super::moment::Moment;

#[derive(Clone, Debug, Default)]
pub struct Retries {
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
    /// That much was so before us: only more than that is worth another try.
    Already(Amount),
    /// Somebody else set it: it stays theirs until no rule wants it any more.
    Overridden,
}

/// Why a knob is not touched for now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocked {
    Failed,
    Overridden,
}

impl Retries {
    /// Whether turning this knob as strongly as that has to wait.
    #[must_use]
    pub fn blocked(&self, now: Moment, knob: &Knob, amount: Amount) -> Option<Blocked> {
        let block = self.blocks.iter().find(|block| block.knob == *knob)?;
        match block.why {
            Why::Overridden => Some(Blocked::Overridden),
            Why::Already(known) if amount.is_stronger_than(known) => None,
            Why::Failed | Why::Already(_) => (now < block.until).then_some(Blocked::Failed),
        }
    }

    #[must_use]
    pub fn is_overridden(&self, knob: &Knob) -> bool {
        self.blocks.iter().any(|block| block.knob == *knob && block.why == Why::Overridden)
    }

    /// Leaves a knob alone for a growing while, but at least so long.
    pub fn failed(&mut self, now: Moment, knob: &Knob, least: Duration) {
        let block = self.block_of(knob);
        block.until = now + pause_after(block.tries).max(least);
        block.tries += 1;
        if block.why != Why::Overridden {
            block.why = Why::Failed;
        }
    }

    /// There is nothing to do as strongly as that: a small limit is not lowered by a tenth of it.
    pub fn already(&mut self, now: Moment, knob: &Knob, amount: Amount, least: Duration) {
        self.failed(now, knob, least);
        let block = self.block_of(knob);
        if block.why != Why::Overridden {
            block.why = Why::Already(amount);
        }
    }

    pub fn overridden(&mut self, knob: &Knob) {
        self.block_of(knob).why = Why::Overridden;
    }

    /// It worked; what is somebody else's stays theirs.
    pub fn worked(&mut self, knob: &Knob) {
        self.blocks.retain(|block| block.why == Why::Overridden || block.knob != *knob);
    }

    /// This target can be used again.
    pub fn usable(&mut self, target: &str) {
        self.blocks.retain(|block| block.why == Why::Overridden || *block.knob.target != *target);
    }

    /// Forgets the knobs that no rule wants.
    pub fn keep(&mut self, is_wanted: impl Fn(&Knob) -> bool) {
        self.blocks.retain(|block| is_wanted(&block.knob));
    }

    /// An operator gives it back.
    pub fn forget(&mut self, knob: &Knob) {
        self.blocks.retain(|block| block.knob != *knob);
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
            assert_eq!(retries.blocked(at(pause - 1), &knob(), Amount::Whole), Some(Blocked::Failed));
            assert_eq!(retries.blocked(at(pause), &knob(), Amount::Whole), None);
        }
        retries.worked(&knob());
        retries.failed(at(0), &knob(), Duration::ZERO);
        assert_eq!(retries.blocked(at(1), &knob(), Amount::Whole), None, "from the beginning");
    }

    #[test]
    fn more_than_what_was_so_before_is_tried_at_once() {
        let mut retries = Retries::default();
        retries.already(at(0), &knob(), Amount::Keep(90.0), Duration::from_secs(60));
        assert_eq!(retries.blocked(at(1), &knob(), Amount::Keep(90.0)), Some(Blocked::Failed));
        assert_eq!(retries.blocked(at(1), &knob(), Amount::Keep(50.0)), None);
    }

    #[test]
    fn what_somebody_else_set_stays_theirs_while_a_rule_wants_it() {
        let mut retries = Retries::default();
        retries.overridden(&knob());
        retries.failed(at(0), &knob(), Duration::ZERO);
        retries.worked(&knob());
        retries.usable("edge");
        assert_eq!(retries.blocked(at(9999), &knob(), Amount::Keep(1.0)), Some(Blocked::Overridden));
        retries.keep(|_| false);
        assert_eq!(retries.blocked(at(9999), &knob(), Amount::Keep(1.0)), None);
    }
}
