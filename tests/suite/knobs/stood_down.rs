//! What is known to help nobody is not tried anew because the guardian is: a rule that has stood down, and a restart.

use super::*;

use node_guardian::policy::event::Mode;

const STAND_DOWN: u64 = 20;

fn plan(more: &[Step]) -> Arc<Plan> {
    let emergency = Emergency {
        hold: Duration::from_secs(1),
        stand_down: Duration::from_secs(STAND_DOWN),
        undo_interval: Duration::from_secs(1),
        ..Emergency::default()
    };
    let freeze = Mitigation { control: "batch".into(), verb: Verb::Freeze, amount: Amount::Whole };
    let mut steps = vec![step(Verb::Throttle, "edge", 50.0), Step::new(freeze, Duration::from_secs(3))];
    steps.extend_from_slice(more);
    let clear = Some(parse("cpu.used_percent < 50%").unwrap());
    let rules = vec![Rule { clear, clear_for: Duration::from_secs(10), ..rule("60", 1, steps) }];
    Arc::new(Plan::new(Policy { level: Level::Standard, emergency, rules, ..Policy::default() }))
}

impl Node {
    fn restart(&mut self, more: &[Step]) {
        let found = |(id, text): (&ActionId, &String)| {
            let verb = if text.starts_with("freeze") { Verb::Freeze } else { Verb::Throttle };
            let (control, amount) = match verb {
                Verb::Freeze => ("batch", Amount::Whole),
                _ => ("edge", Amount::Keep(50.0)),
            };
            let mitigation = Mitigation { control: control.into(), verb, amount };
            let (rule, target, changed) = ("above-60".into(), control.into(), "".into());
            Inherited { id: *id, mitigation, rule, target, changed, age: Duration::ZERO }
        };
        let inherited = self.in_force.iter().map(found).collect();
        let orders = self.guardian.orders().clone();
        let mut out = Decisions::default();
        self.guardian = Guardian::new(self.now, plan(more), inherited, ActionId(1000), &mut out);
        self.guardian.restore_orders(self.now, orders, &mut out);
    }

    fn refuses(&self) -> bool {
        self.in_force.values().any(|held| held.starts_with("throttle"))
    }

    /// So many of these seconds.
    fn refused(&mut self, cpu: f64, seconds: u64) -> u64 {
        let mut refused = 0;
        for _ in 0..seconds {
            self.run(cpu, 1);
            refused += u64::from(self.refuses());
        }
        refused
    }
}

/// Since ten seconds.
fn stood_down() -> Node {
    let mut node = Node::new(plan(&[]), Vec::new(), |_| Outcome::Applied);
    node.run(70.0, 5);
    assert_eq!((node.in_force().len(), node.guardian.turns_away()), (2, true), "{}", node.text);
    node.run(70.0, STAND_DOWN + 25);
    assert_eq!((node.in_force(), node.guardian.turns_away()), (vec!["freeze batch"], false), "{}", node.text);
    node
}

#[test]
fn users_are_not_refused_again_and_the_next_try_comes_when_it_was_to_come() {
    let next_try = |restarts: bool| {
        let mut node = stood_down();
        if restarts {
            node.restart(&[]);
            node.run(70.0, 1);
            assert_eq!((node.guardian.mode(), node.guardian.turns_away()), (Mode::Emergency, false));
            node.run(70.0, 5);
            assert_eq!(node.in_force(), ["freeze batch"], "what costs nobody is taken: {}", node.text);
        }
        let waited = (0..400).find(|_| node.refused(70.0, 1) > 0).expect("it tries again");
        let refused = node.refused(70.0, 120);
        assert!(refused < STAND_DOWN, "a short one: {refused} s\n{}", node.text);
        waited + if restarts { 6 } else { 0 }
    };
    assert_eq!(next_try(true), next_try(false));
}

/// As where it is killed for want of memory, time and again: within the tries as well.
#[test]
fn starts_that_follow_each_other_refuse_no_user_for_long() {
    let mut node = stood_down();
    let mut refused = 0;
    for _ in 0..450 {
        node.restart(&[]);
        refused += node.refused(70.0, 8);
    }
    assert!(refused > 0 && refused < 60, "{refused} s of an hour");
}

#[test]
fn what_is_much_worse_than_before_the_restart_is_a_new_trouble() {
    let mut node = stood_down();
    node.restart(&[]);
    node.run(95.0, 3);
    assert!(node.refuses() && node.guardian.orders().stood_down().all().count() == 1, "{}", node.text);
}

#[test]
fn another_ladder_is_tried_at_once() {
    let mut node = stood_down();
    node.restart(&[step(Verb::Shed, "edge", 50.0)]);
    node.run(70.0, 3);
    assert!(node.refuses(), "{}", node.text);
}

#[test]
fn a_trouble_that_was_over_since_is_a_new_one() {
    for (calm, refuses) in [(5, false), (15, true)] {
        let mut node = stood_down();
        node.restart(&[]);
        node.run(10.0, calm);
        node.run(70.0, 3);
        assert_eq!(node.refuses(), refuses, "after {calm} s: {}", node.text);
    }
    let mut node = stood_down();
    node.restart(&[]);
    node.run(55.0, 300 + 3700);
    assert!(node.guardian.orders().stood_down().is_empty());
}
