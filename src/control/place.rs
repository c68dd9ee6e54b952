//! What each kind of control tells of itself, without anybody speaking to its service: `Place` of one target, `Kind` of all
//! of one kind, `Written` of how the configuration has it. The table of kinds (`target.rs`) asks for all three, so a kind that leaves one out does not compile.

use std::path::Path;
use std::time::Duration;

use super::address::{Identity, Overlap};
use super::offer::Offer;
use super::service::Service;
use super::undo::{Change, Undo};
use crate::document::node::Entry;
use crate::document::section::Findings;
use crate::policy::mitigation::{Amount, Verb};
use crate::policy::rule::PATIENCE;

/// Why a verb would be refused as the control is declared, and what to declare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undeclared {
    pub what: &'static str,
    pub help: &'static str,
}

/// What must be known of a target, of whatever kind.
pub trait Place {
    /// What this control can be asked to do at all.
    fn verbs(&self) -> &[Verb];

    /// What speaks to it.
    fn open(&self) -> Box<dyn Service>;

    /// Which service this is, whatever the control is called and however it is to be treated.
    fn identity(&self) -> Identity;

    /// The file of the secret that it is sent, where it is sent one.
    fn secret_file(&self) -> Option<&Path> {
        None
    }

    /// Which part of the service, where two controls of one may each have their own: in words that differ then.
    fn part(&self) -> String {
        String::new()
    }

    /// Whether this verb knows no share here.
    fn is_all_or_nothing(&self, verb: Verb) -> bool {
        let _none = verb;
        false
    }

    /// How strongly a drill tries what can be undone: as little as shows, for the moment that it lasts. A shrink gives up
    /// a hundredth of what a cache holds.
    fn drill(&self, verb: Verb) -> Option<Amount> {
        match verb {
            Verb::Throttle | Verb::Shed if self.is_all_or_nothing(verb) => Some(Amount::Whole),
            Verb::Throttle | Verb::Shed => Some(Amount::Keep(90.0)),
            Verb::Shrink => Some(Amount::Keep(99.0)),
            Verb::Freeze | Verb::Drain => Some(Amount::Whole),
            Verb::Notify | Verb::Release | Verb::Flush | Verb::Prune | Verb::Terminate => None,
        }
    }

    /// How long doing this may take at most, until it is answered: a ladder that counted from the command alone would take
    /// the next step while this one is still being done.
    fn patience(&self, verb: Verb) -> Duration {
        let _every = verb;
        PATIENCE
    }

    /// Whether this verb would be refused as the control is declared, and why.
    fn undeclared(&self, verb: Verb) -> Option<Undeclared> {
        let _none = verb;
        None
    }

    fn is_undeclared(&self, verb: Verb) -> bool {
        self.undeclared(verb).is_some()
    }

    /// Whether a throttle has fewer processes do the work, and so gives memory back.
    fn has_workers(&self) -> bool {
        false
    }

    /// Whether the operator declares it to be batch work that may stand still first. Nothing is frozen unasked otherwise.
    fn is_sacrificial(&self) -> bool {
        false
    }
}

/// How a kind is written, `[control.KIND.NAME]`.
pub trait Written: Sized {
    /// The keys that its controls take.
    const KEYS: &'static [&'static str];

    /// One control, with every complaint about it. `title` is its heading.
    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self>;
}

/// One kind of control.
pub trait Kind: Place + Written {
    /// What built-in ladders may ask of it.
    const OFFERS: &'static [Offer] = &[];

    /// Whose code it runs besides its own, as the build groups it: other kinds, or what several share.
    const RUNS: &'static [&'static str] = &[];

    /// Whether both lead to one service, as far as can be told from how they are written.
    fn is_same(&self, other: &Self) -> bool;

    /// Why two controls must not both be configured: what two turn at once, neither could put back.
    fn overlap(&self, other: &Self) -> Option<Overlap>;

    /// Whether two changes, both at one service, turn one value, whatever each is called.
    fn is_one_value(&self, mine: &Change, other: &Self, theirs: &Change) -> bool {
        let _place = other;
        mine.key == theirs.key
    }

    /// Whether this undo, made at an earlier target of the same service, is about what is read here in the same way: then an
    /// operator who changed a password or mended a recipe has said how it is undone.
    fn undoes(&self, earlier: &Self, undo: &Undo) -> bool {
        let _alike = (earlier, undo);
        true
    }

    /// Whether two undos are about parts of one thing, although each names another life: a process, and who started it.
    fn meets(&self, mine: &Undo, theirs: &Undo) -> bool {
        let _apart = (mine, theirs);
        false
    }

    /// Whether a change that is in force at another target, of what is one value there and here and in a life of the same
    /// name, is of the same service as the one that is about to be made here.
    fn shares(&self, other: &Self, theirs: &Change, mine: &Change) -> bool {
        let _values = (theirs, mine);
        self.is_same(other)
    }
}
