//! The services as they really are, each with whoever works for it: one command after the other, what was there before
//! written down before anything is changed, and never anything loosened. It answers as `Outcome` says that controls do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::policy::guardian::Inherited;
use node_guardian::policy::mitigation::{
    ActionId, Amount, Answered, Class, Command, Lasting, Mitigation, Outcome, Report, Verb,
};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::requester::Requester;

use crate::rules::{Setup, target_of};
use crate::story::{Mood, TARGETS};

/// What is not throttled, not drained, not shrunk.
pub const UNTOUCHED: f64 = 100.0;

#[derive(Debug)]
pub struct World {
    pub targets: Vec<Target>,
    pub entries: Vec<Entry>,
}

#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    mood: Mood,
    epoch: u64,
    queue: VecDeque<Waiting>,
    knobs: Vec<Dial>,
}

#[derive(Debug)]
struct Waiting {
    command: Command,
    /// When it is performed, once it is its turn.
    ready: Moment,
}

/// One thing that can be set, and what it would be without us.
#[derive(Debug)]
pub struct Dial {
    pub verb: Verb,
    pub value: f64,
    pub natural: f64,
}

/// What the journal knows of one change.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: ActionId,
    pub mitigation: Mitigation,
    pub rule: Requester,
    pub target: usize,
    epoch: u64,
    prior: f64,
    written: f64,
}

