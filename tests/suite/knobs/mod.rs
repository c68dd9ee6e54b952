//! Who has a knob, how strongly, and until when: where a server answers in ways that hold a ladder up, where a level is
//! lowered, and where rules meet on one knob.

mod flags;
mod freed;
mod losses;
mod stood_down;
mod unwatched;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::policy::condition::parse;
use node_guardian::policy::guardian::{Decisions, Guardian, Inherited, Input};
use node_guardian::policy::losses::Losses;
use node_guardian::policy::metric::Metric;
use node_guardian::policy::mitigation::{
    ActionId, Amount, Answered, Class, Command, Knob, Level, Mitigation, Outcome, Report, Verb,
};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::orders::{Ends, Hold, Orders, Pause, Theirs};
use node_guardian::policy::plan::Plan;
use node_guardian::policy::range::Range;
use node_guardian::policy::rule::{Emergency, Policy, Rule, Severity, Step};
use node_guardian::policy::sample::Sample;
use node_guardian::policy::spacing::Spacing;
use node_guardian::policy::view::{State, View};

fn mitigation(verb: Verb, control: &str, kept: f64) -> Mitigation {
    Mitigation { control: control.into(), verb, amount: Amount::Keep(kept) }
}

fn step(verb: Verb, control: &str, kept: f64) -> Step {
    Step::new(mitigation(verb, control, kept), Duration::from_secs(3))
}

/// Fires while the CPU is above this.
fn rule(above: &str, priority: i32, steps: Vec<Step>) -> Rule {
    Rule {
        name: format!("above-{above}").into(),
        when: parse(&format!("cpu.used_percent > {above}%")).unwrap(),
        hold_for: Duration::ZERO,
        clear: None,
        clear_for: Duration::from_secs(1),
        severity: Severity::Emergency,
        priority,
        cooldown: Duration::from_secs(20),
        steps,
        dry_run: false,
        hints: Vec::new(),
    }
}

fn policy(level: Level, rules: Vec<Rule>) -> Arc<Plan> {
    let emergency = Emergency { hold: Duration::from_secs(1), ..Emergency::default() };
    Arc::new(Plan::new(Policy { level, dry_run: false, emergency, rules, ..Policy::default() }))
}

struct Node {
    guardian: Guardian,
    now: Moment,
    answer: fn(&Command) -> Outcome,
    in_force: BTreeMap<ActionId, String>,
    text: String,
}

impl Node {
    fn new(plan: Arc<Plan>, inherited: Vec<Inherited>, answer: fn(&Command) -> Outcome) -> Self {
        let now = Moment::ORIGIN;
        let in_force = inherited.iter().map(|found| (found.id, found.mitigation.to_string())).collect();
        let guardian = Guardian::new(now, plan, inherited, ActionId(10), &mut Decisions::default());
        Self { guardian, now, answer, in_force, text: String::new() }
    }

    fn step(&mut self, input: Input<'_>) {
        let mut out = Decisions::default();
        self.guardian.step(self.now, input, &mut out);
        let mut commands = std::mem::take(&mut out.commands);
        while let Some(command) = commands.pop() {
            self.text.push_str(&format!("{} {command}\n", self.now));
            let report = self.report(&command);
            self.guardian.step(self.now, Input::Reported(report), &mut out);
            commands.append(&mut out.commands);
        }
    }

    fn report(&mut self, command: &Command) -> Report {
        let outcome = (self.answer)(command);
        let (id, is_done) = (command.id(), outcome == Outcome::Applied);
        let answered = match command {
            Command::Apply { mitigation, .. } => {
                if is_done {
                    self.in_force.insert(id, mitigation.to_string());
                }
                Answered::Apply
            }
            Command::Verify { .. } => Answered::Verify,
            Command::Undo { .. } | Command::Forget { .. } => Answered::Undo,
        };
        if answered == Answered::Undo && is_done || outcome == Outcome::EpochChanged {
            self.in_force.remove(&id);
        }
        Report { id, answered, outcome, detail: "".into(), took: Duration::ZERO, freed_bytes: None, theirs: None }
    }

