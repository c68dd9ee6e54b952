//! Properties of the policy under arbitrary samples, answers and operators: nothing is left behind, nothing is done
//! twice on one knob, and what is unknown neither starts nor clears anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::policy::condition::parse;
use node_guardian::policy::event::Event;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::Metric;
use node_guardian::policy::mitigation::{
    ActionId, Amount, Answered, Class, Command, Lasting, Level, Mitigation, Outcome, Report, Verb,
};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::range::Range;
use node_guardian::policy::rule::{Asked, Emergency, Policy, Rule, Severity, Step};
use node_guardian::policy::sample::Sample;
use node_guardian::policy::spacing::Spacing;
use proptest::prelude::*;

fn step(verb: Verb, control: &str, amount: Amount) -> Step {
    Step::new(Mitigation { control: control.into(), verb, amount }, Duration::from_secs(3))
}

fn between(verb: Verb, control: &str, gentle: f64, harsh: f64) -> Step {
    Step { range: Range::new(gentle, harsh), ..step(verb, control, Amount::Keep(gentle)) }
}

fn rule(name: &str, when: &str, severity: Severity, priority: i32, steps: Vec<Step>) -> Rule {
    Rule {
        name: name.into(),
        when: parse(when).unwrap(),
        hold_for: Duration::from_secs(1),
        clear: None,
        clear_for: Duration::from_secs(2),
        severity,
        priority,
        cooldown: Duration::from_secs(20),
        steps,
        dry_run: false,
        hints: Vec::new(),
    }
}

fn policy() -> Policy {
    Policy {
        level: Level::Standard,
        spacing: Spacing::ANY,
        dry_run: false,
        targets: Vec::new(),
        ports: Vec::new(),
        undeclared: Vec::new(),
        emergency: Emergency::default(),
        rules: vec![
            rule(
                "memory",
                "memory.available_percent < 10%",
                Severity::Emergency,
                100,
                vec![
                    step(Verb::Release, "cache", Amount::Whole),
                    step(Verb::Throttle, "edge", Amount::Keep(50.0)),
                    step(Verb::Throttle, "edge", Amount::Keep(20.0)),
                    step(Verb::Flush, "cache", Amount::Whole),
                    Step { class: Class::Lossy, ..step(Verb::Shrink, "cache", Amount::Bytes(1 << 20)) },
                ],
            ),
            rule(
                "cpu",
                "cpu.used_percent > 90%",
                Severity::Warning,
                10,
                vec![
                    step(Verb::Throttle, "edge", Amount::Keep(75.0)),
                    step(Verb::Shed, "edge", Amount::Keep(30.0)),
                    step(Verb::Throttle, "edge", Amount::Keep(30.0)),
                ],
            ),
            rule(
                "crowd",
                "cpu.used_percent > 40% or memory.available_percent < 60%",
                Severity::Warning,
                5,
                vec![
                    Step { together: true, ..step(Verb::Release, "store", Amount::Whole) },
                    between(Verb::Throttle, "shop", 90.0, 20.0),
                    Step { together: true, ..between(Verb::Shed, "shop", 90.0, 25.0) },
                    between(Verb::Shed, "edge", 95.0, 50.0),
                ],
            ),
        ],
    }
}

fn guardian_of(rules: Vec<Rule>) -> Guardian {
    let plan = Arc::new(Plan::new(Policy { rules, ..policy() }));
    Guardian::new(Moment::ORIGIN, plan, Vec::new(), ActionId(1), &mut Decisions::default())
}

/// The targets as they really are: what is in force on each knob.
#[derive(Default)]
struct World {
    in_force: BTreeMap<(String, &'static str), (ActionId, String)>,
    /// As last done to each.
    actions: BTreeMap<ActionId, Mitigation>,
}

impl World {
    fn perform(&mut self, command: &Command, outcome: Outcome) -> Report {
        let answered = match command {
            Command::Apply { id, mitigation, .. } => {
                if let Some(before) = self.actions.get(id) {
                    gives_back_by_halves(before, mitigation);
                }
                let lasts = mitigation.verb.lasting() == Lasting::InForce;
                if lasts && matches!(outcome, Outcome::Applied | Outcome::TimedOut) {
                    let knob = (mitigation.control.to_string(), mitigation.verb.name());
                    let other = self.in_force.insert(knob, (*id, mitigation.to_string()));
                    if let Some((other, _)) = other {
                        assert_eq!(other, *id, "two mitigations on one knob");
                    }
                }
                Answered::Apply
            }
            Command::Verify { .. } => Answered::Verify,
            Command::Forget { .. } => Answered::Undo,
            Command::Undo { id } => {
                let ends = matches!(
                    outcome,
                    Outcome::Applied | Outcome::Already | Outcome::EpochChanged | Outcome::Overridden
                );
                if ends {
                    self.in_force.retain(|_, (owner, _)| owner != id);
                }
                Answered::Undo
            }
        };
        let outcome = self.consistent(command, outcome);
        match (command, outcome) {
            (Command::Apply { id, mitigation, .. }, Outcome::Applied) => {
                self.actions.insert(*id, mitigation.clone());
            }
            // Nobody knows which of the two is there.
            (Command::Apply { id, .. }, Outcome::TimedOut) => {
                self.actions.remove(id);
            }
            _ => {}
        }
        let detail = "".into();
        Report { id: command.id(), answered, outcome, detail, took: Duration::ZERO, freed_bytes: None, theirs: None }
    }

