//! The configurations that a story may run under: the same four rules with other ladders, other levels, other targets.
//! What must hold in truth is written here a second time, so that the policy is not asked whether it was right.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use node_guardian::policy::condition::{Condition, parse};
use node_guardian::policy::mitigation::{Amount, Class, Level, Mitigation, Verb};
use node_guardian::policy::plan::Plan;
use node_guardian::policy::range::Range;
use node_guardian::policy::rule::{Emergency, Policy, Rule, Severity, Step};

/// What the node is like, as read.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Node {
    pub memory: Option<f64>,
    pub cpu: Option<f64>,
}

pub const CALM: Node = Node { memory: Some(80.0), cpu: Some(10.0) };

/// One configuration: which ladders, what the level is, whether the edge leads to another server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub ladders: u8,
    pub level: Level,
    pub moved: bool,
    pub dry_run: bool,
}

pub const FIRST: Setup = Setup { ladders: 0, level: Level::Maximum, moved: false, dry_run: false };
pub const LADDERS: u8 = 3;
const CONTROLS: [&str; 6] = ["edge", "shop", "cache", "store", "job", "logs"];

pub fn target_of(setup: Setup, control: &str) -> &str {
    if control == "edge" && setup.moved { "edge-b" } else { control }
}

/// Whether the condition of a rule holds; `None` where nobody can know.
pub fn holds(rule: &str, node: Node) -> Option<bool> {
    let memory = |limit: f64| node.memory.map(|memory| memory < limit);
    let cpu = |limit: f64| node.cpu.map(|cpu| cpu > limit);
    match rule {
        "memory" => memory(10.0),
        "disk" => memory(5.0),
        "cpu" => cpu(90.0),
        "crowd" => match (cpu(40.0), memory(60.0)) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        },
        other => panic!("no rule is called {other}"),
    }
}

pub fn plan(setup: Setup) -> Arc<Plan> {
    let names: Vec<Arc<str>> = CONTROLS.iter().map(|name| Arc::from(*name)).collect();
    let targets = names.iter().map(|name| (Arc::clone(name), Arc::from(target_of(setup, name)))).collect();
    let emergency = Emergency { stand_down: Duration::from_secs(30), ..Emergency::default() };
    let rules = rules(setup.ladders);
    Arc::new(Plan::new(Policy {
        level: setup.level,
        dry_run: setup.dry_run,
        emergency,
        rules,
        targets,
        ..Policy::default()
    }))
}

fn rules(ladders: u8) -> Vec<Rule> {
    let release = || step(Verb::Release, "cache", Amount::Whole);
    let throttle = |kept| step(Verb::Throttle, "edge", Amount::Keep(kept));
    let flush = || step(Verb::Flush, "cache", Amount::Whole);
    let shrink = || Step { class: Class::Lossy, ..step(Verb::Shrink, "cache", Amount::Bytes(1 << 20)) };
    let last = || vec![step(Verb::Terminate, "job", Amount::Whole), step(Verb::Terminate, "logs", Amount::Whole)];
    let memory = match ladders {
        0 => vec![release(), throttle(50.0), throttle(20.0), flush(), shrink()],
        1 => vec![throttle(40.0), shrink(), step(Verb::Freeze, "job", Amount::Whole), flush()],
        _ => vec![together(throttle(60.0)), step(Verb::Drain, "shop", Amount::Whole), release()],
    };
    let cpu = vec![throttle(75.0), step(Verb::Shed, "edge", Amount::Keep(30.0)), throttle(30.0)];
    let crowd = vec![
        together(step(Verb::Release, "store", Amount::Whole)),
        between(Verb::Throttle, "shop", 90.0, 20.0),
        together(between(Verb::Shed, "shop", 90.0, 25.0)),
        between(Verb::Shed, "edge", 95.0, 50.0),
    ];
    let disk = [vec![step(Verb::Prune, "store", Amount::Whole)], last()].concat();
    let mut rules = vec![
        rule("memory", &MEMORY, Severity::Emergency, 100, memory),
        rule("disk", &DISK, Severity::Emergency, 50, disk),
        rule("cpu", &CPU, Severity::Warning, 10, cpu),
        rule("crowd", &CROWD, Severity::Warning, 5, crowd),
    ];
    if ladders == 2 {
        rules.retain(|rule| &*rule.name != "cpu");
    }
    rules
}

static MEMORY: LazyLock<Condition> = LazyLock::new(|| parse("memory.available_percent < 10%").unwrap());
static DISK: LazyLock<Condition> = LazyLock::new(|| parse("memory.available_percent < 5%").unwrap());
static CPU: LazyLock<Condition> = LazyLock::new(|| parse("cpu.used_percent > 90%").unwrap());
static CROWD: LazyLock<Condition> =
    LazyLock::new(|| parse("cpu.used_percent > 40% or memory.available_percent < 60%").unwrap());

fn rule(name: &str, when: &Condition, severity: Severity, priority: i32, steps: Vec<Step>) -> Rule {
    Rule {
        name: name.into(),
        when: when.clone(),
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

fn step(verb: Verb, control: &str, amount: Amount) -> Step {
    Step::new(Mitigation { control: control.into(), verb, amount }, Duration::from_secs(3))
}

fn between(verb: Verb, control: &str, gentle: f64, harsh: f64) -> Step {
    Step { range: Range::new(gentle, harsh), ..step(verb, control, Amount::Keep(gentle)) }
}

fn together(step: Step) -> Step {
    Step { together: true, ..step }
}