    fn run(&mut self, cpu: f64, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now = self.now + Duration::from_millis(500);
            let mut sample = Sample::default();
            sample.at = self.now;
            sample.set(Metric::CpuUsedPercent, Some(cpu).filter(|cpu| !cpu.is_nan()));
            self.step(Input::Sampled(&sample));
        }
    }

    fn in_force(&self) -> Vec<&str> {
        self.in_force.values().map(String::as_str).collect()
    }
}

/// A limit of 4 stays 4 at 90 %; a range may even begin with all of it.
#[test]
fn what_is_so_already_keeps_nothing_stronger_back() {
    let answer = |command: &Command| match command {
        Command::Apply { mitigation, .. } if mitigation.amount.kept_percent() > Some(85.0) => Outcome::Already,
        _ => Outcome::Applied,
    };
    let ranged = Step { range: Range::new(100.0, 20.0), ..step(Verb::Throttle, "edge", 100.0) };
    let mut node = Node::new(policy(Level::Standard, vec![rule("80", 1, vec![ranged])]), Vec::new(), answer);
    node.run(81.0, 2);
    assert!(node.in_force().is_empty());
    node.run(90.0, 1);
    assert_eq!(node.in_force(), ["throttle edge to 60%"], "{}", node.text);

    let fixed = [90.0, 75.0].map(|kept| step(Verb::Throttle, "edge", kept)).to_vec();
    let mut node = Node::new(policy(Level::Standard, vec![rule("80", 1, fixed)]), Vec::new(), answer);
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["throttle edge to 75%"], "{}", node.text);
    assert!(node.text.matches("apply").count() <= 2, "{}", node.text);
}

/// What could not be reached in the emergency is not throttled after it.
#[test]
fn nothing_is_put_in_force_for_a_rule_that_only_lets_go() {
    let answer = |command: &Command| match command {
        Command::Apply { mitigation, .. } if &*mitigation.control == "edge" => Outcome::Unreachable,
        _ => Outcome::Applied,
    };
    let steps = ["edge", "shop"].map(|control| step(Verb::Throttle, control, 20.0)).to_vec();
    let mut node = Node::new(policy(Level::Standard, vec![rule("80", 1, steps)]), Vec::new(), answer);
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["throttle shop to 20%"]);
    node.run(10.0, 4);
    node.answer = |_| Outcome::Applied;
    node.step(Input::Usable("edge"));
    for _ in 0..60 {
        node.run(10.0, 1);
        assert!(node.in_force().iter().all(|held| held.contains("shop")), "{}", node.text);
    }
    assert!(node.guardian.owes_nothing());
}

/// A service that restarts on the way back has nothing of ours any more, and is not throttled anew.
#[test]
fn a_restart_on_the_way_back_is_the_end_of_it() {
    let steps = vec![step(Verb::Throttle, "edge", 20.0)];
    let mut node = Node::new(policy(Level::Standard, vec![rule("80", 1, steps)]), Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 5);
    node.run(10.0, 4);
    assert_eq!(node.in_force(), ["throttle edge to 40%"], "{}", node.text);
    node.answer = |_| Outcome::EpochChanged;
    for _ in 0..6 {
        node.run(10.0, u64::from(!node.in_force.is_empty()));
    }
    node.answer = |_| Outcome::Applied;
    node.text.clear();
    node.run(10.0, 60);
    assert!(!node.text.contains("apply") && node.guardian.owes_nothing(), "{}", node.text);
}

