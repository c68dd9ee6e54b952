//! The ladders that come built in: `ladder = "memory"` is whatever the configured controls can do for that resource, by
//! class, then by what it costs those who use the service. A rule's own `steps` take its place.
//!
//! Deliberately absent: whatever pauses a store wholly, drains, or ends a process. `drop_caches` and `memory.max` are no
//! verbs at all.

use std::time::Duration;

use super::controls::Declared;
use super::steps::Placed;
use crate::control::target::Target;
use crate::document::origin::Place;
use crate::policy::mitigation::{Amount, Class, Mitigation, Verb};
use crate::policy::rule::{Asked, Resource, Severity, Step};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ladder {
    Memory,
    Cpu,
    Connections,
}

impl Ladder {
    pub const ALL: [Ladder; 3] = [Ladder::Memory, Ladder::Cpu, Ladder::Connections];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Ladder::Memory => "memory",
            Ladder::Cpu => "cpu",
            Ladder::Connections => "connections",
        }
    }

    const fn resource(self) -> Resource {
        match self {
            Ladder::Memory => Resource::Memory,
            Ladder::Cpu => Resource::Cpu,
            Ladder::Connections => Resource::Connections,
        }
    }
}

/// What one kind of service can be asked, and what that costs.
struct Offer {
    /// In the order in which they are asked.
    kinds: &'static [&'static str],
    verb: Verb,
    ask: Ask,
    class: Class,
    /// The least severe rule that goes so far, per ladder: memory, CPU, connections. `None`: does not help there.
    from: [Option<Severity>; 3],
    /// Order by what it costs users. What costs the same is done at once.
    cost: u8,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Ask {
    /// This is not a matter of how much.
    Plain,
    /// Percent that remains. Not for what knows no share.
    Keep(f64),
    /// Only of what knows no share: all of it.
    Whole,
    /// The least that this service can give up: of four workers one, or a step of niceness, which gives no memory back.
    OneLess,
    /// The same of what was declared sacrificial: it has no users.
    Sacrifice,
}

const GENERIC: [&str; 2] = ["socket", "http"];

const I: Option<Severity> = Some(Severity::Info);
const W: Option<Severity> = Some(Severity::Warning);
const E: Option<Severity> = Some(Severity::Emergency);
const NO: Option<Severity> = None;

/// Who can be asked what, in the order of what it costs users: nothing, waiting, being refused. The figures are from
/// measurements (docs/controls). A kind that is not named for a verb is never asked by a built-in
/// ladder.
const OFFERS: &[Offer] = &[
    offer(&["webhook", "unit"], Verb::Notify, Ask::Plain, [I, I, I], 1),
    // Nothing is lost: what a program holds and does not need. A JVM stands still for 0.3 s.
    offer(&["pressure", "app"], Verb::Release, Ask::Plain, [I, NO, NO], 2),
    offer(&["redis", "jvm", GENERIC[0], GENERIC[1]], Verb::Release, Ask::Plain, [I, NO, NO], 3),
    // What the node can do without. A process that stands still gives no memory back, but it takes no more either; for a
    // warning that is too little, because one that went on might end and give back all of it.
    offer(&["process"], Verb::Throttle, Ask::Sacrifice, [E, W, NO], 4),
    offer(FREEZABLE, Verb::Freeze, Ask::Plain, [E, W, NO], 5),
    // An application that is asked for a quarter leaves work in the background, and queues.
    offer(&["app"], Verb::Throttle, Ask::Keep(75.0), [W, W, W], 6),
    // Who waits in a queue is served: fewer at work behind it.
    offer(QUEUES, Verb::Throttle, Ask::Keep(75.0), [NO, W, W], 7),
    offer(QUEUES, Verb::Throttle, Ask::Keep(50.0), [W, W, W], 8),
    // From here on users lose something.
    offer(&["process"], Verb::Throttle, Ask::OneLess, [E, E, NO], 9),
    offer(PROXIES, Verb::Shed, Ask::Keep(90.0), [NO, E, E], 10),
    offer(PROXIES, Verb::Shed, Ask::Keep(75.0), [E, E, E], 11),
    offer(PROXIES, Verb::Shed, Ask::Keep(50.0), [E, E, E], 12),
    offer(&["app"], Verb::Throttle, Ask::Keep(50.0), [E, E, E], 12),
    offer(QUEUES, Verb::Throttle, Ask::Keep(25.0), [E, E, E], 13),
    offer(&GENERIC, Verb::Throttle, Ask::Whole, [E, E, E], 14),
    // From here on something is lost that has to be made again.
    lossy(&["app"], Verb::Flush, Ask::Plain, 1),
    lossy(CACHES, Verb::Shrink, Ask::Keep(75.0), 2),
    lossy(CACHES, Verb::Shrink, Ask::Keep(50.0), 3),
    lossy(&GENERIC, Verb::Shrink, Ask::Whole, 3),
    lossy(CACHES, Verb::Flush, Ask::Plain, 4),
];

