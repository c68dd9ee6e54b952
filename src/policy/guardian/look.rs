//! A look at the node: each rule is evaluated, and what fires takes its next steps.

use std::sync::Arc;
use std::time::Duration;

use super::super::event::{Event, Mode, ModeReason};
use super::super::life::{Life, Turn};
use super::super::metric::Metric;
use super::super::mitigation::Level;
use super::super::mode::Relapse;
use super::super::moment::Moment;
use super::super::program::Program;
use super::super::sample::Sample;
use super::super::verdict::Verdict;
use super::super::view::State;
use super::stand_down::Stand;
use super::{Decisions, Guardian};

impl Guardian {
    pub(super) fn look(&mut self, now: Moment, sample: &Sample, out: &mut Decisions) {
        self.has_looked = true;
        let passed = self.slots.refresh(sample);
        if !passed.unseen.is_zero() {
            self.stands.iter_mut().for_each(|stand| stand.skip(passed.unseen));
            self.lives.iter_mut().for_each(Life::lose_proof);
            self.in_force.went_unwatched(now);
        }
        self.memory_total = total_of(sample);
        self.services.watch(sample);
        self.troubles.watch(sample);
        let plan = Arc::clone(&self.plan);
        self.mode.pass(now, &plan.policy.emergency);
        self.pass_pause(now, out);
        if plan.policy.level == Level::Disabled || self.stopping {
            return;
        }
        let mut fires = false;
        for rule in 0..self.lives.len() {
            fires |= self.evaluate(now, rule, out) == State::Firing;
        }
        if !fires {
            self.troubles.rest();
        }
        self.pass_orders(now, passed.watched, out);
        if fires && !self.orders.is_paused() {
            self.press_all(now, sample, out);
        }
        self.keep_stands(now, passed.watched);
    }

    fn press_all(&mut self, now: Moment, sample: &Sample, out: &mut Decisions) {
        let plan = Arc::clone(&self.plan);
        for rule in 0..self.lives.len() {
            if self.lives[rule].state() == State::Firing {
                let programs = &plan.programs()[rule];
                self.troubles.find(rule, &programs.spots, &programs.when, self.slots.readings(), sample);
                self.press(now, rule, out);
            }
        }
    }

    /// What a firing rule does at each look: hold what it has to what is needed, take what is due, or stand down.
    fn press(&mut self, now: Moment, rule: usize, out: &mut Decisions) {
        self.watch_stand(now, rule, out);
        if self.stands[rule].gives_back() && !self.stands[rule].is_resumed() {
            return;
        }
        self.aim_again(now, rule);
        self.climb(now, rule, out);
        self.revisit(now, rule, out);
    }

    /// One rule against what was just read; answers the state that it is in then.
    fn evaluate(&mut self, now: Moment, index: usize, out: &mut Decisions) -> State {
        let readings = self.slots.readings();
        let programs = &self.plan.programs()[index];
        let life = &mut self.lives[index];
        life.see(programs.when.evaluate(readings, &mut self.stack));
        if life.when() == Verdict::False && life.state() == State::Quiet {
            life.rest(now);
            return State::Quiet;
        }
        life.see_clear(match &programs.clear {
            Some(clear) => clear.evaluate(readings, &mut self.stack),
            None => Some(opposite(life.when())),
        });
        let was = self.lives[index].state();
        let turn = self.lives[index].advance(now, &self.plan.rules()[index], self.plan.programs()[index].patience);
        if turn == Turn::Cleared {
            self.judge_cleared(now, index, out);
            self.stands[index] = Stand::default();
        }
        if turn == Turn::Pending || turn == Turn::Fired && was != State::Pending {
            out.crossed = out.crossed.max(Some(self.since_crossing(now, index)));
        }
        self.tell_turn(index, turn, out);
        match turn {
            Turn::Fired => {
                self.begin_ladder(now, index);
                self.take_up_stand(now, index, out);
                // What comes back before its cooldown is over is the same trouble: the hold grows.
                let relapse = if was == State::Cooling { Relapse::Yes } else { Relapse::No };
                self.fired(now, index, relapse, out);
            }
            Turn::Relapsed => {
                self.reclaim(now, index);
                self.fired(now, index, Relapse::Yes, out);
            }
            // What fires already may be an emergency only since a reload.
            Turn::None if self.mode.mode() != Mode::Emergency => self.fired(now, index, Relapse::No, out),
            Turn::None | Turn::Pending | Turn::Relented | Turn::Cleared | Turn::Quiet | Turn::Blind | Turn::Sees => {}
        }
        self.lives[index].state()
    }

