//! What each kind of control knows how to do, and no other place does: speak to its service. `Control` decides with it
//! what to write, what to leave alone and what an answer means, the same way for all kinds.

use std::time::Duration;

use async_trait::async_trait;

use super::consent::Consent;
use super::failure::Failure;
use super::said::sentence;
use super::standing::Live;
use super::undo::{Change, Undo};
use crate::policy::gives::Gives;
use crate::policy::mitigation::{Mitigation, Outcome, Verb};

/// Longer than a service that polls its settings once a second takes to obey.
pub(crate) const GRACE: Duration = Duration::from_millis(2500);

/// Whether a control can be reached and may act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    pub outcome: Outcome,
    pub detail: String,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    pub outcome: Outcome,
    pub detail: String,
    /// As the target's resident memory shows it, never as the target claims.
    pub freed_bytes: Option<i64>,
}

/// What was measured before a change, in bytes, so that what it gave back can be told; `None` where it was not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Before {
    pub resident: Option<u64>,
    /// What the service counts as its data.
    pub used: Option<u64>,
    /// What it holds for its clients.
    pub buffered: Option<u64>,
}

impl Before {
    /// Nothing but the process was measured.
    #[must_use]
    pub(crate) const fn of_process(resident: Option<u64>) -> Self {
        Self { resident, used: None, buffered: None }
    }
}

/// A value to write.
pub struct Order<'a> {
    pub key: &'a str,
    pub value: &'a str,
    /// What the last look has seen there. None: it is written whatever is there.
    pub over: Option<&'a str>,
}

/// What a value that is there immediately before a write says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    Write,
    /// It is there, though the last look has seen another one.
    Done,
    /// Somebody else set another one since the last look: that is not overwritten.
    Theirs,
}

impl Order<'_> {
    /// For services that show a value as soon as it is set, and exactly that.
    #[must_use]
    pub(crate) fn turn(&self, live: &str) -> Turn {
        match self.over {
            Some(over) if over != live && self.value == live => Turn::Done,
            Some(over) if over != live => Turn::Theirs,
            Some(_) | None => Turn::Write,
        }
    }
}

/// The value that a change is to have next.
pub type Aim = String;

/// By their names.
pub(crate) type Numbers = Vec<(String, f64)>;

/// What becomes of the other orders after one was refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AfterRefusal {
    Stop,
    /// What is put back is put back as far as it goes.
    GoOn,
}

/// One service that can be told to do something. Every conversation is bounded by `DEADLINE`; nothing here blocks the
/// thread, which all controls share.
#[async_trait(?Send)]
pub trait Service {
    /// As sentences call it: `HAProxy`.
    fn name(&self) -> &'static str;

    /// Can it be reached, and may it act? Changes nothing.
    async fn probe(&mut self) -> Result<Probe, Failure>;

    /// Is it still there? Cheap enough for now and then.
    async fn look(&mut self) -> Result<Probe, Failure> {
        self.probe().await
    }

    /// Whether all that doing this verb, reading it back and undoing it need is allowed, as the target itself says. Changes
    /// nothing. Asked by the probe, and before each survey and pulse: what is not allowed is not begun.
    async fn permits(&mut self, verb: Verb) -> Result<(), Failure> {
        let _every = verb;
        Ok(())
    }

    /// What a lasting verb would change: prior values, as read now, and those that we will write. No changes: it is so
    /// already. Changes nothing.
    async fn survey(&mut self, mitigation: &Mitigation) -> Result<Undo, Failure> {
        Err(self.cannot(mitigation.verb))
    }

    /// What each change of this undo is to be, so that what is in force gets another strength.
    async fn aim(&mut self, mitigation: &Mitigation, undo: &Undo) -> Result<Vec<Aim>, Failure> {
        let _values = undo;
        Err(self.cannot(mitigation.verb))
    }

    /// The life of the target that answers now. `None` where nothing but its address tells which one it is.
    async fn life(&mut self) -> Result<Option<String>, Failure> {
        Ok(None)
    }

    /// What a life, as `survey` and `read` name it, is called by everybody who reaches the same service, whatever its
    /// address: two guardians must not both act on that. None where the name may be another one's too.
    fn names(&self, life: &str) -> Vec<String> {
        vec![life.to_owned()]
    }

    /// Lives of others whose values are this one's too: two guardians must not act on one each.
    fn relatives(&self, life: &str) -> Vec<String> {
        let _none = life;
        Vec::new()
    }

    /// The life of the target, and the values that these changes are about, in their order.
    async fn read(&mut self, undo: &Undo) -> Result<Live, Failure>;

    /// Whether the life that this undo is about has ended and left something of ours behind, and another one is there in its
    /// place.
    async fn is_succeeded(&mut self, undo: &Undo) -> bool {
        let _every = undo;
        false
    }