#[test]
fn a_level_that_is_lowered_lets_go_of_what_loses_something() {
    let shrink = Step { class: Class::Lossy, ..step(Verb::Shrink, "cache", 50.0) };
    let rules = || vec![rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0), shrink.clone()])];
    let mut node = Node::new(policy(Level::Aggressive, rules()), Vec::new(), |_| Outcome::Applied);
    let both = ["throttle edge to 50%", "shrink cache to 50%"];
    node.run(90.0, 10);
    assert_eq!(node.in_force(), both);
    node.guardian.reload(node.now, policy(Level::Standard, rules()));
    node.run(90.0, 1);
    assert_eq!(node.in_force(), both[..1], "{}", node.text);
    node.guardian.reload(node.now, policy(Level::Aggressive, rules()));
    node.run(90.0, 10);
    assert_eq!(node.in_force(), both, "{}", node.text);
    node.guardian.reload(node.now, policy(Level::Minimal, rules()));
    node.run(90.0, 1);
    assert!(node.in_force().is_empty(), "{}", node.text);
    node.guardian.reload(node.now, policy(Level::Standard, rules()));
    node.run(90.0, 10);
    assert_eq!(node.in_force(), both[..1], "the emergency still stands: {}", node.text);
}

#[test]
fn a_level_that_is_lowered_on_the_way_back_is_kept_by_a_relapse() {
    let shrink = Step { class: Class::Lossy, ..step(Verb::Shrink, "cache", 50.0) };
    let rules = || vec![rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0), shrink.clone()])];
    let mut node = Node::new(policy(Level::Aggressive, rules()), Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 10);
    node.run(10.0, 8);
    node.guardian.reload(node.now, policy(Level::Standard, rules()));
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["throttle edge to 50%"], "{}", node.text);
}

fn found(verb: Verb) -> Inherited {
    Inherited {
        id: ActionId(3),
        mitigation: mitigation(verb, "edge", 50.0),
        rule: "above-80".into(),
        target: "edge".into(),
        changed: "".into(),
        age: Duration::ZERO,
    }
}

/// A guardian that was killed in the middle of an emergency goes on where it was.
#[test]
fn what_a_crash_left_behind_is_not_loosened_by_climbing_to_it_again() {
    let steps = [75.0, 50.0, 25.0].map(|kept| step(Verb::Shed, "edge", kept)).to_vec();
    let plan = policy(Level::Standard, vec![rule("80", 1, steps)]);
    let mut node = Node::new(plan, vec![found(Verb::Shed)], |_| Outcome::Applied);
    for _ in 0..5 {
        node.run(90.0, 1);
        assert!(matches!(node.in_force()[..], ["shed edge by 50%" | "shed edge by 75%"]), "{}", node.text);
    }
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["shed edge by 75%"], "{}", node.text);
    node.text.clear();
    node.run(10.0, 60);
    let back: Vec<&str> =
        node.text.lines().filter_map(|line| line.split_once("apply 3: ")).map(|(_, what)| what).collect();
    assert_eq!(back, ["shed edge by 50%", "shed edge by 25%", "shed edge by 12%"], "{}", node.text);
    assert!(node.guardian.owes_nothing());
}

/// The second emergency begins gently where the first has gone far: it must not give back what the first still needs.
#[test]
fn a_more_important_rule_on_its_way_up_loosens_nothing() {
    let ladder = |kept: &[f64]| kept.iter().map(|kept| step(Verb::Shed, "edge", *kept)).collect::<Vec<_>>();
    let rules = vec![rule("95", 100, ladder(&[90.0, 75.0, 50.0, 25.0])), rule("80", 10, ladder(&[50.0]))];
    let mut node = Node::new(policy(Level::Standard, rules), Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["shed edge by 50%"]);
    for _ in 0..20 {
        node.run(97.0, 1);
        assert!(matches!(node.in_force()[..], ["shed edge by 50%" | "shed edge by 75%"]), "{}", node.text);
    }
    assert_eq!(node.in_force(), ["shed edge by 75%"], "{}", node.text);
    // One whose ladder ends gentler has the knob as it wants it.
    let rules = vec![rule("95", 100, ladder(&[90.0])), rule("80", 10, ladder(&[50.0]))];
    let mut node = Node::new(policy(Level::Standard, rules), Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 5);
    node.run(97.0, 20);
    assert_eq!(node.in_force(), ["shed edge by 10%"], "{}", node.text);
}

