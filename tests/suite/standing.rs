//! What a metric does that swings, steps or grows, by itself or because of us: users are served again within three minutes
//! where nothing helps, and a growth that a step holds is not given back into. The policy against a metric that may follow
//! what is in force, in its own time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::policy::condition::parse;
use node_guardian::policy::effect::Effect;
use node_guardian::policy::event::Event;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::metric::Metric;
use node_guardian::policy::mitigation::{ActionId, Amount, Answered, Command, Mitigation, Outcome, Report, Verb};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::rule::{Emergency, Policy, Rule, Severity, Step};
use node_guardian::policy::sample::Sample;
use node_guardian::policy::view::View;

const PACE: f64 = 0.25;
/// Users are served again within so long after the rule has fired.
const SOON: f64 = 180.0;

/// What is let through of what comes: by the throttle and by the shed, from 0 to 1.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Kept {
    throttle: f64,
    shed: f64,
}

const ALL: Kept = Kept { throttle: 1.0, shed: 1.0 };

impl Kept {
    fn share(self) -> f64 {
        self.throttle * self.shed
    }
}

struct Setting {
    stand_down: u64,
    undo_interval: u64,
}

const AS_SHIPPED: Setting = Setting { stand_down: 120, undo_interval: 5 };
const HASTY: Setting = Setting { stand_down: 120, undo_interval: 1 };
const IMPATIENT: Setting = Setting { stand_down: 20, undo_interval: 1 };

fn plan(setting: &Setting) -> Arc<Plan> {
    let step = |verb, amount| {
        let mitigation = Mitigation { control: "edge".into(), verb, amount };
        Step::new(mitigation, Duration::from_secs(5))
    };
    let rule = Rule {
        name: "short".into(),
        when: parse("memory.available_percent < 10%").unwrap(),
        hold_for: Duration::ZERO,
        clear: Some(parse("memory.available_percent > 20%").unwrap()),
        clear_for: Duration::from_secs(1),
        severity: Severity::Emergency,
        priority: 1,
        cooldown: Duration::from_secs(1),
        steps: vec![step(Verb::Throttle, Amount::Keep(50.0)), step(Verb::Shed, Amount::Keep(50.0))],
        dry_run: false,
        hints: Vec::new(),
    };
    let emergency = Emergency {
        stand_down: Duration::from_secs(setting.stand_down),
        undo_interval: Duration::from_secs(setting.undo_interval),
        ..Emergency::default()
    };
    Arc::new(Plan::new(Policy { emergency, rules: vec![rule], ..Policy::default() }))
}

/// One run: when users were refused anything, and what was told.
#[derive(Default)]
struct Seen {
    refused: Vec<(f64, f64)>,
    told: Vec<(f64, Event)>,
    /// What each step is said to have done, at the end.
    effects: Vec<Option<Effect>>,
    text: String,
}

impl Seen {
    fn of(setting: &Setting, seconds: f64, mut metric: impl FnMut(f64, Kept) -> f64) -> Self {
        let mut seen = Seen::default();
        let mut out = Decisions::default();
        let mut guardian = Guardian::new(Moment::ORIGIN, plan(setting), Vec::new(), ActionId(1), &mut out);
        let mut in_force: BTreeMap<ActionId, Mitigation> = BTreeMap::new();
        let mut sample = Sample::default();
        let mut last = ALL;
        for tick in 0.. {
            let at = f64::from(tick) * PACE;
            if at > seconds {
                break;
            }
            let value = metric(at, last);
            sample.at = Moment::at(Duration::from_secs_f64(at));
            sample.set(Metric::MemoryAvailablePercent, Some(value).filter(|value| !value.is_nan()));
            guardian.step(sample.at, Input::Sampled(&sample), &mut out);
            while !out.commands.is_empty() || !out.events.is_empty() {
                seen.note(at, &out);
                let commands = std::mem::take(&mut out.commands);
                out.clear();
                for command in commands {
                    guardian.step(sample.at, Input::Reported(perform(&mut in_force, &command)), &mut out);
                }
            }
            let kept = kept(&in_force);
            match (seen.refused.last_mut(), kept == ALL) {
                (Some((_, until)), false) if last != ALL => *until = at,
                (_, false) => seen.refused.push((at, at)),
                (_, true) => {}
            }
            last = kept;
        }
        let mut view = View::default();
        guardian.show(&mut view);
        seen.effects = view.steps.iter().map(|step| step.effect).collect();
        seen
    }

