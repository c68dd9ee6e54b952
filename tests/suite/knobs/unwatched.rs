//! Time in which nobody looked, because the guardian was stopped or the node suspended: what lapsed in it is given again
//! only after a fresh sample says that the condition of its rule holds.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::policy::guardian::{Decisions, Input};
use node_guardian::policy::mitigation::{ActionId, Answered, Command, Lease, Level, Outcome, Report, Verb};
use node_guardian::policy::plan::Plan;
use node_guardian::policy::rule::{Emergency, Policy, Rule};
use node_guardian::policy::spacing::Spacing;

use super::{Node, rule, step};

thread_local! {
    static LAPSED: Cell<bool> = const { Cell::new(false) };
}

/// A lease that has lapsed is given again by whoever may renew it whatever became of it.
fn leased(command: &Command) -> Outcome {
    match command {
        Command::Verify { lease: Lease::Renew { .. }, .. } | Command::Apply { .. } => LAPSED.set(false),
        Command::Verify { .. } if LAPSED.get() => return Outcome::EpochChanged,
        Command::Undo { .. } if LAPSED.replace(false) => return Outcome::Already,
        _ => {}
    }
    Outcome::Applied
}

/// In an emergency for 30 s, and stopped for 40 s then.
fn stopped(clear_for: u64) -> Node {
    let shed = rule("80", 1, vec![step(Verb::Shed, "edge", 25.0)]);
    let rules = vec![Rule { clear_for: Duration::from_secs(clear_for), ..shed }];
    let emergency = Emergency { hold: Duration::from_secs(1), ..Emergency::default() };
    let spacing = Spacing::every(Duration::from_millis(500));
    let plan = Plan::new(Policy { level: Level::Standard, emergency, rules, spacing, ..Policy::default() });
    let mut node = Node::new(Arc::new(plan), Vec::new(), leased);
    node.run(90.0, 30);
    assert_eq!(node.in_force(), ["shed edge by 75%"]);
    node.now = node.now + Duration::from_secs(40);
    node.text.clear();
    LAPSED.set(true);
    node
}

fn is_off(node: &Node) -> bool {
    LAPSED.get() || node.in_force().is_empty()
}

#[test]
fn what_has_lapsed_meanwhile_is_not_given_again_where_the_trouble_is_over() {
    let mut node = stopped(10);
    for _ in 0..40 {
        node.run(10.0, 1);
        assert!(is_off(&node), "{}", node.text);
    }
    assert!(!node.text.contains("apply"), "{}", node.text);
}

/// Between `when` and `clear` too, for as long as it stays there; and whatever recovery makes of it.
#[test]
fn what_has_lapsed_meanwhile_waits_for_the_condition_itself() {
    let mut node = stopped(600);
    node.run(10.0, 60);
    assert!(is_off(&node), "{}", node.text);
    node.run(90.0, 1);
    assert_eq!((node.in_force(), is_off(&node)), (vec!["shed edge by 75%"], false), "{}", node.text);
    let mut node = stopped(0);
    node.run(10.0, 30);
    assert!(is_off(&node) && !node.text.contains("apply"), "{}", node.text);
}

#[test]
fn where_the_trouble_goes_on_it_is_given_again_at_once() {
    let mut node = stopped(10);
    node.run(90.0, 1);
    assert_eq!((node.in_force(), is_off(&node)), (vec!["shed edge by 75%"], false), "{}", node.text);
}

/// An answer that came while it was stopped may be read before anything is sampled.
#[test]
fn nothing_is_given_or_renewed_before_the_next_look() {
    let mut node = stopped(10);
    let mut out = Decisions::default();
    let id = *node.in_force.keys().next().unwrap();
    let told = |id: ActionId, answered, outcome| {
        let detail = "".into();
        Report { id, answered, outcome, detail, took: Duration::ZERO, freed_bytes: None, theirs: None }
    };
    node.guardian.step(node.now, Input::Usable("edge"), &mut out);
    node.guardian.step(node.now, Input::Reported(told(id, Answered::Verify, Outcome::EpochChanged)), &mut out);
    node.guardian.step(node.now, Input::Usable("edge"), &mut out);
    let renews = |command: &Command| {
        matches!(command, Command::Apply { .. } | Command::Verify { lease: Lease::Renew { .. }, .. })
    };
    assert!(!out.commands.iter().any(renews), "{:?}", out.commands);
}
