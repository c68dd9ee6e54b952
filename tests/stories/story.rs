//! A story: what happens to a node, its services and its guardian, one thing after the other. Made from a number, and
//! made shorter where it shows a fault.

use std::time::Duration;

use node_guardian::policy::mitigation::{Level, Outcome, Verb};
use node_guardian::policy::orders::Hold;

use crate::random::Random;
use crate::rules::{FIRST, LADDERS, Node, Setup};

pub const TARGETS: [&str; 7] = ["edge", "edge-b", "shop", "cache", "store", "job", "logs"];

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Happening {
    /// What is read changes, and the guardian looks.
    Reads(Node),
    /// So many looks, this far apart.
    Looks(u8, Duration),
    /// Time passes in which nothing is read.
    Gap(Duration),
    Mood(&'static str, Mood),
    /// Somebody sets a knob.
    Sets(&'static str, Verb, f64),
    Restarts(&'static str),
    /// Those of the present actions that have this place, or all.
    Undo(Option<u8>),
    Forget(Option<u8>),
    Pause(Duration, Hold),
    Resume(Option<u8>),
    Usable(&'static str),
    Drill,
    Reload(Setup),
    /// The guardian ends, undoing everything as far as it is answered, and begins again.
    Stops,
    /// The guardian is killed and begins again.
    Dies,
}

/// How a target takes what is asked of it from now on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Mood {
    Works(Duration),
    /// Nothing is answered, and nothing done, until its mood changes.
    Hangs,
    /// Nothing is done.
    Fails(Outcome),
    /// No answer came in time; it was done all the same.
    DoesUnheard,
    /// No answer came in time, and nothing was done.
    LosesUnheard,
}

pub fn tell(seed: u64) -> Vec<Happening> {
    let mut random = Random::new(seed);
    let length = 5 + random.below(40);
    (0..length).map(|_| happening(&mut random)).collect()
}

fn happening(random: &mut Random) -> Happening {
    match random.below(64) {
        0..20 => Happening::Reads(node(random)),
        20..36 => Happening::Looks(1 + random.below(12) as u8, pace(random)),
        36 => Happening::Gap(random.pick(&[3, 20, 120, 900]).seconds()),
        37..45 => Happening::Mood(random.pick(&TARGETS), mood(random)),
        45..48 => Happening::Sets(random.pick(&TARGETS), verb(random), random.pick(&[7.0, 37.0, 63.0, 97.0])),
        48..50 => Happening::Restarts(random.pick(&TARGETS)),
        50..52 => Happening::Undo(which(random)),
        52 => Happening::Forget(which(random)),
        53 => Happening::Pause(random.pick(&[5, 60, 1800]).seconds(), random.pick(&[Hold::Undo, Hold::Keep])),
        54..56 => Happening::Resume(which(random)),
        56 => Happening::Usable(random.pick(&TARGETS)),
        57 => Happening::Drill,
        58..62 => Happening::Reload(setup(random)),
        62 => Happening::Stops,
        _ => Happening::Dies,
    }
}

fn node(random: &mut Random) -> Node {
    let mut reading = |known: [f64; 4]| match random.below(8) {
        0 => None,
        1..7 => Some(random.pick(&known)),
        _ => Some(random.below(101) as f64),
    };
    Node { memory: reading([3.0, 8.0, 50.0, 80.0]), cpu: reading([10.0, 30.0, 60.0, 95.0]) }
}

fn pace(random: &mut Random) -> Duration {
    Duration::from_millis(random.pick(&[100, 100, 500, 1000, 3000]))
}

fn mood(random: &mut Random) -> Mood {
    match random.below(10) {
        0..4 => Mood::Works(Duration::from_millis(random.pick(&[1, 200, 2000, 15_000]))),
        4..6 => Mood::Hangs,
        6..8 => Mood::Fails(random.pick(&[Outcome::Refused, Outcome::Unreachable, Outcome::Unsupported])),
        8 => Mood::DoesUnheard,
        _ => Mood::LosesUnheard,
    }
}

fn verb(random: &mut Random) -> Verb {
    random.pick(&[Verb::Throttle, Verb::Throttle, Verb::Shed, Verb::Shrink, Verb::Freeze, Verb::Drain])
}

fn which(random: &mut Random) -> Option<u8> {
    (!random.one_in(3)).then(|| random.below(4) as u8)
}

fn setup(random: &mut Random) -> Setup {
    let level = random.pick(&[
        Level::Maximum,
        Level::Maximum,
        Level::Maximum,
        Level::Aggressive,
        Level::Standard,
        Level::Minimal,
        Level::Disabled,
    ]);
    let ladders = random.below(usize::from(LADDERS)) as u8;
    Setup { ladders, level, moved: random.one_in(3), dry_run: random.one_in(8) }
}

/// The shortest story found that still `fails`, by leaving out ever smaller parts of it.
pub fn shortened(story: &[Happening], fails: impl Fn(&[Happening]) -> bool) -> Vec<Happening> {
    let mut story = story.to_vec();
    let mut part = story.len() / 2;
    while part > 0 {
        let mut at = 0;
        while at < story.len() {
            let mut less = story.clone();
            less.drain(at..(at + part).min(less.len()));
            if fails(&less) {
                story = less;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
    simpler(story, fails)
}

/// What can be something plainer is.
fn simpler(mut story: Vec<Happening>, fails: impl Fn(&[Happening]) -> bool) -> Vec<Happening> {
    for at in 0..story.len() {
        for plainer in plainer(story[at]) {
            let before = std::mem::replace(&mut story[at], plainer);
            if fails(&story) {
                break;
            }
            story[at] = before;
        }
    }
    story
}

fn plainer(happening: Happening) -> Vec<Happening> {
    match happening {
        Happening::Looks(times, pace) if times > 1 => (1..times).map(|fewer| Happening::Looks(fewer, pace)).collect(),
        Happening::Reload(setup) => vec![
            Happening::Reload(FIRST),
            Happening::Reload(Setup { level: setup.level, ..FIRST }),
            Happening::Reload(Setup { ladders: setup.ladders, ..FIRST }),
            Happening::Reload(Setup { moved: setup.moved, ..FIRST }),
            Happening::Reload(Setup { dry_run: setup.dry_run, ..FIRST }),
        ],
        _ => Vec::new(),
    }
}

trait Seconds {
    fn seconds(self) -> Duration;
}

impl Seconds for u64 {
    fn seconds(self) -> Duration {
        Duration::from_secs(self)
    }
}