    fn note(&mut self, at: f64, out: &Decisions) {
        for event in &out.events {
            self.told.push((at, event.clone()));
            writeln!(self.text, "{at:>9.2}  {event}").unwrap();
        }
    }

    fn refused_at(&self, at: f64) -> bool {
        self.refused.iter().any(|(from, until)| (*from..=*until).contains(&at))
    }

    /// Seconds of refusing between the two.
    fn refused_within(&self, from: f64, until: f64) -> f64 {
        self.refused.iter().map(|(begun, ended)| (ended.min(until) - begun.max(from)).max(0.0)).sum()
    }

    fn fired(&self) -> f64 {
        let fired = self.told.iter().find(|(_, event)| matches!(event, Event::Fired { .. }));
        fired.map(|(at, _)| *at).expect("the rule fires")
    }

    fn spans(&self) -> String {
        let spans = self.refused.iter().map(|(from, until)| format!("{from:.0}–{until:.0}"));
        spans.take(14).collect::<Vec<_>>().join(", ")
    }
}

fn perform(in_force: &mut BTreeMap<ActionId, Mitigation>, command: &Command) -> Report {
    let id = command.id();
    let answered = match command {
        Command::Apply { mitigation, .. } => {
            in_force.insert(id, mitigation.clone());
            Answered::Apply
        }
        Command::Verify { .. } => Answered::Verify,
        Command::Undo { .. } | Command::Forget { .. } => {
            in_force.remove(&id);
            Answered::Undo
        }
    };
    let (outcome, took) = (Outcome::Applied, Duration::ZERO);
    Report { id, answered, outcome, detail: "".into(), took, freed_bytes: None, theirs: None }
}

fn kept(in_force: &BTreeMap<ActionId, Mitigation>) -> Kept {
    let of = |verb| {
        let there = in_force.values().filter(|mitigation| mitigation.verb == verb);
        there.filter_map(|mitigation| mitigation.amount.kept_percent()).fold(100.0_f64, f64::min) / 100.0
    };
    Kept { throttle: of(Verb::Throttle), shed: of(Verb::Shed) }
}

/// Falls from the first to the second within `over` seconds, again and again.
fn saw(at: f64, over: f64) -> f64 {
    14.0 - 7.0 * (at % over) / over
}

fn triangle(at: f64, period: f64) -> f64 {
    7.0 + 8.0 * (at % period / period * 2.0 - 1.0).abs()
}

/// Takes its memory within so many seconds, and keeps it.
fn ramp(at: f64, over: f64) -> f64 {
    (30.0 - 23.0 * at / over).max(7.0)
}

fn spike(at: f64, period: f64) -> f64 {
    if at % period < period * 0.1 { 8.0 } else { 14.0 }
}

