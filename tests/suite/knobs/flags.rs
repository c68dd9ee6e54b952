//! What a reload makes of a rule that fires: a dry run or not, a warning or an emergency.

use super::*;

use node_guardian::policy::event::Mode;

/// Held for longer than any of this takes.
fn plan(rules: Vec<Rule>) -> Arc<Plan> {
    let hold = Duration::from_secs(300);
    let emergency = Emergency { hold, hold_max: hold, ..Emergency::default() };
    Arc::new(Plan::new(Policy { level: Level::Standard, emergency, rules, ..Policy::default() }))
}

fn throttle(kept: f64) -> Rule {
    rule("80", 1, vec![step(Verb::Throttle, "edge", kept)])
}

fn dry(rule: Rule) -> Rule {
    Rule { dry_run: true, ..rule }
}

fn warning(rule: Rule) -> Rule {
    Rule { severity: Severity::Warning, ..rule }
}

fn begun(rules: Vec<Rule>) -> Node {
    let mut node = Node::new(plan(rules), Vec::new(), |_| Outcome::Applied);
    node.run(90.0, 10);
    node
}

impl Node {
    fn reload(&mut self, rules: Vec<Rule>) {
        self.guardian.reload(self.now, plan(rules));
        self.run(90.0, 1);
    }

    fn stands(&self) -> (Vec<&str>, Mode, bool) {
        (self.in_force(), self.guardian.mode(), self.guardian.turns_away())
    }
}

const HALF: &str = "throttle edge to 50%";

#[test]
fn a_rule_that_is_made_dry_lets_go_at_once_and_is_no_emergency() {
    let mut node = begun(vec![throttle(50.0)]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Emergency, true));
    node.reload(vec![dry(throttle(50.0))]);
    assert_eq!(node.stands(), (vec![], Mode::Normal, false), "{}", node.text);
    node.text.clear();
    node.run(90.0, 20);
    assert!(fires(&node, "above-80") && node.text.is_empty(), "{}", node.text);
    node.reload(vec![throttle(50.0)]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Emergency, true), "{}", node.text);
}

#[test]
fn what_a_rule_that_is_made_dry_wanted_of_a_knob_gives_way_to_what_another_wants() {
    let gentle = || Rule { name: "gentle".into(), priority: 0, ..throttle(80.0) };
    let mut node = begun(vec![throttle(50.0), gentle()]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Emergency, true));
    node.reload(vec![dry(throttle(50.0)), gentle()]);
    node.run(90.0, 10);
    assert_eq!(node.stands(), (vec!["throttle edge to 80%"], Mode::Emergency, true), "{}", node.text);
}

/// A ladder that did nothing in a dry run has not shown that nothing helps.
#[test]
fn a_rule_that_was_dry_for_long_acts_at_once_when_it_may() {
    let mut node = begun(vec![dry(throttle(50.0))]);
    node.run(90.0, 300);
    assert_eq!(node.stands(), (vec![], Mode::Normal, false));
    node.reload(vec![throttle(50.0)]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Emergency, true), "{}", node.text);
}

#[test]
fn a_rule_that_fires_makes_an_emergency_when_its_severity_does_and_ends_it_so() {
    let mut node = begun(vec![warning(throttle(50.0))]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Normal, false));
    node.reload(vec![throttle(50.0)]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Emergency, true), "{}", node.text);
    node.reload(vec![warning(throttle(50.0))]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Normal, false), "{}", node.text);
    // What another one holds is held.
    let other = || Rule { name: "other".into(), steps: Vec::new(), ..throttle(50.0) };
    node.reload(vec![throttle(50.0), other()]);
    node.reload(vec![warning(throttle(50.0)), other()]);
    assert_eq!(node.stands(), (vec![HALF], Mode::Emergency, true), "{}", node.text);
    // A calm that nobody ordered is waited for.
    node.run(10.0, 20);
    assert_eq!(node.guardian.mode(), Mode::Emergency, "{}", node.text);
}