    /// An answer must not contradict what was done.
    fn consistent(&mut self, command: &Command, outcome: Outcome) -> Outcome {
        let id = command.id();
        let there = self.in_force.values().any(|(owner, _)| *owner == id);
        match (command, outcome) {
            (Command::Apply { mitigation, .. }, Outcome::NoEffect) if mitigation.verb.lasting() == Lasting::InForce => {
                Outcome::Refused
            }
            (Command::Apply { .. } | Command::Verify { .. }, Outcome::EpochChanged | Outcome::Overridden) => {
                self.in_force.retain(|_, (owner, _)| *owner != id);
                outcome
            }
            (Command::Apply { .. }, Outcome::Already) if there => Outcome::Refused,
            (Command::Verify { .. }, Outcome::Applied | Outcome::NoEffect) if !there => Outcome::Already,
            (Command::Verify { .. }, Outcome::Already) if there => Outcome::Applied,
            _ => outcome,
        }
    }
}

/// However it comes about, an adjustment lets in at most twice as much, and at most half of what was withheld.
fn gives_back_by_halves(before: &Mitigation, after: &Mitigation) {
    let (Some(before), Some(after)) = (before.amount.kept_percent(), after.amount.kept_percent()) else { return };
    assert!(after <= (2.0 * before).max(5.0).max(before) + 0.5, "{before} to {after}");
    // What half the way back leaves 10 points of may go at once.
    let half = f64::midpoint(before, 100.0);
    assert!(after <= half + 0.5 || half >= 89.5, "{before} to {after}");
}

#[derive(Clone, Debug)]
enum Happening {
    Sample { memory: Option<f64>, cpu: Option<f64> },
    Answers(Outcome),
    Undo,
    Wait(u64),
    Reload(Level),
}

fn happening() -> impl Strategy<Value = Happening> {
    let reading =
        || prop_oneof![Just(None), Just(Some(5.0)), Just(Some(50.0)), Just(Some(95.0)), (0.0..100.0).prop_map(Some)];
    let levels = prop_oneof![6 => Just(Level::Standard), 1 => Just(Level::Minimal), 1 => Just(Level::Maximum), 1 => Just(Level::Aggressive), 1 => Just(Level::Disabled)];
    prop_oneof![
        8 => (reading(), reading()).prop_map(|(memory, cpu)| Happening::Sample { memory, cpu }),
        3 => prop::sample::select(Outcome::ALL.to_vec()).prop_map(Happening::Answers),
        1 => Just(Happening::Undo),
        4 => (1..40_u64).prop_map(Happening::Wait),
        1 => levels.prop_map(Happening::Reload),
    ]
}

struct Run {
    guardian: Guardian,
    world: World,
    sample: Sample,
    now: Moment,
    outcome: Outcome,
    text: String,
}

impl Run {
    fn new() -> Self {
        let mut out = Decisions::default();
        let plan = Arc::new(Plan::new(policy()));
        Self {
            guardian: Guardian::new(Moment::ORIGIN, plan, Vec::new(), ActionId(1), &mut out),
            world: World::default(),
            sample: Sample::default(),
            now: Moment::ORIGIN,
            outcome: Outcome::Applied,
            text: String::new(),
        }
    }

    fn step(&mut self, input: Input<'_>) {
        let mut out = Decisions::default();
        self.guardian.step(self.now, input, &mut out);
        let mut waiting = out.commands.clone();
        self.note(&out);
        while let Some(command) = waiting.pop() {
            let report = self.world.perform(&command, self.outcome);
            let mut out = Decisions::default();
            self.guardian.step(self.now, Input::Reported(report), &mut out);
            waiting.extend(out.commands.iter().cloned());
            self.note(&out);
        }
    }