    /// The last comparison to hold made the condition hold. Nothing where it held before, and was only seen just now.
    fn since_crossing(&self, now: Moment, index: usize) -> Duration {
        let comparisons = self.plan.programs()[index].when.comparisons();
        comparisons.filter_map(|compare| self.slots.crossed(compare, now)).min().unwrap_or_default()
    }

    fn tell_turn(&self, index: usize, turn: Turn, out: &mut Decisions) {
        if turn == Turn::None {
            return;
        }
        let plan = Arc::clone(&self.plan);
        let rule = Arc::clone(&plan.rules()[index].name);
        let programs = &plan.programs()[index];
        let reasons = |wanted| plan.reasons(&programs.when, self.slots.readings(), wanted);
        out.events.push(match turn {
            Turn::None => return,
            Turn::Pending => {
                Event::Pending { rule, hold_for: plan.rules()[index].hold_for, because: reasons(Verdict::True) }
            }
            Turn::Relented => Event::Relented { rule },
            Turn::Fired => {
                Event::Fired { rule, severity: plan.rules()[index].severity, because: reasons(Verdict::True) }
            }
            Turn::Relapsed => {
                Event::Relapsed { rule, severity: plan.rules()[index].severity, because: reasons(Verdict::True) }
            }
            Turn::Cleared => Event::Cleared {
                rule,
                because: match &programs.clear {
                    Some(clear) => plan.reasons(clear, self.slots.readings(), Verdict::True),
                    None => format!("no longer {}", reasons(Verdict::False)),
                },
            },
            Turn::Quiet => Event::Quiet { rule },
            Turn::Blind => Event::Blind { rule, missing: plan.missing(self.awaited(index), self.slots.readings()) },
            Turn::Sees => Event::Sees { rule },
        });
    }

    /// The condition that the rule's state waits for.
    fn awaited(&self, index: usize) -> &Program {
        let programs = &self.plan.programs()[index];
        let clears = (self.lives[index].state() == State::Firing).then_some(programs.clear.as_ref()).flatten();
        clears.unwrap_or(&programs.when)
    }

    fn begin_ladder(&mut self, now: Moment, index: usize) {
        for step in 0..self.plan.rules()[index].steps.len() {
            self.steps[self.plan.flat_step(index, step)].begin();
        }
        self.stands[index] = Stand::since(now, self.long_growth(index));
    }

    fn fired(&mut self, now: Moment, index: usize, relapse: Relapse, out: &mut Decisions) {
        let rule = &self.plan.rules()[index];
        if !self.alarms(index) {
            return;
        }
        let why = ModeReason::Rule(Arc::clone(&rule.name));
        let emergency = self.plan.policy.emergency;
        let from = self.mode.mode();
        self.mode.alarm(now, relapse, &emergency);
        if from != Mode::Emergency {
            out.events.push(Event::Mode { from, to: Mode::Emergency, why });
        }
    }
}

fn opposite(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::True => Verdict::False,
        Verdict::False => Verdict::True,
        Verdict::Unknown => Verdict::Unknown,
    }
}

/// The vocabulary has no total of its own: it follows from the share and the bytes that are available.
fn total_of(sample: &Sample) -> Option<f64> {
    let percent = sample.get(Metric::MemoryAvailablePercent).filter(|percent| *percent > 0.0)?;
    Some(sample.get(Metric::MemoryAvailableBytes)? * 100.0 / percent)
}
