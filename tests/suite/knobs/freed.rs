//! What is refused because something else of ours stands there is tried again as soon as that is gone.

use std::cell::Cell;

use node_guardian::policy::mitigation::{Command, Level, Outcome, Verb};

use super::{Node, policy, rule, step};

thread_local! {
    static STANDS: Cell<bool> = const { Cell::new(false) };
}

/// One setting by two verbs.
fn one_at_a_time(command: &Command) -> Outcome {
    match command {
        Command::Apply { mitigation, .. } if mitigation.verb == Verb::Throttle => STANDS.set(true),
        Command::Apply { .. } if STANDS.get() => return Outcome::Refused,
        Command::Undo { .. } => STANDS.set(false),
        _ => {}
    }
    Outcome::Applied
}

#[test]
fn a_verb_that_a_reload_has_renamed_takes_over_at_once() {
    let with = |verb| policy(Level::Standard, vec![rule("80", 1, vec![step(verb, "edge", 50.0)])]);
    let mut node = Node::new(with(Verb::Throttle), Vec::new(), one_at_a_time);
    node.run(90.0, 5);
    assert_eq!(node.in_force(), ["throttle edge to 50%"]);
    node.guardian.reload(node.now, with(Verb::Shed));
    node.run(90.0, 25);
    assert_eq!(node.in_force(), ["shed edge by 50%"], "{}", node.text);
    node.run(90.0, 10);
    assert!(node.text.matches("apply").count() <= 6, "{}", node.text);
}
