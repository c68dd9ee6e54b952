//! The life of one rule: quiet → pending → firing → undoing → cooling → quiet, or blind. Unknown never starts and
//! never clears anything: time in which the condition was unknown, or nobody looked, does not count towards `for` or
//! `clear_for`.

use std::time::Duration;

use super::moment::Moment;
use super::rule::Rule;
use super::spacing::Spacing;
use super::verdict::Verdict;
use super::view::{RuleView, State};

#[derive(Clone, Debug)]
pub(crate) struct Life {
    state: State,
    since: Moment,
    when: Verdict,
    clear: Verdict,
    /// This node can have what its condition asks about.
    is_applicable: bool,
    fired: u64,
    /// Steps taken so far in this firing.
    taken: usize,
    /// The last step taken may show its effect until then.
    settles: Option<Moment>,
    exhausted: bool,
    /// The measurement of the last step, until it is judged.
    judged: Option<Baseline>,
    cooling_until: Moment,
    holds_since: Option<Moment>,
    clears_since: Option<Moment>,
    unknown_since: Option<Moment>,
    /// While firing: its clear condition has been unknown for longer than it has patience.
    in_the_dark: bool,
    seen: Moment,
    /// Its condition was not seen to hold since a time in which nobody looked.
    unproven: bool,
}

/// What a rule waits through before it says that something is wrong with its eyes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Patience {
    /// How long it may be unknown before it is blind: its windows must fill first.
    pub unknown: Duration,
    pub spacing: Spacing,
}

/// What the metric was when a step was taken.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Baseline {
    pub step: usize,
    pub at: Moment,
    pub slot: usize,
    pub threshold: f64,
    /// +1 where high is bad, -1 where low is.
    pub sign: f64,
    pub value: f64,
    /// It was judged when its settle time was over. It is again when the rule clears, for what comes late.
    pub is_told: bool,
}

/// What a tick changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    None,
    Pending,
    Relented,
    Fired,
    Relapsed,
    Cleared,
    Quiet,
    Blind,
    Sees,
}

impl Life {
    #[must_use]
    pub const fn new(now: Moment) -> Self {
        Self {
            state: State::Quiet,
            since: now,
            when: Verdict::Unknown,
            clear: Verdict::Unknown,
            is_applicable: true,
            fired: 0,
            taken: 0,
            settles: None,
            exhausted: false,
            judged: None,
            cooling_until: now,
            holds_since: None,
            clears_since: None,
            unknown_since: None,
            in_the_dark: false,
            seen: now,
            unproven: false,
        }
    }

    /// Of a rule that may do nothing: only how often it fired is kept.
    #[must_use]
    pub(crate) const fn idle(&self, now: Moment) -> Self {
        Self { fired: self.fired, ..Self::new(now) }
    }

    /// In another plan, where its steps have other numbers: what was measured for one of them is lost.
    #[must_use]
    pub(crate) fn moved(&self) -> Self {
        Self { judged: None, ..self.clone() }
    }

    #[must_use]
    pub(crate) const fn state(&self) -> State {
        self.state
    }

    #[must_use]
    pub(crate) const fn when(&self) -> Verdict {
        self.when
    }

    #[must_use]
    pub const fn clear(&self) -> Verdict {
        self.clear
    }

    /// Steps taken so far in this firing.
    #[must_use]
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// The last step taken may show its effect until then.
    #[must_use]
    pub(crate) const fn settles(&self) -> Option<Moment> {
        self.settles
    }

    #[must_use]
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    #[must_use]
    pub fn view(&self, rule: &Rule) -> RuleView {
        RuleView {
            state: if self.state == State::Quiet && !self.is_applicable { State::NotApplicable } else { self.state },
            since: self.since,
            until: self.until(rule),
            when: self.when,
            clear: self.clear,
            taken: self.taken,
            fired: self.fired,
            unjudged: None,
            stood_down: None,
            retries_at: None,
        }
    }

    /// What its condition says now; nothing where it asks about what cannot be here, and never holds.
    pub(crate) const fn see(&mut self, when: Option<Verdict>) {
        (self.when, self.is_applicable) = match when {
            Some(when) => (when, true),
            None => (Verdict::False, false),
        };
        if matches!(self.when, Verdict::True) {
            self.unproven = false;
        }
    }

    /// Nobody looked for a while: what was so before tells nothing of now.
    pub(crate) const fn lose_proof(&mut self) {
        self.unproven = true;
    }

    /// Its condition was seen to hold since anybody last did not look.
    #[must_use]
    pub(crate) const fn is_proven(&self) -> bool {
        !self.unproven
    }