/// One of these at random for so long each; the same in each run.
fn leaps(at: f64, each: f64) -> f64 {
    let mut mixed = ((at / each).floor() as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    [6.0, 8.0, 9.0, 11.0, 13.0, 15.0][((mixed ^ (mixed >> 31)) % 6) as usize]
}

type Shape = (&'static str, Setting, fn(f64) -> f64);

/// Nothing that we do changes any of these, and none of them comes to where the rule clears.
const SHAPES: [Shape; 24] = [
    ("flat", AS_SHIPPED, |_| 7.0),
    ("ramp 15", HASTY, |at| ramp(at, 15.0)),
    ("ramp 40", HASTY, |at| ramp(at, 40.0)),
    ("ramp 40 after a quiet hour", AS_SHIPPED, |at| ramp((at - 3600.0).max(0.0), 40.0)),
    ("ramp 15", AS_SHIPPED, |at| ramp(at, 15.0)),
    ("ramp 40", AS_SHIPPED, |at| ramp(at, 40.0)),
    ("triangle 60", HASTY, |at| triangle(at, 60.0)),
    ("triangle 60", AS_SHIPPED, |at| triangle(at, 60.0)),
    ("triangle 300", AS_SHIPPED, |at| triangle(at, 300.0)),
    ("triangle 30", IMPATIENT, |at| triangle(at, 30.0)),
    ("saw 40", HASTY, |at| saw(at, 40.0)),
    ("saw 40", AS_SHIPPED, |at| saw(at, 40.0)),
    ("saw 90", HASTY, |at| saw(at, 90.0)),
    ("saw 90", AS_SHIPPED, |at| saw(at, 90.0)),
    ("saw 200", AS_SHIPPED, |at| saw(at, 200.0)),
    ("saw 400", AS_SHIPPED, |at| saw(at, 400.0)),
    ("spike 20", HASTY, |at| spike(at, 20.0)),
    ("spike 20", AS_SHIPPED, |at| spike(at, 20.0)),
    ("spike 20", IMPATIENT, |at| spike(at, 20.0)),
    ("spike 90", AS_SHIPPED, |at| spike(at, 90.0)),
    ("leaps 2", AS_SHIPPED, |at| leaps(at, 2.0)),
    ("leaps 2", HASTY, |at| leaps(at, 2.0)),
    ("leaps 2", IMPATIENT, |at| leaps(at, 2.0)),
    ("leaps 20", AS_SHIPPED, |at| leaps(at, 20.0)),
];

#[test]
fn what_nothing_changes_refuses_users_for_three_minutes_at_most() {
    let mut wrong = String::new();
    for (name, setting, metric) in &SHAPES {
        let seen = Seen::of(setting, 2.0 * 3600.0, |at, _| metric(at));
        let line = format!("{name:<28} {:>3} s {} s  {}", setting.stand_down, setting.undo_interval, seen.spans());
        if let Err(why) = stays_served(&seen) {
            writeln!(wrong, "{line}\n{why}\n{}\n", &seen.text[..seen.text.len().min(6000)]).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Served again soon, but for short tries with growing pauses.
fn stays_served(seen: &Seen) -> Result<(), String> {
    let soon = seen.fired() + SOON;
    if seen.refused_at(soon) {
        return Err("users are not served again within three minutes".into());
    }
    let later: Vec<_> = seen.refused.iter().filter(|(from, _)| *from > soon).collect();
    if let Some((from, until)) = later.iter().find(|(from, until)| until - from > SOON) {
        return Err(format!("refused from {from} to {until}"));
    }
    let pauses: Vec<f64> = later.windows(2).map(|two| two[1].0 - two[0].1).collect();
    if later.len() > 8 || pauses.windows(2).any(|two| two[1] < two[0] - 1.0 && two[1] < 3000.0) {
        return Err(format!("pauses do not grow: {:?}", &pauses[..pauses.len().min(12)]));
    }
    let hasty = |(told, until): &(f64, f64)| {
        let again = seen.told.iter().find(|(at, event)| *at > *told && matches!(event, Event::Retrying { .. }));
        *told > soon && again.is_some_and(|(at, _)| at < until)
    };
    // By chance a metric that leaps comes to what it has not come to before.
    let hasty = seen.told.iter().filter_map(promised).filter(hasty).count();
    if hasty > 1 {
        return Err(format!("tried again {hasty} times before it was told to be"));
    }
    Ok(())
}

fn promised((at, event): &(f64, Event)) -> Option<(f64, f64)> {
    match event {
        Event::StoodDown { retry_in, .. } => Some((*at, at + retry_in.as_secs_f64())),
        _ => None,
    }
}

/// From 60 s on it cannot be read for as long: is a user refused because nobody can see?
#[test]
fn what_nobody_can_judge_refuses_users_for_three_minutes_at_most() {
    for setting in [AS_SHIPPED, HASTY, IMPATIENT] {
        for (falls, unread) in [(7.0, 3.0 * 3600.0), (7.0, 600.0), (15.0, 600.0)] {
            let seen = Seen::of(&setting, 3600.0, |at, _| match at {
                ..30.0 => 7.0,
                30.0..60.0 => falls,
                at if at < 60.0 + unread => f64::NAN,
                _ => 7.0,
            });
            let gone = 60.0 + setting.stand_down as f64 + 60.0;
            let unseen = gone..(60.0 + unread).min(3600.0);
            assert_eq!(seen.refused_within(unseen.start, unseen.end), 0.0, "{}", seen.text);
            let refuses_again = seen.refused_within(60.0 + unread, 3600.0) > 0.0;
            assert_eq!(refuses_again, unread < 3600.0, "once it can be judged again: {}", seen.text);
        }
    }
}

/// A minute without readings in the middle of a trouble that a step holds.
#[test]
fn what_is_unread_for_a_while_gives_nothing_back() {
    let seen = Seen::of(&AS_SHIPPED, 150.0, |at, _| if (30.0..120.0).contains(&at) { f64::NAN } else { 7.0 });
    assert_eq!(seen.refused.len(), 1, "{}", seen.text);
}

/// The ramp ends just when the second step is taken, and nobody can tell that from an effect. Once the step was given back
/// and nobody missed it, everybody can.
#[test]
fn a_step_that_nobody_missed_is_said_to_have_closed_nothing() {
    let seen = Seen::of(&AS_SHIPPED, 300.0, |at, _| ramp(at, 40.0));
    let judged = |(_, event): &(f64, Event)| matches!(event, Event::Judged { effect: Effect::Share(_), .. });
    assert!(seen.told.iter().any(judged), "{}", seen.text);
    assert_eq!(seen.effects, [Some(Effect::NotDistinguishable); 2], "{}", seen.text);
}

/// Memory that leaks at so many points a second as long as enough is let through, and never comes back.
struct Leak {
    left: f64,
    from: f64,
    pace: f64,
    /// Up to this share nothing leaks, from there on more and more.
    held_at: f64,
    noise: f64,
}

impl Leak {
    fn read(&mut self, at: f64, kept: Kept) -> f64 {
        let share = ((kept.share() - self.held_at) / (1.0 - self.held_at)).clamp(0.0, 1.0);
        if at >= self.from {
            self.left -= self.pace * share * PACE;
        }
        self.left.max(0.0) + self.noise * (leaps(at, PACE) - 10.0) / 5.0
    }
}

struct LeakCase {
    name: &'static str,
    leak: Leak,
}

const fn leak(name: &'static str, left: f64, from: f64, pace: f64, held_at: f64, noise: f64) -> LeakCase {
    LeakCase { name, leak: Leak { left, from, pace, held_at, noise } }
}

/// For a leak.
const WATCHED: f64 = 3.0 * 3600.0;
const BOTH: f64 = 0.25;
const THROTTLE_ALONE: f64 = 0.5;
const POINT_A_MINUTE: f64 = 1.0 / 60.0;

impl LeakCase {
    fn seen(&self) -> (Seen, Vec<f64>) {
        let Leak { left, from, pace, held_at, noise } = self.leak;
        let mut leak = Leak { left, from, pace, held_at, noise };
        let mut levels = Vec::new();
        let seen = Seen::of(&AS_SHIPPED, WATCHED, |at, kept| {
            let read = leak.read(at, kept);
            levels.push(leak.left);
            read
        });
        (seen, levels)
    }
}

/// What leaked between the two.
fn lost(levels: &[f64], from: f64, until: f64) -> f64 {
    let level = |at: f64| levels[((at / PACE) as usize).min(levels.len() - 1)];
    level(from) - level(until)
}

/// How long after the one before each step was taken again.
fn taken_again(seen: &Seen) -> Vec<f64> {
    let mut times = vec![seen.fired()];
    times.extend(seen.told.iter().filter(|(_, event)| matches!(event, Event::TakenAgain { .. })).map(|(at, _)| *at));
    times.dedup();
    times.windows(2).map(|two| two[1] - two[0]).collect()
}

/// Seen to grow for three quarters of a minute and more, or for as long as it was watched: not even tested for an hour, and
/// after that without losing what is left.
#[test]
fn a_growth_that_was_seen_for_long_is_not_given_back_into() {
    let mut cases = Vec::new();
    for case in [
        leak("a point a minute", 20.0, 0.0, POINT_A_MINUTE, BOTH, 0.05),
        leak("a point a minute, without noise", 20.0, 0.0, POINT_A_MINUTE, BOTH, 0.0),
        leak("a point a minute, with noise", 20.0, 0.0, POINT_A_MINUTE, BOTH, 0.2),
        leak("a point a minute, held by the throttle", 20.0, 0.0, POINT_A_MINUTE, THROTTLE_ALONE, 0.05),
        leak("a third of a point a minute", 13.0, 0.0, POINT_A_MINUTE / 3.0, BOTH, 0.05),
        leak("two minutes after a quiet hour", 30.0, 3600.0, 0.2, BOTH, 0.05),
    ] {
        cases.push((case, 1.0));
    }
    // Each test costs what a half step lets in.
    cases.push((leak("for as long as anybody watched", 30.0, 5.0, 0.5, BOTH, 0.05), 2.0));
    for (case, most) in cases {
        let (seen, levels) = case.seen();
        let fired = seen.fired();
        let words = format!("{}: {}\n{}", case.name, seen.spans(), seen.text);
        assert!(seen.refused.len() == 1 && seen.refused[0].1 > WATCHED - 1.0, "{words}");
        let settled = fired + 30.0;
        assert!(lost(&levels, settled, fired + 3600.0) < 0.01, "{words}");
        assert!(lost(&levels, settled, WATCHED) < most, "{words}");
        assert!(taken_again(&seen).iter().all(|pause| *pause >= 3600.0), "{words}");
    }
}

/// Seen to grow for less, it may have come to its own end: it is tested once, and then less and less often.
#[test]
fn a_growth_of_seconds_costs_what_a_half_step_lets_in_and_is_believed_then() {
    for (case, most) in [
        (leak("half a point a second", 30.0, 300.0, 0.5, BOTH, 0.05), 0.7),
        (leak("faster", 30.0, 300.0, 1.5, BOTH, 0.05), 1.0),
        (leak("held by the throttle", 30.0, 300.0, 0.5, THROTTLE_ALONE, 0.05), 1.2),
    ] {
        let (seen, levels) = case.seen();
        let words = format!("{}: {}\n{}", case.name, seen.spans(), seen.text);
        assert_eq!(seen.refused.len(), 1, "{words}");
        assert!(lost(&levels, seen.fired() + 30.0, seen.fired() + 600.0) < most, "{words}");
        let pauses = taken_again(&seen);
        assert!(pauses.len() >= 4 && pauses.windows(2).all(|two| two[1] > two[0] * 1.9), "{pauses:?} {words}");
    }
}

/// Held, it also gets better, but never as good as where the rule clears.
#[test]
fn what_gets_better_with_the_steps_is_kept_from_its_end_with_growing_pauses() {
    let mut left = 30.0_f64;
    let mut least = left;
    let seen = Seen::of(&AS_SHIPPED, 4.0 * 3600.0, |at, kept| {
        if at > 300.0 {
            left = if kept.share() <= BOTH { (left + 0.05 * PACE).min(14.0).max(left) } else { left - 0.1 * PACE };
        }
        least = least.min(left);
        left
    });
    assert!(least > 5.0, "{least}: {}", seen.text);
    let served = 1.0 - seen.refused_within(3600.0, 4.0 * 3600.0) / (3.0 * 3600.0);
    assert!(served < 0.1, "{served}: {}", seen.text);
}

/// Each is answered as if it were new, until one is seen that comes although everything is in force.
#[test]
fn a_burst_that_comes_every_few_minutes_is_known_after_some_of_them() {
    let seen = Seen::of(&AS_SHIPPED, 4.0 * 3600.0, |at, _| spike(at, 300.0));
    let words = format!("{}\n{}", seen.spans(), seen.text);
    assert!(!seen.refused_at(seen.fired() + SOON), "{words}");
    assert!(seen.refused_within(1800.0, 4.0 * 3600.0) < 300.0, "{words}");
    assert!(seen.refused_within(0.0, 1800.0) < 1200.0, "{words}");
}