const PROXIES: &[&str] = &["nginx", "haproxy", GENERIC[0], GENERIC[1]];
const QUEUES: &[&str] = &["haproxy", GENERIC[0], GENERIC[1]];
/// Only those of them that are declared to be batch work.
const FREEZABLE: &[&str] = &["process"];
const CACHES: &[&str] = &["memcached", "redis", "varnish", GENERIC[0], GENERIC[1]];

const fn offer(kinds: &'static [&'static str], verb: Verb, ask: Ask, from: [Option<Severity>; 3], cost: u8) -> Offer {
    Offer { kinds, verb, ask, class: verb.class(), from, cost }
}

/// A cache that shrinks gives its limit back, but not what it held.
const fn lossy(kinds: &'static [&'static str], verb: Verb, ask: Ask, cost: u8) -> Offer {
    Offer { kinds, verb, ask, class: Class::Lossy, from: [E, NO, NO], cost }
}

/// The steps of a rule of this severity, with whatever is configured.
#[must_use]
pub fn expand(ladder: Ladder, severity: Severity, controls: &[Declared], place: &Place) -> Vec<Placed> {
    let mut steps: Vec<(Class, u8, Step)> = Vec::new();
    let reaches = |offer: &&Offer| offer.from[ladder as usize].is_some_and(|from| from <= severity);
    for offer in OFFERS.iter().filter(reaches) {
        for kind in offer.kinds {
            let of_kind = controls.iter().filter_map(|declared| Some((declared, declared.target.as_ref()?)));
            for (declared, target) in of_kind.filter(|(_, target)| target.kind() == *kind) {
                let Some(amount) = asked(ladder, offer, target) else { continue };
                let mitigation = Mitigation { control: declared.name.clone(), verb: offer.verb, amount };
                let settle = settle(ladder, severity, offer.class);
                let (class, resource) = (offer.class, Some(ladder.resource()));
                let step = Step { class, asked: Asked::ByLadder, resource, ..Step::new(mitigation, settle) };
                steps.push((offer.class, offer.cost, step));
            }
        }
    }
    steps.sort_by_key(|(class, cost, _)| (*class, *cost));
    for at in 1..steps.len() {
        let (class, cost, _) = steps[at];
        let before = &mut steps[at - 1];
        // What loses something is done one by one: the first may be enough. Who is only told keeps nobody waiting.
        before.2.together = before.0 == Class::Notify || class < Class::Lossy && (before.0, before.1) == (class, cost);
    }
    steps.into_iter().map(|(.., step)| (step, place.clone())).collect()
}

/// How strongly this control is asked, if it is.
fn asked(ladder: Ladder, offer: &Offer, target: &Target) -> Option<Amount> {
    let place = target.place();
    if !target.verbs().contains(&offer.verb)
        || place.is_undeclared(offer.verb)
        || offer.verb == Verb::Freeze && !place.is_sacrificial()
        || offer.verb == Verb::Throttle && (offer.ask == Ask::Sacrifice) != is_sacrificed(target)
        || is_one_less(offer.ask) && ladder == Ladder::Memory && !place.has_workers()
    {
        return None;
    }
    match (offer.ask, place.is_all_or_nothing(offer.verb)) {
        (Ask::Plain, _) | (Ask::Whole | Ask::OneLess | Ask::Sacrifice, true) => Some(Amount::Whole),
        (Ask::Keep(kept), false) => Some(Amount::Keep(kept)),
        (Ask::OneLess | Ask::Sacrifice, false) => Some(Amount::Keep(75.0)),
        (Ask::Keep(_), true) | (Ask::Whole, false) => None,
    }
}

fn is_one_less(ask: Ask) -> bool {
    matches!(ask, Ask::OneLess | Ask::Sacrifice)
}

fn is_sacrificed(target: &Target) -> bool {
    target.kind() == "process" && target.place().is_sacrificial()
}

/// Memory shows an effect as soon as it is there; of the CPU the rules read an average of 5 s, of connections of 10 s or more.
const fn settle(ladder: Ladder, severity: Severity, class: Class) -> Duration {
    let seconds = match (ladder, severity, class) {
        (_, _, Class::Notify) => 0,
        (Ladder::Memory, Severity::Emergency, Class::Lossless) => 2,
        (Ladder::Memory, Severity::Emergency, Class::Reversible) => 3,
        (Ladder::Memory, Severity::Emergency, _) | (Ladder::Memory, Severity::Warning, Class::Lossless) => 5,
        (Ladder::Cpu, ..) => 5,
        (Ladder::Memory | Ladder::Connections, ..) => 10,
    };
    Duration::from_secs(seconds)
}