impl World {
    pub fn new() -> Self {
        let target = |name: &&'static str| Target {
            name,
            mood: Mood::Works(Duration::from_millis(5)),
            epoch: 1,
            queue: VecDeque::new(),
            knobs: Vec::new(),
        };
        Self { targets: TARGETS.iter().map(target).collect(), entries: Vec::new() }
    }

    /// What leads to which target is decided when the command is given.
    pub fn give(&mut self, now: Moment, setup: Setup, command: Command) {
        let known = self.entries.iter().find(|entry| entry.id == command.id()).map(|entry| entry.target);
        let at = match (known, &command) {
            (Some(target), _) => target,
            (None, Command::Apply { mitigation, .. }) => place(target_of(setup, &mitigation.control)),
            // What is to be applied first is asked there; else nothing is known of it, and whoever is asked says so.
            (None, other) => self.target_asked(other.id()).unwrap_or(0),
        };
        let target = &mut self.targets[at];
        let after = target.queue.back().map_or(now, |last| last.ready.max(now));
        target.queue.push_back(Waiting { command, ready: after + target.mood.takes() });
    }

    /// The next command that is performed before `until`, with its target.
    pub fn next_due(&mut self, until: Moment) -> Option<(Moment, usize, Command)> {
        let due = |target: &Target| target.queue.front().filter(|_| target.mood != Mood::Hangs).map(|next| next.ready);
        let times = self.targets.iter().map(due).enumerate();
        let (ready, at) = times.filter_map(|(at, ready)| Some((ready?, at))).min()?;
        if ready > until {
            return None;
        }
        let waiting = self.targets[at].queue.pop_front()?;
        Some((ready, at, waiting.command))
    }

    pub fn is_asked(&self, id: ActionId) -> bool {
        self.targets.iter().any(|target| target.queue.iter().any(|waiting| waiting.command.id() == id))
    }

    fn target_asked(&self, id: ActionId) -> Option<usize> {
        let is_of_it = |waiting: &Waiting| waiting.command.id() == id;
        self.targets.iter().position(|target| target.queue.iter().any(is_of_it))
    }

    /// One apply of this action is under way, and nothing else of it.
    pub fn is_asked_to_apply_alone(&self, id: ActionId) -> bool {
        let of_it = self.targets.iter().flat_map(|target| &target.queue).filter(|waiting| waiting.command.id() == id);
        let commands: Vec<_> = of_it.map(|waiting| &waiting.command).collect();
        matches!(commands[..], [Command::Apply { .. }])
    }

    /// Commands under way that lose something.
    pub fn losing(&self) -> usize {
        let loses =
            |waiting: &&Waiting| matches!(&waiting.command, Command::Apply { class, .. } if *class >= Class::Lossy);
        self.targets.iter().map(|target| target.queue.iter().filter(loses).count()).sum()
    }

    /// From now on; what waits is done in its turn.
    pub fn change_mood(&mut self, now: Moment, name: &str, mood: Mood) {
        let target = &mut self.targets[place(name)];
        target.mood = mood;
        for waiting in &mut target.queue {
            waiting.ready = waiting.ready.max(now);
        }
    }

    pub fn works_again(&mut self, now: Moment) {
        for name in TARGETS {
            self.change_mood(now, name, Mood::Works(Duration::from_millis(5)));
        }
    }

    pub fn is_set(&mut self, name: &str, verb: Verb, value: f64) {
        let dial = self.dial(place(name), verb);
        (dial.value, dial.natural) = (value, value);
    }

    pub fn restarts(&mut self, name: &str) {
        let target = &mut self.targets[place(name)];
        target.epoch += 1;
        target.knobs.clear();
    }

    /// The guardian is gone, and with it what was under way.
    pub fn forget_commands(&mut self) {
        self.targets.iter_mut().for_each(|target| target.queue.clear());
    }

    /// What the journal holds.
    pub fn inherited(&self) -> Vec<Inherited> {
        let told = |entry: &Entry| Inherited {
            id: entry.id,
            mitigation: entry.mitigation.clone(),
            rule: entry.rule.clone(),
            target: TARGETS[entry.target].into(),
            changed: "".into(),
            age: Duration::ZERO,
        };
        self.entries.iter().map(told).collect()
    }

    /// Does it, or not, and answers.
    pub fn perform(&mut self, at: usize, command: &Command) -> Report {
        let (answered, outcome) = match command {
            Command::Apply { id, mitigation, rule, .. } if mitigation.verb.lasting() == Lasting::InForce => {
                (Answered::Apply, self.apply(at, *id, mitigation, rule))
            }
            Command::Apply { .. } => (Answered::Apply, self.targets[at].mood.of_once()),
            Command::Verify { id, .. } => (Answered::Verify, self.verify(at, *id)),
            Command::Undo { id } => (Answered::Undo, self.undo(at, *id)),
            Command::Forget { id } => {
                self.forget(*id);
                (Answered::Undo, Outcome::Already)
            }
        };
        report(command.id(), answered, outcome)
    }

    fn apply(&mut self, at: usize, id: ActionId, mitigation: &Mitigation, rule: &Requester) -> Outcome {
        let mood = self.targets[at].mood;
        if let Mood::Fails(outcome) = mood {
            return outcome;
        }
        let wanted = value_of(mitigation);
        let epoch = self.targets[at].epoch;
        let present = self.dial(at, mitigation.verb).value;
        match self.entries.iter_mut().find(|entry| entry.id == id) {
            Some(entry) if entry.epoch != epoch => {
                self.entries.retain(|entry| entry.id != id);
                return Outcome::EpochChanged;
            }
            Some(entry) if present != entry.written && present != entry.prior => {
                self.entries.retain(|entry| entry.id != id);
                return Outcome::Overridden;
            }
            // Never looser than what was there before.
            Some(entry) if mood != Mood::LosesUnheard => {
                entry.written = wanted.min(entry.prior);
                entry.mitigation = mitigation.clone();
                let written = entry.written;
                self.dial(at, mitigation.verb).value = written;
            }
            Some(_) => {}
            None if present <= wanted => return Outcome::Already,
            None => {
                let (mitigation, rule) = (mitigation.clone(), rule.clone());
                let verb = mitigation.verb;
                let entry = Entry { id, mitigation, rule, target: at, epoch, prior: present, written: wanted };
                self.entries.push(entry);
                if mood != Mood::LosesUnheard {
                    self.dial(at, verb).value = wanted;
                }
            }
        }
        mood.of_done()
    }

    fn verify(&mut self, at: usize, id: ActionId) -> Outcome {
        if let Some(outcome) = self.targets[at].mood.of_reading() {
            return outcome;
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id).cloned() else { return Outcome::Already };
        let outcome = self.found(&entry);
        if outcome != Outcome::Applied {
            self.entries.retain(|entry| entry.id != id);
        }
        outcome
    }

    fn undo(&mut self, at: usize, id: ActionId) -> Outcome {
        let mood = self.targets[at].mood;
        if let Mood::Fails(outcome) = mood {
            return outcome;
        }
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id).cloned() else { return Outcome::Already };
        let outcome = self.found(&entry);
        if outcome == Outcome::Applied && mood != Mood::LosesUnheard {
            self.dial(entry.target, entry.mitigation.verb).value = entry.prior;
        }
        if mood.of_done() == Outcome::Applied {
            self.entries.retain(|entry| entry.id != id);
            return outcome;
        }
        Outcome::TimedOut
    }

    /// An operator gave it up: it is as it is.
    fn forget(&mut self, id: ActionId) {
        let Some(entry) = self.entries.iter().find(|entry| entry.id == id).cloned() else { return };
        let dial = self.dial(entry.target, entry.mitigation.verb);
        dial.natural = dial.value;
        self.entries.retain(|entry| entry.id != id);
    }

    /// What is there of it.
    fn found(&mut self, entry: &Entry) -> Outcome {
        if self.targets[entry.target].epoch != entry.epoch {
            return Outcome::EpochChanged;
        }
        let value = self.dial(entry.target, entry.mitigation.verb).value;
        match value {
            _ if value == entry.written => Outcome::Applied,
            _ if value == entry.prior => Outcome::Already,
            _ => Outcome::Overridden,
        }
    }

    fn dial(&mut self, at: usize, verb: Verb) -> &mut Dial {
        let knobs = &mut self.targets[at].knobs;
        let found = knobs.iter().position(|dial| dial.verb == verb).unwrap_or_else(|| {
            knobs.push(Dial { verb, value: UNTOUCHED, natural: UNTOUCHED });
            knobs.len() - 1
        });
        &mut knobs[found]
    }

    /// What is not as it would be without us.
    pub fn left_behind(&self) -> Option<String> {
        let dials = self.targets.iter().flat_map(|target| target.knobs.iter().map(move |dial| (target, dial)));
        dials.into_iter().find(|(_, dial)| dial.value != dial.natural).map(|(target, dial)| {
            format!("{} of {} is {}, and was {}", dial.verb, target.name, dial.value, dial.natural)
        })
    }
}