    /// What its clear condition says now. Nobody waits for what cannot be here.
    pub(crate) const fn see_clear(&mut self, clear: Option<Verdict>) {
        self.clear = match clear {
            Some(clear) => clear,
            None => Verdict::True,
        };
    }

    /// The next step is taken.
    pub(crate) const fn climb(&mut self) {
        self.taken += 1;
    }

    /// No step is left. True where that is news.
    pub(crate) const fn exhaust(&mut self) -> bool {
        !std::mem::replace(&mut self.exhausted, true)
    }

    /// The steps taken may show their effect until then, or until whenever it was said before.
    pub fn settle(&mut self, until: Option<Moment>) {
        self.settles = self.settles.max(until);
    }

    /// They may do so from now on, whatever was said before.
    pub(crate) const fn settle_anew(&mut self, until: Moment) {
        self.settles = Some(until);
    }

    /// They had their time.
    pub(crate) const fn settled(&mut self) {
        self.settles = None;
    }

    /// Nothing was done that could show an effect.
    pub(crate) const fn do_nothing(&mut self, now: Moment) {
        self.settles = Some(now);
        self.judged = None;
    }

    /// A step is measured from here; where nothing can be measured, what was begun goes on.
    pub(crate) const fn measure(&mut self, from: Option<Baseline>) {
        if from.is_some() {
            self.judged = from;
        }
    }

    /// The measurement, once: it is kept for what comes late.
    pub(crate) fn judge(&mut self) -> Option<Baseline> {
        let baseline = self.judged.filter(|baseline| !baseline.is_told)?;
        self.judged = Some(Baseline { is_told: true, ..baseline });
        Some(baseline)
    }

    /// The measurement, for the last time.
    pub(crate) const fn judge_last(&mut self) -> Option<Baseline> {
        self.judged.take()
    }

    /// The ladder was changed while the rule fires: it is climbed on from this step.
    pub(crate) fn climb_to(&mut self, step: usize) {
        if matches!(self.state, State::Firing | State::Undoing) {
            self.taken = step;
            self.exhausted = false;
        }
    }

    /// In watched time, where it is blind.
    #[must_use]
    pub(crate) fn blind_for(&self, now: Moment) -> Option<Duration> {
        let since = self.unknown_since.unwrap_or(now);
        (self.state == State::Blind).then(|| now.since(since))
    }

    /// Its condition holds, though not for long enough to fire.
    #[must_use]
    pub(crate) const fn holds(&self) -> bool {
        self.holds_since.is_some()
    }

    /// One tick with fresh verdicts. Leaving `Undoing` for `Cooling` is not decided here: see [`Life::cool`].
    pub(crate) fn advance(&mut self, now: Moment, rule: &Rule, patience: Patience) -> Turn {
        self.stretch(now, patience.spacing);
        let patience = patience.unknown;
        match self.state {
            State::Quiet | State::Blind | State::NotApplicable => self.while_quiet(now, rule, patience),
            State::Pending => self.while_pending(now, rule, patience),
            State::Firing => self.while_firing(now, rule, patience),
            State::Undoing => self.while_undoing(now, rule),
            State::Cooling => self.while_cooling(now, rule),
        }
    }

    /// Whether what loses something may not be repeated yet.
    #[must_use]
    pub(crate) fn is_cooling(&self, now: Moment) -> bool {
        now < self.cooling_until
    }

    /// All its steps are undone.
    pub(crate) fn cool(&mut self, now: Moment, cooldown: Duration) {
        self.taken = 0;
        self.cooling_until = now + cooldown;
        self.enter(State::Cooling, now);
    }

    /// While it fires, the ladder is climbed again from this step; what is in force already is found in force.
    pub(crate) fn climb_from(&mut self, step: usize) {
        if self.state == State::Firing {
            self.taken = self.taken.min(step);
            self.exhausted = false;
            self.settles = None;
        }
    }

    /// The commonest tick: quiet, and nothing holds.
    pub(crate) const fn rest(&mut self, now: Moment) {
        self.clear = Verdict::True;
        self.unknown_since = None;
        self.seen = now;
    }

    /// When the state ends if nothing changes.
    #[must_use]
    pub(crate) fn until(&self, rule: &Rule) -> Option<Moment> {
        match self.state {
            State::Pending => self.holds_since.map(|since| since + rule.hold_for),
            State::Firing => self.clears_since.map(|since| since + rule.clear_for).or(self.settles),
            State::Cooling => Some(self.cooling_until),
            State::Quiet | State::Undoing | State::Blind | State::NotApplicable => None,
        }
    }

