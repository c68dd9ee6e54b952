//! What is known for a step, and against it, while everything is in force: a growth that ended with the ladder was held by
//! it; what falls then as it did without a step, or goes on to grow, was not.

use std::sync::Arc;
use std::time::Duration;

use super::super::super::moment::Moment;
use super::super::Guardian;
use super::super::judge::gauged;
use super::super::pressing::Growth;
use super::by_itself::Gauge;
use super::worse::WORSE;

/// The quick trend has forgotten what was before by then: three of its half-lives.
const SHOWS_AFTER: Duration = Duration::from_secs(6);
/// What it does over half a minute, from there on.
const HOLD_SHOWS_AFTER: Duration = Duration::from_secs(36);
/// So long nothing is given back into what was held; where a test says that it was, it doubles.
pub const FIRST_HOLD: Duration = Duration::from_secs(3600);
/// What falls by itself by this share of what a step was believed for was not held by it.
const DISPROVED: f64 = 0.75;
/// Half of a step that held a growth lets half of it go on at least; it is looked at for so long at most.
const SHOWS_HALF: f64 = 0.5;
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// A growth that went on for long, until the ladder came.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    growth: Growth,
    /// Until then nothing is given back into it, and after that slowly.
    until: Moment,
}

impl Held {
    #[must_use]
    pub fn holds(&self, now: Moment) -> bool {
        now < self.until
    }
}

impl Guardian {
    /// What the metric does while everything is in force. Where that is as bad as what a step is believed for, it is not.
    pub(super) fn note_by_itself(&mut self, now: Moment, index: usize) {
        let stand = &self.stands[index];
        let is_at_end = self.lives[index].taken() == self.plan.rules()[index].steps.len();
        let is_all = !stand.gives_back() && (is_at_end || stand.rests.is_some());
        if !is_all || self.is_unsettled(now, index) {
            return self.stands[index].unsettle();
        }
        let since = *self.stands[index].steady.get_or_insert(now);
        if now.since(since) < SHOWS_AFTER {
            return;
        }
        let plan = Arc::clone(&self.plan);
        for (slot, threshold, sign) in plan.programs()[index].when.comparisons().filter_map(gauged) {
            let gauge = Gauge::new(Arc::clone(&plan.operands()[slot]), threshold, sign);
            if let Some(reading) = self.slots.readings()[slot].known().filter(|reading| reading.is_finite()) {
                self.stands[index].by_itself.note(now, &gauge, reading);
            }
        }
        if self.is_disproved(index) {
            self.believe_no_more(index);
        }
    }

    fn is_disproved(&self, index: usize) -> bool {
        let stand = &self.stands[index];
        match (&stand.held, &stand.fell) {
            (Some(held), _) => {
                let falls = |gauge: Gauge| stand.by_itself.fall(&gauge) >= WORSE * gauge.span();
                self.gauge(index).is_some_and(falls) && !held.growth.is_slowed(self.pace(index).unwrap_or_default())
            }
            (None, Some((gauge, by))) => stand.by_itself.fall_lately(gauge) >= by * DISPROVED,
            (None, None) => false,
        }
    }

    fn believe_no_more(&mut self, index: usize) {
        (self.stands[index].held, self.stands[index].fell) = (None, None);
        for step in 0..self.plan.rules()[index].steps.len() {
            let run = &mut self.steps[self.plan.flat_step(index, step)].run;
            if run.needed.take().is_some() {
                run.returned = run.returned.saturating_sub(1);
            }
        }
    }

    pub(super) fn is_unsettled(&self, now: Moment, index: usize) -> bool {
        let mut steps = 0..self.plan.rules()[index].steps.len();
        let awaits = |step: usize| self.in_force.awaits(self.plan.flat_step(index, step)).is_some();
        self.lives[index].settles().is_some_and(|until| now < until) || steps.any(awaits)
    }

    /// The ladder is at its end and has settled. What got worse for long when it began, and does not any more, was held
    /// by it: at once, or late and then only where it stays. A growth of less may have come to its own end: that is tested
    /// like anything else.
    pub(super) fn note_hold(&mut self, now: Moment, index: usize, is_over: bool) {
        let pace = self.pace(index).unwrap_or_default();
        let stand = &mut self.stands[index];
        let (Some(onset), Some(at)) = (stand.onset, stand.exhausted.or(stand.rests)) else { return };
        let shows_at = at + HOLD_SHOWS_AFTER;
        if now < shows_at {
            return;
        }
        let is_first = !std::mem::replace(&mut stand.has_looked, true);
        if is_first && onset.is_slowed(pace) || is_over && onset.is_stopped(pace) {
            stand.held = Some(Held { growth: onset, until: now + FIRST_HOLD });
        }
        if is_over || stand.held.is_some() {
            stand.onset = None;
        }
    }

    /// How long the metric is looked at when a half was given back: where a slow growth may have been held, until it would
    /// show.
    pub(super) fn look_at_half(&self, index: usize) -> Duration {
        let least = self.plan.policy.emergency.undo_interval;
        let pace = self.stands[index].held.map(|held| held.growth.pace());
        let Some((pace, gauge)) = pace.zip(self.gauge(index)) else { return least };
        let room = self.reading(&gauge).map_or(gauge.span(), |(_, reading)| gauge.room(reading));
        let shows = WORSE * room / (pace * SHOWS_HALF);
        least.max(Duration::from_secs_f64(shows.min(LONGEST_LOOK.as_secs_f64())))
    }
}