impl Mood {
    const fn takes(self) -> Duration {
        match self {
            Mood::Works(takes) => takes,
            Mood::DoesUnheard | Mood::LosesUnheard => Duration::from_millis(1500),
            Mood::Hangs | Mood::Fails(_) => Duration::from_millis(5),
        }
    }

    const fn of_done(self) -> Outcome {
        match self {
            Mood::Works(_) | Mood::Hangs => Outcome::Applied,
            Mood::Fails(outcome) => outcome,
            Mood::DoesUnheard | Mood::LosesUnheard => Outcome::TimedOut,
        }
    }

    const fn of_once(self) -> Outcome {
        self.of_done()
    }

    const fn of_reading(self) -> Option<Outcome> {
        match self {
            Mood::Works(_) | Mood::Hangs => None,
            Mood::Fails(outcome) => Some(outcome),
            Mood::DoesUnheard | Mood::LosesUnheard => Some(Outcome::TimedOut),
        }
    }
}

pub fn report(id: ActionId, answered: Answered, outcome: Outcome) -> Report {
    let detail = Arc::from("");
    Report { id, answered, outcome, detail, took: Duration::ZERO, freed_bytes: None, theirs: None }
}

/// What a mitigation leaves of a knob.
fn value_of(mitigation: &Mitigation) -> f64 {
    match mitigation.amount {
        Amount::Whole => 0.0,
        // A service rounds: to even numbers, as it happens.
        Amount::Keep(kept) => (kept / 2.0).round() * 2.0,
        Amount::Bytes(_) => 1.0,
    }
}

fn place(name: &str) -> usize {
    TARGETS.iter().position(|known| *known == name).unwrap_or_default()
}