    fn while_quiet(&mut self, now: Moment, rule: &Rule, patience: Duration) -> Turn {
        match self.when {
            Verdict::True => {
                self.holds_since = Some(now);
                self.enter(State::Pending, now);
                if rule.hold_for.is_zero() { self.fire(now) } else { Turn::Pending }
            }
            Verdict::False if self.state == State::Blind => {
                self.enter(State::Quiet, now);
                Turn::Sees
            }
            Verdict::False => Turn::None,
            Verdict::Unknown => self.lose_sight(now, patience),
        }
    }

    fn while_pending(&mut self, now: Moment, rule: &Rule, patience: Duration) -> Turn {
        match self.when {
            Verdict::True if self.holds_since.is_some_and(|since| now.since(since) >= rule.hold_for) => self.fire(now),
            Verdict::True => Turn::None,
            Verdict::False => {
                self.enter(State::Quiet, now);
                Turn::Relented
            }
            Verdict::Unknown => self.lose_sight(now, patience),
        }
    }

    fn while_firing(&mut self, now: Moment, rule: &Rule, patience: Duration) -> Turn {
        if self.in_the_dark && self.clear != Verdict::Unknown {
            self.in_the_dark = false;
            return Turn::Sees;
        }
        match self.clear {
            Verdict::True => {
                let since = *self.clears_since.get_or_insert(now);
                if now.since(since) < rule.clear_for {
                    return Turn::None;
                }
                self.enter(State::Undoing, now);
                Turn::Cleared
            }
            Verdict::False => {
                self.clears_since = None;
                Turn::None
            }
            Verdict::Unknown => self.lose_sight_of_clear(now, patience),
        }
    }

    fn while_undoing(&mut self, now: Moment, rule: &Rule) -> Turn {
        match self.when {
            Verdict::True => {
                let since = *self.holds_since.get_or_insert(now);
                if now.since(since) < rule.hold_for {
                    return Turn::None;
                }
                self.fire(now);
                Turn::Relapsed
            }
            Verdict::False => {
                self.holds_since = None;
                Turn::None
            }
            Verdict::Unknown => Turn::None,
        }
    }

    /// A cooldown forbids only what loses something: a relapse is met at once.
    fn while_cooling(&mut self, now: Moment, rule: &Rule) -> Turn {
        if self.when == Verdict::False {
            self.holds_since = None;
        }
        if self.when == Verdict::True {
            let since = *self.holds_since.get_or_insert(now);
            if now.since(since) >= rule.hold_for {
                return self.fire(now);
            }
        }
        if now < self.cooling_until {
            return Turn::None;
        }
        let holds_since = self.holds_since;
        self.enter(if holds_since.is_some() { State::Pending } else { State::Quiet }, now);
        self.holds_since = holds_since;
        if holds_since.is_some() { Turn::Pending } else { Turn::Quiet }
    }

    fn fire(&mut self, now: Moment) -> Turn {
        self.fired += 1;
        self.exhausted = false;
        self.enter(State::Firing, now);
        Turn::Fired
    }

    fn lose_sight(&mut self, now: Moment, patience: Duration) -> Turn {
        let since = *self.unknown_since.get_or_insert(now);
        if self.state == State::Blind || now.since(since) < patience {
            return Turn::None;
        }
        self.enter(State::Blind, now);
        Turn::Blind
    }

    /// It goes on firing, because unknown clears nothing; but somebody should know.
    fn lose_sight_of_clear(&mut self, now: Moment, patience: Duration) -> Turn {
        let since = *self.unknown_since.get_or_insert(now);
        if self.in_the_dark || now.since(since) < patience {
            return Turn::None;
        }
        self.in_the_dark = true;
        Turn::Blind
    }

    /// Moves the starts of what is being counted past the time that was unknown, or in which nobody looked.
    fn stretch(&mut self, now: Moment, spacing: Spacing) {
        let passed = now.since(self.seen);
        let unseen = spacing.unseen(passed);
        self.seen = now;
        let lost = |verdict| if verdict == Verdict::Unknown { passed } else { unseen };
        let (of_when, of_clear) = (lost(self.when), lost(self.clear));
        self.holds_since = self.holds_since.map(|since| since + of_when);
        self.clears_since = self.clears_since.map(|since| since + of_clear);
        self.unknown_since = self.unknown_since.map(|since| since + unseen);
        let awaited = if self.state == State::Firing { self.clear } else { self.when };
        if awaited != Verdict::Unknown {
            self.unknown_since = None;
        }
    }

    fn enter(&mut self, state: State, now: Moment) {
        self.state = state;
        self.since = now;
        self.clears_since = None;
        self.unknown_since = None;
        self.in_the_dark = false;
        if state != State::Pending {
            self.holds_since = None;
        }
        if !matches!(state, State::Firing | State::Undoing) {
            self.settles = None;
            self.judged = None;
        }
    }
}