/// One that ends slowly must not cost the next one its life: the ladder counts from the answer, not from the command.
#[test]
fn the_next_is_not_ended_while_the_first_is_still_ending() {
    let ends = |control: &str| Step {
        patience: Duration::from_secs(20),
        ..Step::new(
            Mitigation { control: control.into(), verb: Verb::Terminate, amount: Amount::Whole },
            Duration::from_secs(1),
        )
    };
    let plan = policy(Level::Maximum, vec![rule("90", 10, vec![ends("a"), ends("b")])]);
    let mut guardian = Guardian::new(Moment::ORIGIN, plan, Vec::new(), ActionId(1), &mut Decisions::default());
    let mut tick = |halves: u32, report: Option<Report>| {
        let now = Moment::ORIGIN + Duration::from_millis(500) * halves;
        let (mut out, mut sample) = (Decisions::default(), Sample::default());
        sample.at = now;
        sample.set(Metric::CpuUsedPercent, Some(99.0));
        guardian.step(now, report.map_or(Input::Sampled(&sample), Input::Reported), &mut out);
        let ended = out.commands.iter().filter_map(|command| match command {
            Command::Apply { id, mitigation, .. } => Some((*id, mitigation.control.to_string())),
            _ => None,
        });
        ended.collect::<Vec<_>>()
    };
    let first: Vec<_> = (1..=20).flat_map(|halves| tick(halves, None)).collect();
    assert_eq!(first, [(ActionId(1), "a".to_owned())], "ten seconds in which it has not ended yet");
    let ended = Report {
        id: ActionId(1),
        answered: Answered::Apply,
        outcome: Outcome::Applied,
        detail: "".into(),
        took: Duration::from_secs(10),
        freed_bytes: None,
        theirs: None,
    };
    assert!(tick(21, Some(ended)).is_empty());
    assert!(tick(22, None).is_empty(), "it settles first");
    let second: Vec<_> = (23..=26).flat_map(|halves| tick(halves, None)).collect();
    assert_eq!(second, [(ActionId(2), "b".to_owned())]);
}

/// A control that answers before the first look says nothing about what the rules want.
#[test]
fn nothing_that_a_crash_left_behind_is_undone_before_the_rules_were_looked_at() {
    let plan = policy(Level::Standard, vec![rule("80", 1, vec![step(Verb::Shed, "edge", 50.0)])]);
    let mut node = Node::new(plan, vec![found(Verb::Shed)], |_| Outcome::Applied);
    node.step(Input::Usable("edge"));
    node.run(90.0, 5);
    assert_eq!((node.in_force(), node.text.contains("undo")), (vec!["shed edge by 50%"], false), "{}", node.text);
}

fn set_by_somebody() -> Orders {
    let (knob, mitigation) =
        (Knob { target: "edge".into(), verb: Verb::Throttle }, mitigation(Verb::Throttle, "edge", 50.0));
    let (found, since, ends) = ("maxconn is 5".into(), Moment::ORIGIN, Ends::WithItsRules);
    let theirs = Theirs { id: ActionId(3), knob, mitigation, found, since, ends };
    Orders::of(None, Vec::new(), vec![theirs], Vec::new(), Losses::default())
}

fn fires(node: &Node, rule: &str) -> bool {
    let mut view = View::default();
    node.guardian.show(&mut view);
    view.rules[node.guardian.plan().rule_named(rule).unwrap()].state == State::Firing
}

