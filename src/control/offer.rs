//! What the ladders that come built in may ask of a kind: each kind says that of itself (`Kind::OFFERS`), on one scale of
//! what it costs those who use the service. The figures are from measurements (docs/controls).
//!
//! Deliberately absent: whatever pauses a store wholly, drains, or ends a process. `drop_caches` and `memory.max` are no
//! verbs at all.

use crate::policy::mitigation::{Class, Verb};
use crate::policy::rule::Severity;

/// Of whatever keeps what can be made again.
pub const OF_A_CACHE: &[Offer] = &[
    Offer::new(Verb::Shrink, Ask::Keep(75.0), Rung::ShrinkSome),
    Offer::new(Verb::Shrink, Ask::Keep(50.0), Rung::ShrinkHalf),
    Offer::new(Verb::Flush, Ask::Plain, Rung::EmptyCache),
];

/// One verb, how strongly, and where on the scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Offer {
    pub verb: Verb,
    pub ask: Ask,
    pub rung: Rung,
}

impl Offer {
    #[must_use]
    pub const fn new(verb: Verb, ask: Ask, rung: Rung) -> Self {
        Self { verb, ask, rung }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ask {
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

/// By what it costs users: nothing, waiting, being refused, losing something. What stands on one rung is done at once,
/// unless something is lost by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Rung {
    Told,
    /// Nothing is lost: what a program holds and does not need.
    Spare,
    /// The same, and the program stands still for it: a JVM for 0.3 s.
    Heap,
    /// What the node can do without.
    SlowBatch,
    /// A process that stands still gives no memory back, but it takes no more either; for a warning that is too little,
    /// because one that went on might end and give back all of it.
    StopBatch,
    /// An application that is asked for a quarter leaves work in the background, and queues.
    Background,
    /// Who waits in a queue is served: fewer at work behind it.
    QueueSome,
    QueueHalf,
    /// From here on users lose something.
    FewerWorkers,
    RefuseTenth,
    RefuseQuarter,
    RefuseHalf,
    QueueMost,
    PauseWhole,
    /// From here on something is lost that has to be made again.
    EmptyTier,
    /// A cache that shrinks gives its limit back, but not what it held.
    ShrinkSome,
    ShrinkHalf,
    ShrinkWhole,
    EmptyCache,
}

const I: Option<Severity> = Some(Severity::Info);
const W: Option<Severity> = Some(Severity::Warning);
const E: Option<Severity> = Some(Severity::Emergency);
const NO: Option<Severity> = None;

impl Rung {
    /// The least severe rule that goes so far, per ladder: memory, CPU, connections. `None`: does not help there.
    #[must_use]
    pub const fn from(self) -> [Option<Severity>; 3] {
        match self {
            Rung::Told => [I, I, I],
            Rung::Spare | Rung::Heap => [I, NO, NO],
            Rung::SlowBatch | Rung::StopBatch => [E, W, NO],
            Rung::Background | Rung::QueueHalf => [W, W, W],
            Rung::QueueSome => [NO, W, W],
            Rung::FewerWorkers => [E, E, NO],
            Rung::RefuseTenth => [NO, E, E],
            Rung::RefuseQuarter | Rung::RefuseHalf | Rung::QueueMost | Rung::PauseWhole => [E, E, E],
            Rung::EmptyTier | Rung::ShrinkSome | Rung::ShrinkHalf | Rung::ShrinkWhole | Rung::EmptyCache => [E, NO, NO],
        }
    }

    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Rung::Told => Class::Notify,
            Rung::Spare | Rung::Heap => Class::Lossless,
            Rung::SlowBatch
            | Rung::StopBatch
            | Rung::Background
            | Rung::QueueSome
            | Rung::QueueHalf
            | Rung::FewerWorkers
            | Rung::RefuseTenth
            | Rung::RefuseQuarter
            | Rung::RefuseHalf
            | Rung::QueueMost
            | Rung::PauseWhole => Class::Reversible,
            Rung::EmptyTier | Rung::ShrinkSome | Rung::ShrinkHalf | Rung::ShrinkWhole | Rung::EmptyCache => {
                Class::Lossy
            }
        }
    }
}
