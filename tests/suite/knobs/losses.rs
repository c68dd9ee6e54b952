//! What loses something is not done again too soon, whichever rule would do it and whatever reloads made of its steps.

use std::sync::Arc;
use std::time::Duration;

use node_guardian::policy::guardian::{Decisions, Input};
use node_guardian::policy::mitigation::{Amount, Level, Mitigation, Outcome, Verb};
use node_guardian::policy::plan::Plan;
use node_guardian::policy::rule::{Policy, Rule, Step};

use super::{Node, policy, rule, step};

fn flush(control: &str) -> Step {
    let mitigation = Mitigation { control: control.into(), verb: Verb::Flush, amount: Amount::Whole };
    Step::new(mitigation, Duration::from_secs(1))
}

fn flushes(node: &Node) -> usize {
    node.text.matches("flush").count()
}

/// Each rule has its own cooldown, of twenty seconds here: what was lost just now is not lost again.
#[test]
fn what_one_rule_has_flushed_another_does_not_flush_at_once() {
    let rules = vec![rule("90", 10, vec![flush("cache")]), rule("80", 5, vec![flush("cache")])];
    let mut node = Node::new(policy(Level::Maximum, rules), Vec::new(), |_| Outcome::Applied);
    node.run(95.0, 18);
    assert_eq!(flushes(&node), 1, "{}", node.text);
    node.run(95.0, 6);
    assert_eq!(flushes(&node), 2, "the trouble outlives it: {}", node.text);
    node.run(95.0, 60);
    assert_eq!(flushes(&node), 2, "each rule once in a firing: {}", node.text);
}

/// What a reload does not know of it is done once more at its first mistake.
#[test]
fn a_reload_is_no_reason_to_flush_again() {
    let with = |name: &str, steps: Vec<Step>| {
        policy(Level::Maximum, vec![Rule { name: name.into(), ..rule("90", 10, steps) }])
    };
    let notify =
        || Step::new(Mitigation { control: "pager".into(), verb: Verb::Notify, amount: Amount::Whole }, Duration::ZERO);
    let other = policy(Level::Disabled, vec![rule("90", 10, vec![flush("cache")])]);
    for (between, last) in [
        (with("above-90", vec![notify()]), with("above-90", vec![flush("cache")])),
        (with("another", vec![flush("cache")]), with("above-90", vec![flush("cache")])),
        (policy(Level::Maximum, Vec::new()), with("above-90", vec![notify(), flush("cache")])),
        (other, with("above-90", vec![flush("cache")])),
    ] {
        let mut node = Node::new(with("above-90", vec![flush("cache")]), Vec::new(), |_| Outcome::Applied);
        node.run(95.0, 3);
        assert_eq!(flushes(&node), 1, "{}", node.text);
        for plan in [between, last] {
            node.guardian.reload(node.now, plan);
            node.run(95.0, 4);
        }
        assert_eq!(flushes(&node), 1, "{}", node.text);
    }
}

/// In a file that is edited twice, with the guardian killed in between or not.
#[test]
fn a_control_that_was_taken_out_and_put_back_at_another_address_is_not_flushed_again() {
    let leads_to = |target: &str| {
        let targets = vec![("cache".into(), target.into())];
        let rules = vec![rule("90", 10, vec![flush("cache")])];
        Arc::new(Plan::new(Policy { level: Level::Maximum, rules, targets, ..Policy::default() }))
    };
    let mut node = Node::new(leads_to("unix"), Vec::new(), |_| Outcome::Applied);
    node.run(95.0, 3);
    assert_eq!(flushes(&node), 1, "{}", node.text);
    let mut next = Node::new(leads_to("tcp"), Vec::new(), |_| Outcome::Applied);
    next.guardian.restore_orders(next.now, node.guardian.orders().clone(), &mut Decisions::default());
    next.run(95.0, 5);
    assert_eq!(flushes(&next), 0, "{}", next.text);
    for node in [&mut node, &mut next] {
        let before = flushes(node);
        for plan in [policy(Level::Maximum, Vec::new()), leads_to("another")] {
            node.guardian.reload(node.now, plan);
            node.run(95.0, 4);
        }
        assert_eq!(flushes(node), before, "{}", node.text);
    }
}

/// The same control, whose address is written differently: another name for one server, most likely.
#[test]
fn what_was_flushed_or_undone_follows_its_control_to_another_address() {
    let leads_to = |target: &str| {
        let rules = vec![rule("90", 10, vec![flush("cache"), step(Verb::Shrink, "cache", 50.0)])];
        let targets = vec![("cache".into(), target.into())];
        Arc::new(Plan::new(Policy { level: Level::Maximum, rules, targets, ..Policy::default() }))
    };
    let mut node = Node::new(leads_to("unix"), Vec::new(), |_| Outcome::Applied);
    let shrinks = |node: &Node| node.in_force().iter().filter(|what| what.starts_with("shrink")).count();
    node.run(95.0, 6);
    assert_eq!((flushes(&node), shrinks(&node)), (1, 1), "{}", node.text);
    let id = node.in_force.iter().find(|(_, what)| what.starts_with("shrink")).map(|(id, _)| *id).unwrap();
    node.step(Input::Undo { ids: &[id], by: "uid 0".into() });
    node.run(95.0, 2);
    node.guardian.reload(node.now, leads_to("tcp"));
    node.run(95.0, 10);
    assert_eq!((flushes(&node), shrinks(&node)), (1, 0), "{}", node.text);
    let orders = node.guardian.orders().clone();
    let mut next = Node::new(leads_to("another"), Vec::new(), |_| Outcome::Applied);
    next.guardian.restore_orders(next.now, orders, &mut Decisions::default());
    next.run(95.0, 10);
    assert_eq!((flushes(&next), shrinks(&next)), (0, 0), "{}", next.text);
    next.guardian.reload(next.now, policy(Level::Maximum, Vec::new()));
    next.run(95.0, 2);
    next.guardian.reload(next.now, leads_to("a third"));
    next.run(95.0, 10);
    assert_eq!((flushes(&next), shrinks(&next)), (0, 0), "taken out and put back elsewhere: {}", next.text);
}
