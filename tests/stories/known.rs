//! Stories that once ended badly, as short as they could be made. Each is told again with every build.

use std::time::Duration;

use node_guardian::policy::mitigation::{Level, Verb};
use node_guardian::policy::orders::Hold;

use crate::rules::{FIRST, Node, Setup};
use crate::run::{Run, Tell, told};
use crate::story::Happening::{self, Dies, Gap, Looks, Mood as Feels, Pause, Reads, Reload, Sets, Stops, Undo};
use crate::story::Mood;

const fn node(memory: f64, cpu: f64) -> Happening {
    Reads(Node { memory: Some(memory), cpu: Some(cpu) })
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ladders(ladders: u8) -> Happening {
    Reload(Setup { ladders, ..FIRST })
}

const MOVED: Happening = Reload(Setup { moved: true, ..FIRST });

/// A rule stands down, and what costs users goes back as a test; read closely enough to see it get worse.
const TESTING: [Happening; 4] = [
    node(50.0, 60.0),
    Looks(10, seconds(3)),
    Looks(12, Duration::from_millis(500)),
    Looks(12, Duration::from_millis(100)),
];

#[track_caller]
fn ends_well(story: &[Happening]) {
    assert!(Run::new(Tell::Nothing).through(story).is_ok(), "{}", told(story));
}

#[test]
fn what_an_operator_undid_does_not_come_back_because_a_test_got_worse() {
    ends_well(&[&TESTING[..], &[Undo(None), node(3.0, 95.0)]].concat());
}

#[test]
fn what_is_given_back_as_a_test_follows_its_steps_through_a_reload() {
    for other in 0..3 {
        for first in 0..3 {
            ends_well(&[&[ladders(first)], &TESTING[..], &[ladders(other), node(8.0, 95.0)]].concat());
        }
    }
}

#[test]
fn a_dry_run_takes_nothing_again() {
    let dry = Reload(Setup { dry_run: true, ..FIRST });
    ends_well(&[&TESTING[..], &[dry, node(3.0, 95.0)]].concat());
}

#[test]
fn a_level_that_allows_less_takes_nothing_again() {
    let minimal = Reload(Setup { level: Level::Minimal, ..FIRST });
    ends_well(&[&TESTING[..], &[minimal, node(3.0, 95.0)]].concat());
}

#[test]
fn what_loses_and_lasts_waits_for_what_loses_at_once() {
    ends_well(&[ladders(1), node(3.0, 10.0), Looks(5, seconds(1))]);
}

#[test]
fn what_loses_is_known_to_be_under_way_when_a_reload_drops_its_step() {
    let flushes = [node(3.0, 95.0), Looks(4, seconds(3)), Reads(Node { memory: Some(3.0), cpu: None })];
    ends_well(&[&flushes[..], &[ladders(2)]].concat());
}

#[test]
fn a_control_that_leads_back_to_what_an_operator_undid_does_not_turn_it() {
    let undone = [node(50.0, 95.0), Looks(2, seconds(1)), Undo(Some(0))];
    ends_well(&[&undone[..], &[node(8.0, 30.0), MOVED, Looks(1, seconds(3)), ladders(0)]].concat());
}

#[test]
fn what_somebody_set_stays_theirs_while_another_rule_cools() {
    let acted = [node(3.0, 10.0), Looks(6, seconds(1)), node(98.0, 60.0), Sets("edge", Verb::Shed, 97.0)];
    let close = Looks(12, Duration::from_millis(100));
    let tested = [Looks(9, seconds(3)), close, close, close, node(66.0, 95.0)];
    ends_well(&[&acted[..], &tested[..]].concat());
}

#[test]
fn what_somebody_set_stays_theirs_over_a_pause() {
    let acted = [node(3.0, 95.0), Looks(2, seconds(1)), Sets("edge", Verb::Throttle, 97.0), Gap(seconds(20))];
    let paused = [node(3.0, 60.0), node(3.0, 10.0), Pause(seconds(5), Hold::Undo), Looks(3, seconds(3))];
    ends_well(&[&acted[..], &paused[..]].concat());
}

#[test]
fn what_was_owed_at_a_death_is_paid() {
    let hangs = [node(3.0, 95.0), Looks(4, seconds(1)), Feels("edge", Mood::Hangs), node(80.0, 10.0)];
    ends_well(&[&hangs[..], &[Looks(9, seconds(3)), Dies, Gap(seconds(120))]].concat());
}

#[test]
fn what_somebody_set_stays_theirs_over_a_death_and_an_end() {
    let acted = [node(3.0, 95.0), Looks(2, seconds(1)), Sets("edge", Verb::Throttle, 97.0), Looks(8, seconds(1))];
    for end in [Dies, Stops] {
        ends_well(&[&acted[..], &[end, Looks(9, seconds(1)), Dies, Looks(9, seconds(1))]].concat());
    }
}

/// Nobody has noticed it before: the journal has ours, and the rule needs a second to fire.
#[test]
fn what_somebody_set_before_a_death_is_seen_before_its_rule_fires_again() {
    let acted = [node(3.0, 95.0), Looks(2, seconds(1)), Sets("edge", Verb::Throttle, 97.0)];
    for end in [Dies, Stops] {
        ends_well(&[&acted[..], &[end, Looks(9, Duration::from_millis(500))]].concat());
    }
}