    fn note(&mut self, out: &Decisions) {
        for command in &out.commands {
            self.text.push_str(&format!("{} -> {command}\n", self.now));
        }
        for event in &out.events {
            self.text.push_str(&format!("{} {event}\n", self.now));
        }
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(500);
        self.sample.at = self.now;
        let sample = self.sample.clone();
        self.step(Input::Sampled(&sample));
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Sample { memory, cpu } => {
                self.sample.set(Metric::MemoryAvailablePercent, *memory);
                self.sample.set(Metric::CpuUsedPercent, *cpu);
                self.tick();
            }
            Happening::Answers(outcome) => self.outcome = *outcome,
            Happening::Undo => self.step(Input::Undo { ids: &[], by: "somebody".into() }),
            Happening::Wait(ticks) => (0..*ticks).for_each(|_| self.tick()),
            Happening::Reload(level) => {
                let plan = Arc::new(Plan::new(Policy { level: *level, ..policy() }));
                self.guardian.reload(self.now, plan);
            }
        }
    }

    /// What loses something is in force only where the level allows it.
    fn is_within(&mut self, level: Level) -> bool {
        self.outcome = Outcome::Applied;
        self.happen(&Happening::Reload(level));
        // What is owed is tried again after a minute at most.
        self.happen(&Happening::Wait(150));
        level >= Level::Aggressive || !self.world.in_force.keys().any(|(_, verb)| *verb == "shrink")
    }