/// Neither a rule that waits for its `for`, nor one that cools meanwhile, nor a drill turns it; nor does what is unknown.
#[test]
fn what_somebody_set_before_a_restart_is_theirs_until_its_rules_were_seen_to_be_clear() {
    let slow = Rule { hold_for: Duration::from_secs(5), ..rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0)]) };
    let quick = rule("95", 2, vec![step(Verb::Shed, "edge", 50.0)]);
    let plan = policy(Level::Standard, vec![slow, quick]);
    let mut node = Node::new(plan, Vec::new(), |_| Outcome::Applied);
    node.guardian.restore_orders(node.now, set_by_somebody(), &mut Decisions::default());
    let is_theirs = |node: &Node| node.guardian.orders().theirs().len() == 1 && !node.text.contains("throttle");
    node.step(Input::Drill(&mitigation(Verb::Throttle, "edge", 50.0)));
    node.run(f64::NAN, 60);
    node.run(97.0, 3);
    node.run(90.0, 60);
    assert!(is_theirs(&node) && fires(&node, "above-80"), "{}", node.text);
    node.step(Input::Drill(&mitigation(Verb::Throttle, "edge", 50.0)));
    assert!(is_theirs(&node), "{}", node.text);
    node.run(10.0, 5);
    assert!(node.guardian.orders().theirs().is_empty());
    node.run(90.0, 10);
    assert_eq!(node.in_force(), ["throttle edge to 50%"], "{}", node.text);

    let mut node = Node::new(Arc::clone(node.guardian.plan()), Vec::new(), |_| Outcome::Applied);
    node.guardian.restore_orders(node.now, set_by_somebody(), &mut Decisions::default());
    node.run(10.0, 1);
    node.run(90.0, 2);
    node.run(10.0, 1);
    assert!(is_theirs(&node), "never clear for its second");
    node.run(10.0, 2);
    assert!(node.guardian.orders().theirs().is_empty(), "no rule has fired, and all were clear");
}

fn blind(priority: i32) -> Rule {
    let when = parse("memory.available_percent < 10%").unwrap();
    Rule { name: "blind".into(), when, ..rule("80", priority, vec![step(Verb::Throttle, "edge", 50.0)]) }
}

/// The memory of this node is never told.
#[test]
fn a_rule_that_stays_blind_keeps_no_knob_for_ever() {
    let seeing = rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0)]);
    for (rules, lasts) in [(vec![seeing, blind(2)], 0), (vec![blind(1), blind(2)], 600)] {
        let mut node = Node::new(policy(Level::Standard, rules), Vec::new(), |_| Outcome::Applied);
        node.guardian.restore_orders(node.now, set_by_somebody(), &mut Decisions::default());
        node.run(10.0, lasts + 8);
        assert!(!node.guardian.orders().theirs().is_empty(), "nobody knows yet what it wants");
        node.run(10.0, 7);
        assert!(node.guardian.orders().theirs().is_empty());
    }
}

/// With a rule that never sees anything, also where it is set while the emergency is on its way back.
#[test]
fn what_somebody_set_in_one_emergency_is_the_rules_in_the_next() {
    let plan = policy(Level::Standard, vec![rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0)]), blind(2)]);
    let mut node = Node::new(plan, Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 60);
    node.answer = |command| match command {
        Command::Undo { .. } => Outcome::Overridden,
        _ => Outcome::Applied,
    };
    for _ in 0..60 {
        node.run(10.0, 1);
    }
    assert!(node.text.contains("undo") && node.guardian.orders().theirs().is_empty(), "{}", node.text);
    node.in_force.clear();
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["throttle edge to 50%"], "{}", node.text);
}

/// It lets go while another rule that wants the knob waits for its `for`, or has its clear condition still to meet.
#[test]
fn what_somebody_set_is_theirs_also_for_a_rule_that_is_about_to_fire() {
    let slow = Rule { hold_for: Duration::from_secs(30), ..rule("50", 1, vec![step(Verb::Throttle, "edge", 40.0)]) };
    let quick = rule("80", 2, vec![step(Verb::Throttle, "edge", 50.0)]);
    let mut node = Node::new(policy(Level::Standard, vec![slow, quick]), Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 2);
    node.answer = |command| match command {
        Command::Verify { .. } => Outcome::Overridden,
        _ => Outcome::Applied,
    };
    node.run(90.0, 12);
    node.text.clear();
    node.run(60.0, 40);
    assert!(fires(&node, "above-50") && !node.guardian.orders().theirs().is_empty(), "{}", node.text);
    assert!(!node.text.contains("throttle"), "{}", node.text);
    node.run(10.0, 60);
    assert!(node.guardian.orders().theirs().is_empty());
}

