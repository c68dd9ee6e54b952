//! The ladders that come built in: `ladder = "memory"` is whatever the configured controls can do for that resource, by
//! class, then by what it costs those who use the service. A rule's own `steps` take its place.
//!
//! Deliberately absent: whatever pauses a store wholly, drains, or ends a process. `drop_caches` and `memory.max` are no
//! verbs at all.

use std::time::Duration;

use super::controls::Declared;
use super::origin::Place;
use super::steps::Placed;
use crate::control::target::Target;
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
    /// The least severe rule that goes so far.
    from: Severity,
    /// Order by cost, per ladder: memory, CPU, connections. What costs the same is done at once. 0: does not help there.
    cost: [u8; 3],
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
}

const GENERIC: [&str; 2] = ["socket", "http"];

/// Who can be asked what, in the order of research: actuators §11, where each figure has its measurement. A kind that is
/// not named for a verb is never asked by a built-in ladder.
const OFFERS: &[Offer] = &[
    offer(&["webhook", "unit"], Verb::Notify, Ask::Plain, Severity::Info, [1, 1, 1]),
    // Nothing is lost: what a program holds and does not need. A JVM stands still for 0.3 s.
    offer(&["pressure", "app"], Verb::Release, Ask::Plain, Severity::Info, [2, 0, 0]),
    offer(&["redis", "jvm", GENERIC[0], GENERIC[1]], Verb::Release, Ask::Plain, Severity::Info, [3, 0, 0]),
    // An application knows best what it can do without; a proxy refuses politely and at once.
    offer(&["app"], Verb::Throttle, Ask::Keep(75.0), Severity::Warning, [5, 4, 4]),
    offer(PROXIES, Verb::Shed, Ask::Keep(90.0), Severity::Warning, [0, 5, 5]),
    offer(PROXIES, Verb::Shed, Ask::Keep(75.0), Severity::Warning, [5, 6, 6]),
    offer(PROXIES, Verb::Shed, Ask::Keep(50.0), Severity::Emergency, [7, 7, 7]),
    offer(&["app"], Verb::Throttle, Ask::Keep(50.0), Severity::Emergency, [7, 7, 7]),
    // Who is not refused waits: a queue at the proxy, fewer at work behind it.
    offer(QUEUES, Verb::Throttle, Ask::Keep(75.0), Severity::Warning, [0, 8, 8]),
    offer(QUEUES, Verb::Throttle, Ask::Keep(50.0), Severity::Warning, [6, 9, 9]),
    offer(QUEUES, Verb::Throttle, Ask::Keep(25.0), Severity::Emergency, [8, 10, 10]),
    offer(&GENERIC, Verb::Throttle, Ask::Whole, Severity::Emergency, [9, 11, 11]),
    offer(&["process"], Verb::Throttle, Ask::OneLess, Severity::Emergency, [10, 12, 0]),
    offer(FREEZABLE, Verb::Freeze, Ask::Plain, Severity::Emergency, [0, 13, 0]),
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

const fn offer(kinds: &'static [&'static str], verb: Verb, ask: Ask, from: Severity, cost: [u8; 3]) -> Offer {
    Offer { kinds, verb, ask, class: verb.class(), from, cost }
}

/// A cache that shrinks gives its limit back, but not what it held.
const fn lossy(kinds: &'static [&'static str], verb: Verb, ask: Ask, cost: u8) -> Offer {
    Offer { kinds, verb, ask, class: Class::Lossy, from: Severity::Emergency, cost: [cost, 0, 0] }
}

/// The steps of a rule of this severity, with whatever is configured.
#[must_use]
pub fn expand(ladder: Ladder, severity: Severity, controls: &[Declared], place: &Place) -> Vec<Placed> {
    let mut steps: Vec<(Class, u8, Step)> = Vec::new();
    for offer in OFFERS.iter().filter(|offer| offer.from <= severity && offer.cost[ladder as usize] > 0) {
        for kind in offer.kinds {
            let of_kind = controls.iter().filter_map(|declared| Some((declared, declared.target.as_ref()?)));
            for (declared, target) in of_kind.filter(|(_, target)| target.kind() == *kind) {
                let Some(amount) = asked(ladder, offer, target) else { continue };
                let mitigation = Mitigation { control: declared.name.clone(), verb: offer.verb, amount };
                let settle = settle(ladder, severity, offer.class);
                let (class, resource) = (offer.class, Some(ladder.resource()));
                let step = Step { class, asked: Asked::ByLadder, resource, ..Step::new(mitigation, settle) };
                steps.push((offer.class, offer.cost[ladder as usize], step));
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
        || offer.ask == Ask::OneLess && ladder == Ladder::Memory && !place.has_workers()
    {
        return None;
    }
    match (offer.ask, place.is_all_or_nothing(offer.verb)) {
        (Ask::Plain, _) | (Ask::Whole | Ask::OneLess, true) => Some(Amount::Whole),
        (Ask::Keep(kept), false) => Some(Amount::Keep(kept)),
        (Ask::OneLess, false) => Some(Amount::Keep(75.0)),
        (Ask::Keep(_), true) | (Ask::Whole, false) => None,
    }
}

/// Memory shows an effect as soon as it is there; of CPU and connections the rules read an average of 10 s or more.
const fn settle(ladder: Ladder, severity: Severity, class: Class) -> Duration {
    let seconds = match (ladder, severity, class) {
        (_, _, Class::Notify) => 0,
        (Ladder::Memory, Severity::Emergency, Class::Lossless) => 2,
        (Ladder::Memory, Severity::Emergency, Class::Reversible) => 3,
        (Ladder::Memory, Severity::Emergency, _) | (Ladder::Memory, Severity::Warning, Class::Lossless) => 5,
        (Ladder::Cpu, Severity::Warning, _) => 15,
        (Ladder::Memory | Ladder::Cpu | Ladder::Connections, ..) => 10,
    };
    Duration::from_secs(seconds)
}
