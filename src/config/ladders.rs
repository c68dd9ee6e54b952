//! The ladders that come built in: `ladder = "memory"` is whatever the configured controls can do for that resource, by
//! class, then by what it costs those who use the service. What that is, each kind says (`control/offer.rs`). A rule's own
//! `steps` take its place.

use std::time::Duration;

use super::controls::Declared;
use super::steps::Placed;
use crate::control::offer::{Ask, Offer, Rung};
use crate::control::target::{KINDS, Target};
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

/// The steps of a rule of this severity, with whatever is configured.
#[must_use]
pub fn expand(ladder: Ladder, severity: Severity, controls: &[Declared], place: &Place) -> Vec<Placed> {
    let mut steps: Vec<(Rung, Step)> = Vec::new();
    let reaches = |offer: &&Offer| offer.rung.from()[ladder as usize].is_some_and(|from| from <= severity);
    for (kind, offer) in
        KINDS.iter().flat_map(|kind| kind.offers.iter().filter(reaches).map(|offer| (kind.name, offer)))
    {
        let of_kind = controls.iter().filter_map(|declared| Some((declared, declared.target.as_ref()?)));
        for (declared, target) in of_kind.filter(|(_, target)| target.kind() == kind) {
            let Some(amount) = asked(ladder, offer, target) else { continue };
            let (class, resource) = (offer.rung.class(), Some(ladder.resource()));
            let mitigation = Mitigation { control: declared.name.clone(), verb: offer.verb, amount };
            let settle = settle(ladder, severity, class);
            let step = Step { class, asked: Asked::ByLadder, resource, ..Step::new(mitigation, settle) };
            steps.push((offer.rung, step));
        }
    }
    steps.sort_by_key(|(rung, _)| *rung);
    for at in 1..steps.len() {
        let rung = steps[at].0;
        let before = &mut steps[at - 1];
        // What loses something is done one by one: the first may be enough. Who is only told keeps nobody waiting.
        before.1.together = before.0 == Rung::Told || rung.class() < Class::Lossy && before.0 == rung;
    }
    steps.into_iter().map(|(_, step)| (step, place.clone())).collect()
}

/// How strongly this control is asked, if it is.
fn asked(ladder: Ladder, offer: &Offer, target: &Target) -> Option<Amount> {
    let place = target.place();
    if !target.verbs().contains(&offer.verb)
        || place.is_undeclared(offer.verb)
        || offer.verb == Verb::Freeze && !place.is_sacrificial()
        || offer.verb == Verb::Throttle && (offer.ask == Ask::Sacrifice) != place.is_sacrificial()
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