    /// Writes to that life of the target, or not at all. Where a service shows at once what was set, each value is looked at
    /// once more just before, in the same conversation, and what somebody set since the last look is left: `Overridden`,
    /// unless something else was written that the next reading tells it beside.
    async fn write(&mut self, epoch: &str, orders: &[Order<'_>], after: AfterRefusal) -> Result<(), Failure>;

    /// Changes for parts of the target that came while the rest of it was being changed, and that nothing names yet: they
    /// are recorded, and only then changed too.
    async fn unreached(&mut self, undo: &Undo) -> Result<Vec<Change>, Failure> {
        let _none = undo;
        Ok(Vec::new())
    }

    /// Changes for parts that came later and have what we set without being told: nobody else would put that back.
    async fn inherited(&mut self, undo: &Undo) -> Result<Vec<Change>, Failure> {
        let _none = undo;
        Ok(Vec::new())
    }

    /// Does what leaves nothing in force. What destroys part after part asks for consent between them.
    async fn pulse(&mut self, mitigation: &Mitigation, consent: &Consent<'_>) -> Result<Done, Failure> {
        let _no_parts = consent;
        Err(self.cannot(mitigation.verb))
    }

    /// Numbers that the service reports of itself, by name, for rules.
    async fn numbers(&mut self) -> Result<Numbers, Failure> {
        Ok(Numbers::new())
    }

    /// What it has to give, by its own numbers, in one exchange; what it does not tell is unknown.
    async fn gives(&mut self) -> Result<Gives, Failure> {
        Ok(Gives::default())
    }

    /// Whether this value goes by itself unless it is written again.
    fn is_lease(&self, key: &str) -> bool {
        let _every = key;
        false
    }

    /// Whether this lease, as last read, was taken away by somebody before its time: then it is theirs.
    fn was_cleared(&self, key: &str) -> bool {
        let _every = key;
        false
    }

    /// Whether everything is allowed that writing these changes, reading them back and undoing them will need, as far as
    /// that can be told without changing anything. Asked before anything is recorded or written.
    async fn may(&mut self, undo: &Undo) -> Result<(), Failure> {
        let _changes = undo;
        Ok(())
    }

    /// Whether the prior value of this comes back with nobody's doing: a lease that lapsed, a thread that has ended.
    fn returns(&self, key: &str) -> bool {
        self.is_lease(key)
    }

    /// How much a value holds back: the higher, the stricter, and `f64::NEG_INFINITY` for no limit at all. `None` where
    /// values of this key have no such order. Only values of one key are compared. What would loosen a value that stands
    /// is not written, whoever set it.
    fn strictness(&self, key: &str, value: &str) -> Option<f64> {
        let _one = (key, value);
        None
    }

    /// For how long after an answer the old value may still be read, or one on its way to the new one. Zero where an
    /// answer comes only once the value is set, so that what is read then is certain.
    fn grace(&self) -> Duration {
        GRACE
    }

    /// Whether this value may be kept as a number near the one that was written. `false` where exactly that is kept, so
    /// that any other is somebody else's.
    fn rounds(&self, key: &str) -> bool {
        let _every = key;
        true
    }

    /// Whether this value says by itself that it is ours, as nobody else sets it.
    fn is_ours_alone(&self, value: &str) -> bool {
        let _any = value;
        false
    }

    /// Whether this value can come through a restart of the target without being written again: because somebody had it
    /// saved, or the service keeps its state in a file. What is ours in the new life is then undone like before it. Never
    /// where the new life is another process that somebody else configured.
    fn outlives(&self, key: &str) -> bool {
        let _every = key;
        false
    }

    /// Two verbs that would harm together.
    fn excludes(&self, wanted: Verb, in_force: Verb) -> bool {
        let _both = (wanted, in_force);
        false
    }

    /// Measures what this undo is about, where it should give memory back. Changes nothing.
    async fn measure(&mut self, undo: &Undo) -> Before {
        let _changes = undo;
        Before::default()
    }

    /// Measures the memory freed, and triggers freeing if needed; `NoEffect` if none was freed. `None` if the change frees
    /// no memory, or that cannot be measured. It is in force in any case.
    async fn reclaimed(&mut self, undo: &Undo, before: Before, consent: &Consent<'_>) -> Option<Done> {
        let _change = (undo, before, consent);
        None
    }

    /// What the values of a change in force come to, where they do not say it themselves.
    fn remark(&self, undo: &Undo) -> Option<String> {
        let _changes = undo;
        None
    }

    fn cannot(&self, verb: Verb) -> Failure {
        Failure::unsupported(format!("{} cannot {verb}", self.name()))
    }
}

impl Probe {
    pub fn usable(detail: impl Into<String>) -> Self {
        Self { outcome: Outcome::Applied, detail: sentence(detail.into()) }
    }

    pub(crate) fn failed(failure: Failure) -> Self {
        Self { outcome: failure.outcome, detail: failure.detail }
    }
}