fn undone(node: &mut Node) {
    node.run(90.0, 5);
    node.step(Input::Undo { ids: &[], by: "uid 0".into() });
    node.run(10.0, 30);
    assert!(node.in_force().is_empty() && node.guardian.orders().undone().len() == 1, "{}", node.text);
    node.text.clear();
}

/// The guardian was stopped for longer than the ten quiet minutes, or not there at all.
#[test]
fn what_an_operator_undid_is_given_back_after_ten_minutes_that_somebody_watched() {
    let rules = vec![rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0)])];
    let (emergency, spacing) = (Emergency::default(), Spacing::every(Duration::from_millis(500)));
    let plan = Arc::new(Plan::new(Policy { level: Level::Standard, emergency, rules, spacing, ..Policy::default() }));
    for restarts in [false, true] {
        let mut node = Node::new(Arc::clone(&plan), Vec::new(), |_| Outcome::Applied);
        undone(&mut node);
        node.now = node.now + Duration::from_secs(7200);
        if restarts {
            let orders = node.guardian.orders().clone();
            let next = ActionId(20);
            node.guardian = Guardian::new(node.now, Arc::clone(&plan), Vec::new(), next, &mut Decisions::default());
            node.guardian.restore_orders(node.now, orders, &mut Decisions::default());
        }
        node.run(90.0, 10);
        assert_eq!((node.in_force().len(), node.guardian.orders().undone().len()), (0, 1), "{}", node.text);
        node.run(10.0, 300);
        // What nobody can see is not quiet.
        node.run(f64::NAN, 500);
        assert_eq!(node.guardian.orders().undone().len(), 1);
        node.run(10.0, 310);
        assert!(node.guardian.orders().undone().is_empty());
        node.run(90.0, 5);
        assert_eq!(node.in_force(), ["throttle edge to 50%"], "{}", node.text);
    }
}

/// Orders that could not be read at start are read while a rule has something in force.
#[test]
fn a_pause_that_is_read_late_undoes_what_was_done_meanwhile() {
    let plan = policy(Level::Standard, vec![rule("80", 1, vec![step(Verb::Throttle, "edge", 50.0)])]);
    for (hold, left) in [(Hold::Undo, 0), (Hold::Keep, 1)] {
        let mut node = Node::new(Arc::clone(&plan), Vec::new(), |_| Outcome::Applied);
        node.run(90.0, 5);
        assert_eq!(node.in_force().len(), 1, "{}", node.text);
        let until = node.now + Duration::from_secs(60);
        let pause = Some(Pause { since: Moment::ORIGIN, until, hold, by: "uid 0".into() });
        node.guardian.restore_orders(
            node.now,
            Orders::of(pause, Vec::new(), Vec::new(), Vec::new(), Losses::default()),
            &mut Decisions::default(),
        );
        node.run(90.0, 30);
        assert_eq!(node.in_force().len(), left, "{}", node.text);
        node.run(90.0, 50);
        assert_eq!(node.in_force(), ["throttle edge to 50%"], "the pause is over: {}", node.text);
    }
}

/// The journal was not told in time; of what it has not the number may be given to something else.
#[test]
fn a_debt_that_was_given_up_before_a_restart_is_not_paid_after_it() {
    let plan = policy(Level::Standard, vec![rule("80", 1, vec![step(Verb::Shed, "edge", 50.0)])]);
    let mut out = Decisions::default();
    let mut guardian = Guardian::new(Moment::ORIGIN, plan, vec![found(Verb::Shed)], ActionId(10), &mut out);
    let forgotten = vec![ActionId(3), ActionId(4)];
    guardian.restore_orders(
        Moment::ORIGIN,
        Orders::of(None, Vec::new(), Vec::new(), forgotten, Losses::default()),
        &mut out,
    );
    assert_eq!(out.commands, [Command::Forget { id: ActionId(3) }]);
    assert!(guardian.owes_nothing() && guardian.orders().forgotten() == [ActionId(3)]);
}
