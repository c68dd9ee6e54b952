//! Recorded or hand-written samples through the real policy, with simulated time and simulated answers. It prints what
//! the live daemon would decide and never touches a control; it is how users test their rules, and how we test ours.

pub(crate) mod trace;

use std::fmt::Write as _;
use std::time::Duration;

use crate::policy::guardian::{Decisions, Guardian, Input};
use crate::policy::mitigation::{ActionId, Answered, Command, Outcome, Report};
use crate::policy::moment::Moment;
use crate::policy::plan::Plan;
use crate::policy::sample::Sample;
use crate::policy::spacing::Spacing;
use std::sync::Arc;
use trace::{Answer, Happening, Trace};

/// What a real control takes is a few milliseconds; this is long enough to tell before from after in the output.
const ANSWER_AFTER: Duration = Duration::from_millis(5);

/// The decisions of a whole trace, one line each: the moment, then the sentence that the daemon would log; commands
/// are marked with `->`.
#[must_use]
pub(crate) fn replay(mut plan: Plan, trace: &Trace) -> String {
    // Between the lines of a trace without a pace everything stayed as they say.
    plan.policy.spacing = trace.every.map_or(Spacing::ANY, Spacing::every);
    let mut player = Player::new(plan, trace);
    for line in &trace.lines {
        player.advance_to(line.at, trace.every);
        player.happen(line.at, &line.happening);
    }
    player.answer_until(Moment::at(Duration::MAX));
    player.text
}

struct Player {
    guardian: Guardian,
    sample: Sample,
    out: Decisions,
    /// Nothing is sampled until the next line.
    asleep: bool,
    /// Answers under way, by when they arrive.
    under_way: Vec<(Moment, Report)>,
    answers: Vec<Answer>,
    next_tick: Moment,
    text: String,
}

impl Player {
    fn new(plan: Plan, trace: &Trace) -> Self {
        let start = trace.lines.first().map_or(Moment::ORIGIN, |line| line.at);
        let mut out = Decisions::default();
        let guardian = Guardian::new(start, Arc::new(plan), Vec::new(), ActionId(1), &mut out);
        Self {
            guardian,
            sample: Sample::new(start),
            out,
            asleep: false,
            under_way: Vec::new(),
            answers: Vec::new(),
            next_tick: start,
            text: String::new(),
        }
    }

    /// Ticks up to, not including, `moment`.
    fn advance_to(&mut self, moment: Moment, every: Option<Duration>) {
        let Some(every) = every.filter(|_| !self.asleep) else {
            self.next_tick = moment;
            return self.answer_until(moment);
        };
        while self.next_tick < moment {
            let now = self.next_tick;
            self.answer_until(now);
            self.tick(now);
            self.next_tick = now + every;
        }
        self.answer_until(moment);
        self.next_tick = moment;
    }

    fn happen(&mut self, now: Moment, happening: &Happening) {
        self.asleep = matches!(happening, Happening::Asleep);
        self.sample.at = now;
        match happening {
            Happening::Readings(readings) => {
                for reading in readings {
                    reading.put(&mut self.sample);
                }
                self.tick(now);
                self.next_tick = now + Duration::from_nanos(1);
            }
            Happening::Answer(answer) => {
                self.answers.retain(|known| !known.same_place(answer));
                self.answers.push(answer.clone());
            }
            Happening::Asleep => {}
            Happening::Undo => self.step(now, Input::Undo { ids: &[], by: "the trace".into() }),
            Happening::Stop => self.step(now, Input::Stopping),
        }
    }

    fn tick(&mut self, now: Moment) {
        self.sample.at = now;
        let sample = std::mem::take(&mut self.sample);
        self.step(now, Input::Sampled(&sample));
        self.sample = sample;
    }

    /// Delivers the answers that arrive before `moment`, in their order.
    fn answer_until(&mut self, moment: Moment) {
        while let Some(at) = self.under_way.iter().position(|(due, _)| *due < moment) {
            let (due, report) = self.under_way.remove(at);
            self.step(due, Input::Reported(report));
        }
    }

    fn step(&mut self, now: Moment, input: Input<'_>) {
        self.guardian.step(now, input, &mut self.out);
        for event in self.out.events.drain(..) {
            self.text.push_str(&line(now, &event.to_string()));
        }
        for command in std::mem::take(&mut self.out.commands) {
            if !matches!(command, Command::Verify { .. }) {
                self.text.push_str(&line(now, &format!("-> {command}")));
            }
            self.under_way.push((now + ANSWER_AFTER, self.answer(&command)));
        }
    }

    fn answer(&self, command: &Command) -> Report {
        let answered = match command {
            Command::Apply { .. } => Answered::Apply,
            Command::Verify { .. } => Answered::Verify,
            Command::Undo { .. } | Command::Forget { .. } => Answered::Undo,
        };
        let knob = self.guardian.mitigation_of(command.id());
        let told = knob.and_then(|knob| self.answers.iter().find(|answer| answer.is_for(knob, answered)));
        Report {
            id: command.id(),
            answered,
            outcome: told.map_or(Outcome::Applied, |answer| answer.outcome),
            detail: "simulated".into(),
            took: ANSWER_AFTER,
            freed_bytes: None,
            theirs: None,
        }
    }
}

fn line(now: Moment, text: &str) -> String {
    let mut line = String::new();
    // Writing to a string cannot fail.
    writeln!(line, "{:>10.3}  {text}", now.seconds()).ok();
    line
}