    fn calm(&mut self, seconds: u64) {
        self.outcome = Outcome::Applied;
        self.happen(&Happening::Sample { memory: Some(80.0), cpu: Some(10.0) });
        self.happen(&Happening::Wait(seconds * 2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn after_calm_nothing_is_left_in_force(story in prop::collection::vec(happening(), 1..60)) {
        let mut run = Run::new();
        story.iter().for_each(|happening| run.happen(happening));
        run.calm(400);
        prop_assert!(run.world.in_force.is_empty(), "{:?}\n{}", run.world.in_force, run.text);
        prop_assert!(run.guardian.owes_nothing());
        prop_assert_eq!(run.guardian.mode().name(), "normal", "{}", run.text);
    }

    #[test]
    fn nothing_is_in_force_that_the_level_does_not_allow(
        story in prop::collection::vec(happening(), 1..60),
        level in prop::sample::select(vec![Level::Minimal, Level::Standard]),
    ) {
        let mut run = Run::new();
        run.happen(&Happening::Reload(Level::Aggressive));
        story.iter().for_each(|happening| run.happen(happening));
        prop_assert!(run.is_within(level), "{}", run.text);
        prop_assert!(level > Level::Minimal || run.world.in_force.is_empty(), "{}", run.text);
    }

    #[test]
    fn after_a_stop_nothing_is_left_in_force(story in prop::collection::vec(happening(), 1..60)) {
        let mut run = Run::new();
        story.iter().for_each(|happening| run.happen(happening));
        run.outcome = Outcome::Applied;
        run.step(Input::Stopping);
        (0..4).for_each(|_| run.tick());
        prop_assert!(run.world.in_force.is_empty(), "{:?}\n{}", run.world.in_force, run.text);
        prop_assert!(run.guardian.owes_nothing());
    }

    #[test]
    fn what_is_unknown_starts_nothing(waits in prop::collection::vec(1..30_u64, 1..8)) {
        let mut run = Run::new();
        for wait in waits {
            run.happen(&Happening::Sample { memory: None, cpu: None });
            run.happen(&Happening::Wait(wait));
        }
        prop_assert!(!run.text.contains("fires"), "{}", run.text);
    }

    #[test]
    fn what_is_unknown_clears_nothing(unknown in 1..400_u64) {
        let mut run = Run::new();
        run.happen(&Happening::Sample { memory: Some(5.0), cpu: Some(10.0) });
        run.happen(&Happening::Wait(20));
        prop_assert!(!run.world.in_force.is_empty());
        run.happen(&Happening::Sample { memory: None, cpu: None });
        run.happen(&Happening::Wait(unknown));
        prop_assert!(!run.text.contains("clears"), "{}", run.text);
        prop_assert_eq!(run.guardian.mode().name(), "emergency", "{}", run.text);
        // After `stand_down`, 240 ticks, users are not refused for what nobody can see.
        prop_assert!(!run.world.in_force.is_empty() || unknown >= 240, "{}", run.text);
    }

    #[test]
    fn the_same_story_gives_the_same_decisions(story in prop::collection::vec(happening(), 1..40)) {
        let mut runs = [Run::new(), Run::new()];
        for run in &mut runs {
            story.iter().for_each(|happening| run.happen(happening));
        }
        prop_assert_eq!(&runs[0].text, &runs[1].text);
    }
}

/// A target that hangs through the undo is tried again, alarmed, and never forgotten.
#[test]
fn a_failing_release_stays_owed_until_it_succeeds() {
    let mut run = Run::new();
    run.happen(&Happening::Sample { memory: Some(5.0), cpu: Some(10.0) });
    run.happen(&Happening::Wait(20));
    assert!(!run.world.in_force.is_empty());
    run.outcome = Outcome::TimedOut;
    run.happen(&Happening::Sample { memory: Some(80.0), cpu: Some(10.0) });
    run.happen(&Happening::Wait(1200));
    assert!(run.text.contains("still owed"), "{}", run.text);
    assert!(!run.guardian.owes_nothing());
    run.calm(300);
    assert!(run.world.in_force.is_empty() && run.guardian.owes_nothing(), "{}", run.text);
}

/// Else it would be told as the drill's for as long as the rule fires, and the rule would never hear what became of it.
#[test]
fn what_a_drill_has_just_done_becomes_the_rules_that_wants_the_same() {
    let mut run = Run::new();
    let wanted = Mitigation { control: "edge".into(), verb: Verb::Throttle, amount: Amount::Keep(75.0) };
    let mut out = Decisions::default();
    run.guardian.step(run.now, Input::Drill(&wanted), &mut out);
    let [Command::Apply { id, .. }] = &out.commands[..] else { panic!("{out:?}") };
    let id = *id;
    run.happen(&Happening::Sample { memory: Some(80.0), cpu: Some(95.0) });
    run.happen(&Happening::Wait(4));
    assert!(run.text.contains("rule cpu fires"), "{}", run.text);
    let report = run.world.perform(&out.commands[0], Outcome::Applied);
    run.step(Input::Reported(report));
    assert_eq!(run.world.in_force.values().next(), Some(&(id, wanted.to_string())));
    assert!(run.text.contains(&format!("apply {id}: {wanted}")), "{}", run.text);
    assert!(!run.text.contains("releas"), "{}", run.text);
    run.calm(100);
    assert!(run.world.in_force.is_empty() && run.guardian.owes_nothing(), "{}", run.text);
}

#[test]
fn decisions_are_values() {
    let event = Event::Relented { rule: "memory".into() };
    assert_eq!(event.to_string(), "rule memory: condition ended before `for` elapsed");
}

/// A rule that only hints may be pending all day: nobody is asked what he has to give for it.
#[test]
fn services_are_asked_only_for_a_step_that_nobody_wrote_by_name() {
    let concerned = |steps: Vec<Step>| {
        let mut guardian = guardian_of(vec![rule("it", "cpu.used_percent < 20%", Severity::Info, 1, steps)]);
        let mut sample = Sample::new(Moment::ORIGIN + Duration::from_millis(1));
        sample.set(Metric::CpuUsedPercent, Some(2.0));
        guardian.step(sample.at, Input::Sampled(&sample), &mut Decisions::default());
        guardian.is_concerned()
    };
    let named = step(Verb::Release, "cache", Amount::Whole);
    assert!(!concerned(Vec::new()));
    assert!(!concerned(vec![named.clone()]));
    assert!(concerned(vec![Step { asked: Asked::ByLadder, ..named }]));
}

/// Only memory fills within milliseconds: what else is beyond an emergency's threshold is looked at no more often for it.
#[test]
fn memory_alone_sets_the_fastest_pace() {
    let hasty = |when: &str| {
        let mut guardian = guardian_of(vec![rule("it", when, Severity::Emergency, 1, Vec::new())]);
        let mut sample = Sample::new(Moment::ORIGIN + Duration::from_millis(1));
        sample.set(Metric::MemoryAvailableBytes, Some(4e8));
        sample.set(Metric::MemoryAvailablePercent, Some(5.0));
        sample.set(Metric::CpuWaitingPercent, Some(99.0));
        guardian.step(sample.at, Input::Sampled(&sample), &mut Decisions::default());
        guardian.soonest_crossing() == Some(Duration::ZERO)
    };
    assert!(hasty("memory.available_percent < 10%"));
    assert!(!hasty("cpu.waiting_percent > 75%"));
    assert!(!hasty("memory.available_percent < 1%"));
}
