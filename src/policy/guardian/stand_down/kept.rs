//! Standing down over a restart: what is known is kept with the operator's orders, and a rule that fires again in the same
//! trouble takes nothing that costs users before its pause is over, or it gets much worse.

use std::sync::Arc;
use std::time::Duration;

use super::super::super::event::Event;
use super::super::super::moment::Moment;
use super::super::super::plan::Plan;
use super::super::super::stood_down::StoodDown;
use super::super::super::verdict::Verdict;
use super::super::super::view::State;
use super::super::{Decisions, Guardian};
use super::{Phase, pause};

impl Guardian {
    /// After a look at all rules, with the time before it that was watched.
    pub(in super::super) fn keep_stands(&mut self, now: Moment, watched: Duration) {
        if self.orders.stood_down().is_empty() && self.stands.iter().all(|stand| stand.down_since.is_none()) {
            return;
        }
        let mine: Vec<StoodDown> = (0..self.stands.len()).filter_map(|index| self.stood_down(index)).collect();
        let (plan, lives) = (&self.plan, &self.lives);
        let (readings, stack) = (self.slots.readings(), &mut self.stack);
        let clear_for = |rule: &str| {
            let index = plan.rule_named(rule).filter(|index| lives[*index].state() == State::Quiet)?;
            let clear = plan.programs()[index].is_clear(lives[index].when(), readings, stack);
            (clear == Verdict::True).then(|| plan.rules()[index].clear_for)
        };
        self.orders.stood_down_mut().pass(now, watched, clear_for, mine.into_iter());
    }

    /// Nothing where no user was ever refused for it.
    fn stood_down(&self, index: usize) -> Option<StoodDown> {
        let (stand, rule) = (&self.stands[index], &self.plan.rules()[index]);
        let since = stand.down_since.filter(|_| stand.has_tested && !rule.dry_run && !self.plan.policy.dry_run)?;
        let read = match &stand.phase {
            Phase::Down { from, .. } => from.as_ref().map(|mark| (mark.name().into(), mark.value())),
            Phase::Climbing | Phase::Testing { .. } => None,
        };
        Some(StoodDown {
            rule: Arc::clone(&rule.name),
            ladder: ladder(&self.plan, index),
            since,
            tries: stand.tries,
            until: stand.retries_at().unwrap_or(stand.since),
            retries: stand.retries_at().is_none(),
            read,
        })
    }

    /// A rule begins to fire that had stood down before a restart.
    pub(in super::super) fn take_up_stand(&mut self, now: Moment, index: usize, out: &mut Decisions) {
        let rule = Arc::clone(&self.plan.rules()[index].name);
        let Some(known) = self.orders.stood_down_mut().take(&rule) else { return };
        let is_same = known.ladder == ladder(&self.plan, index);
        let from = self.metric_of(index).map(|mark| mark.since(known.read.as_ref()));
        let stand = &mut self.stands[index];
        (stand.down_since, stand.tries, stand.has_tested) = (Some(known.since), known.tries, true);
        let mut until = known.until;
        if known.retries {
            // Nobody saw the end of that try. Starts that follow each other must not be a try each.
            until = now + pause(stand.tries);
            stand.tries += 1;
        }
        if is_same && now < until {
            (stand.phase, stand.resumed) = (Phase::Down { from, until }, true);
            out.events.push(Event::StoodDown { rule, retry_in: until.since(now) });
        }
    }
}

/// Other steps, or another level, can be tried.
fn ladder(plan: &Plan, index: usize) -> u32 {
    let steps = plan.rules()[index].steps.iter().map(|step| step.mitigation.to_string());
    crc32fast::hash(format!("{} {}", plan.policy.level, steps.collect::<Vec<_>>().join(", ")).as_bytes())
}
