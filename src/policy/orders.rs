//! The operator's standing orders: a pause, the knobs that an operator undid or set by hand, the debts that were given up,
//! and beside them what was lost of late. They outlive reloads, restarts and crashes (whoever keeps them writes [`Orders`]
//! down), and each ends by itself, so that none is forgotten. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::losses::{Loss, Losses, Standing};
use super::mitigation::{ActionId, Knob, Mitigation};
use super::moment::Moment;
use super::quiet::Quiet;
use super::stood_down::StoodDowns;

/// An undone knob is the operator's until the rules that could want it were quiet for so long.
pub const QUIET_FOR: Duration = Duration::from_secs(600);

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Orders {
    pause: Option<Pause>,
    /// Oldest first.
    undone: Vec<Undone>,
    /// Oldest first.
    theirs: Vec<Theirs>,
    /// Debts that were given up: a journal that was not told in time may hold them still.
    forgotten: Vec<ActionId>,
    losses: Losses,
    stood_down: StoodDowns,
}

/// No new actions until then.
#[derive(Clone, PartialEq, Debug)]
pub struct Pause {
    pub since: Moment,
    pub until: Moment,
    pub hold: Hold,
    /// Who asked: `uid 0 (root)`.
    pub by: Arc<str>,
}

/// What becomes of what is in force when a pause begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// It is undone.
    Undo,
    /// It stays, and may only become weaker.
    Keep,
}

/// A knob that an operator undid: no rule turns it.
#[derive(Clone, PartialEq, Debug)]
pub struct Undone {
    /// The action that was undone, by which `resume` names it.
    pub id: ActionId,
    pub knob: Knob,
    /// What was undone, for people.
    pub mitigation: Mitigation,
    pub since: Moment,
    pub by: Arc<str>,
    /// How long no rule that could want it does.
    pub quiet: Quiet,
}

/// A knob that somebody else set: no rule turns it.
#[derive(Clone, PartialEq, Debug)]
pub struct Theirs {
    /// The action that it was taken from, by which `resume` names it.
    pub id: ActionId,
    pub knob: Knob,
    /// What was in force, for people.
    pub mitigation: Mitigation,
    /// What was found instead, for people.
    pub found: Arc<str>,
    pub since: Moment,
    pub ends: Ends,
}

/// When a knob that somebody else set is the rules' again.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Ends {
    /// When no rule that fires wants it any more.
    WithItsRules,
    /// No rule has fired for it as far as this guardian has seen, as after a restart: when one does, as above; else when all
    /// that could want it have been clear for as long as they have to be. How long they are.
    WhenAllAreClear(Quiet),
}

/// What the rules that could want a knob are doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// One fires.
    Now,
    /// None fires, and one at least is not clear.
    Perhaps,
    /// Of one at least it is not known what it wants, and of none that it wants it.
    Unknown,
    /// All are clear; the knob is nobody's after so long.
    NotFor(Duration),
}

impl Wanted {
    /// What two rules make of it together.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Wanted::Now, _) | (_, Wanted::Now) => Wanted::Now,
            (Wanted::Perhaps, _) | (_, Wanted::Perhaps) => Wanted::Perhaps,
            (Wanted::Unknown, _) | (_, Wanted::Unknown) => Wanted::Unknown,
            (Wanted::NotFor(one), Wanted::NotFor(two)) => Wanted::NotFor(one.max(two)),
        }
    }
}

impl Orders {
    /// As they were written down.
    #[must_use]
    pub const fn of(
        pause: Option<Pause>,
        undone: Vec<Undone>,
        theirs: Vec<Theirs>,
        forgotten: Vec<ActionId>,
        losses: Losses,
    ) -> Self {
        Self { pause, undone, theirs, forgotten, losses, stood_down: StoodDowns::new() }
    }

    #[must_use]
    pub const fn stood_down(&self) -> &StoodDowns {
        &self.stood_down
    }

    pub(crate) const fn stood_down_mut(&mut self) -> &mut StoodDowns {
        &mut self.stood_down
    }

    #[must_use]
    pub const fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(crate) fn note_loss(&mut self, loss: Loss) {
        self.losses.note(loss);
    }

    /// As [`Losses::take_back`].
    pub(crate) fn take_back_loss(&mut self, rule: &str, knob: &Knob) {
        self.losses.take_back(rule, knob);
    }

    /// The control of each goes by another target now: who wrote an address differently has taken no order back.
    pub(crate) fn follow(&mut self, moved: &[(Arc<str>, Arc<str>)]) {
        let follow = |knob: &mut Knob| {
            if let Some((_, to)) = moved.iter().find(|(from, _)| *from == knob.target) {
                knob.target = Arc::clone(to);
            }
        };
        self.undone.iter_mut().for_each(|undone| follow(&mut undone.knob));
        self.theirs.iter_mut().for_each(|theirs| follow(&mut theirs.knob));
        self.losses.each_knob(follow);
    }

    /// The controls, as they were called, whose knobs these orders are about, and the targets that they had.
    pub(crate) fn controls(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let undone = self.undone.iter().map(|undone| (&undone.mitigation.control, &undone.knob.target));
        let theirs = self.theirs.iter().map(|theirs| (&theirs.mitigation.control, &theirs.knob.target));
        let lost = self.losses.all().iter().map(|loss| (&loss.control, &loss.knob.target));
        undone.chain(theirs).chain(lost)
    }

    /// As [`Losses::unless_known`].
    pub(crate) fn losses_unless_known(&mut self, is_known: impl Fn(&Loss) -> bool) {
        self.losses.unless_known(is_known);
    }

    /// As [`Losses::judge`].
    pub(crate) fn judge_losses(&mut self, now: Moment, standing: impl Fn(&Loss) -> Option<Standing>) {
        self.losses.judge(now, standing);
    }

    #[must_use]
    pub(crate) const fn pause(&self) -> Option<&Pause> {
        self.pause.as_ref()
    }

    /// Oldest first.
    #[must_use]
    pub fn undone(&self) -> &[Undone] {
        &self.undone
    }

    /// Oldest first.
    #[must_use]
    pub fn theirs(&self) -> &[Theirs] {
        &self.theirs
    }

    /// Debts that were given up.
    #[must_use]
    pub fn forgotten(&self) -> &[ActionId] {
        &self.forgotten
    }

    /// All numbers that these are known by.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ActionId> {
        let undone = self.undone.iter().map(|undone| undone.id);
        undone.chain(self.theirs.iter().map(|theirs| theirs.id)).chain(self.forgotten.iter().copied())
    }

    /// The newer pause counts.
    pub(crate) fn begin_pause(&mut self, pause: Pause) {
        self.pause = Some(pause);
    }

    /// The pause that ended by it.
    pub(crate) const fn resume_all(&mut self) -> Option<Pause> {
        self.pause.take()
    }

    /// This debt is never paid.
    pub(crate) fn forget(&mut self, id: ActionId) {
        self.forgotten.push(id);
    }

    /// As another guardian finds them: which debts there still are, and no rule has been seen to fire yet.
    pub(crate) fn begin_anew(&mut self, is_there: impl FnMut(&ActionId) -> bool) {
        self.forgotten.retain(is_there);
        self.losses.unless_known(|_| false);
        self.stood_down.begin_anew();
        for theirs in &mut self.theirs {
            theirs.ends = Ends::WhenAllAreClear(Quiet::default());
        }
    }

    #[must_use]
    pub(crate) fn without_pause(self) -> Self {
        Self { pause: None, ..self }
    }

    /// The rules have these knobs again.
    #[must_use]
    pub(crate) fn without_undone(self) -> Self {
        Self { undone: Vec::new(), ..self }
    }

    #[must_use]
    pub(crate) const fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether what is in force stays although nothing new is done.
    #[must_use]
    pub(crate) fn holds(&self) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.hold == Hold::Keep)
    }

    #[must_use]
    pub(crate) fn is_undone(&self, knob: &Knob) -> bool {
        self.undone.iter().any(|undone| undone.knob == *knob)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.pause.is_none() && self.undone.is_empty() && self.theirs.is_empty()
    }

    /// No knob is anybody's, and nothing was lost of late.
    #[must_use]
    pub(crate) const fn holds_nothing(&self) -> bool {
        self.undone.is_empty() && self.theirs.is_empty() && self.losses.all().is_empty()
    }

    #[must_use]
    pub(crate) fn is_theirs(&self, knob: &Knob) -> bool {
        self.theirs.iter().any(|theirs| theirs.knob == *knob)
    }

    pub(crate) fn note_theirs(&mut self, theirs: Theirs) {
        self.drop_theirs(&theirs.knob);
        self.theirs.push(theirs);
    }

    pub(crate) fn drop_theirs(&mut self, knob: &Knob) {
        self.theirs.retain(|known| known.knob != *knob);
    }

    /// A rule has let go of its knobs: what only they wanted is nobody's any more.
    pub(crate) fn keep_theirs(&mut self, is_wanted: impl Fn(&Knob) -> bool) {
        self.theirs.retain(|theirs| theirs.ends != Ends::WithItsRules || is_wanted(&theirs.knob));
    }

    /// After a look at all rules, with the time before it that was watched. That also ends what a rule wanted that is there no
    /// more. What is unknown ends nothing, and does not count.
    pub(crate) fn judge_theirs(&mut self, watched: Duration, mut wanted: impl FnMut(&Knob) -> Wanted) {
        self.theirs.retain_mut(|theirs| {
            let quiet = match theirs.ends {
                Ends::WithItsRules => Quiet::default(),
                Ends::WhenAllAreClear(quiet) => quiet,
            };
            match (wanted(&theirs.knob), theirs.ends) {
                (Wanted::NotFor(lasts), _) => {
                    let mut quiet = quiet;
                    let is_over = quiet.reaches(watched, lasts);
                    theirs.ends = Ends::WhenAllAreClear(quiet);
                    return !is_over;
                }
                (Wanted::Now, _) => theirs.ends = Ends::WithItsRules,
                (Wanted::Perhaps, Ends::WhenAllAreClear(_)) => theirs.ends = Ends::WhenAllAreClear(Quiet::default()),
                (Wanted::Perhaps, Ends::WithItsRules) | (Wanted::Unknown, _) => {}
            }
            true
        });
    }

    /// With orders that are older and were read only now: on each knob, and for the pause, the newer one counts.
    pub(crate) fn join(&mut self, mut earlier: Orders) {
        self.pause = self.pause.take().or(earlier.pause);
        earlier.undone.retain(|older| !self.is_undone(&older.knob) && !self.is_theirs(&older.knob));
        earlier.theirs.retain(|older| !self.is_undone(&older.knob) && !self.is_theirs(&older.knob));
        earlier.forgotten.retain(|id| !self.forgotten.contains(id));
        self.undone.splice(..0, earlier.undone);
        self.theirs.splice(..0, earlier.theirs);
        self.forgotten.splice(..0, earlier.forgotten);
        self.losses.join(earlier.losses);
        self.stood_down.join(earlier.stood_down);
    }

    /// The newest order on a knob is the one that counts.
    pub(crate) fn note(&mut self, undone: Undone) {
        self.undone.retain(|known| known.knob != undone.knob);
        self.undone.push(undone);
    }

    /// Ends a pause whose time is over.
    pub(crate) fn end_pause(&mut self, now: Moment) -> Option<Pause> {
        self.pause.take_if(|pause| now >= pause.until)
    }

    /// After a look at all rules, with the time before it that was watched: gives back the knobs whose rules have been quiet
    /// for long enough.
    pub(crate) fn hand_back(&mut self, watched: Duration, wanted: impl Fn(&Knob) -> Wanted) -> Vec<Undone> {
        let mut over = Vec::new();
        self.undone.retain_mut(|undone| {
            let is_over = match wanted(&undone.knob) {
                Wanted::Now | Wanted::Perhaps => {
                    undone.quiet = Quiet::default();
                    false
                }
                Wanted::Unknown => false,
                Wanted::NotFor(_) => undone.quiet.reaches(watched, QUIET_FOR),
            };
            if is_over {
                over.push(undone.clone());
            }
            !is_over
        });
        over
    }

    /// Gives these back, or all that was undone where none is named; what they were. What somebody set by hand is given back
    /// by name only: whoever ends a pause does not mean it.
    pub(crate) fn resume(&mut self, ids: &[ActionId]) -> Vec<Mitigation> {
        let is_undone = |undone: &mut Undone| ids.is_empty() || ids.contains(&undone.id);
        let mut back: Vec<_> = self.undone.extract_if(.., is_undone).map(|undone| undone.mitigation).collect();
        let theirs = self.theirs.extract_if(.., |theirs| ids.contains(&theirs.id));
        back.extend(theirs.map(|theirs| theirs.mitigation));
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::policy::mitigation::{Amount, Verb};

    fn undone(id: u64, target: &str) -> Undone {
        let mitigation = Mitigation { control: target.into(), verb: Verb::Throttle, amount: Amount::Whole };
        let knob = Knob { target: target.into(), verb: Verb::Throttle };
        Undone {
            id: ActionId(id),
            knob,
            mitigation,
            since: Moment::ORIGIN,
            by: "uid 0".into(),
            quiet: Quiet::default(),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::at(Duration::from_secs(seconds))
    }

    #[test]
    fn a_knob_is_the_operators_until_its_rules_were_quiet_for_ten_minutes() {
        let mut orders = Orders::default();
        orders.note(undone(1, "edge"));
        let seconds = Duration::from_secs;
        let quiet = |_: &Knob| Wanted::NotFor(Duration::ZERO);
        assert!(orders.hand_back(seconds(700), quiet).is_empty(), "that was before");
        assert!(orders.hand_back(seconds(599), quiet).is_empty());
        assert!(orders.hand_back(seconds(1), |_| Wanted::Perhaps).is_empty(), "wanted again");
        assert!(orders.hand_back(seconds(1), quiet).is_empty(), "counted anew");
        assert!(orders.hand_back(seconds(599), quiet).is_empty());
        assert!(orders.hand_back(seconds(9000), |_| Wanted::Unknown).is_empty(), "nobody knows");
        assert_eq!(orders.hand_back(seconds(1), quiet).len(), 1);
        assert!(orders.is_empty());
    }

    #[test]
    fn resume_names_the_action_that_was_undone() {
        let mut orders = Orders::default();
        orders.note(undone(1, "edge"));
        orders.note(undone(2, "cache"));
        orders.note(undone(3, "cache"));
        assert_eq!(orders.undone.len(), 2);
        assert_eq!(orders.resume(&[ActionId(3)]).len(), 1);
        assert_eq!(orders.resume(&[]).len(), 1);
    }

    #[test]
    fn of_older_orders_that_are_read_late_stays_what_no_newer_one_is_about() {
        let mut orders = Orders::default();
        orders.note(undone(7, "edge"));
        let mut earlier = Orders { forgotten: vec![ActionId(4)], ..Orders::default() };
        earlier.pause = Some(Pause { since: at(0), until: at(60), hold: Hold::Keep, by: "uid 0".into() });
        earlier.note(undone(1, "edge"));
        earlier.note(undone(2, "cache"));
        orders.join(earlier.clone());
        let ids = |orders: &Orders| orders.undone.iter().map(|undone| undone.id.0).collect::<Vec<_>>();
        assert_eq!((ids(&orders), orders.holds(), orders.forgotten.len()), (vec![2, 7], true, 1));
        orders.pause = Some(Pause { since: at(5), until: at(9), hold: Hold::Undo, by: "uid 0".into() });
        let joined = orders.clone();
        orders.join(earlier);
        assert_eq!(orders, joined, "nothing is there twice");
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let pause = Pause { since: at(0), until: at(60), hold: Hold::Keep, by: "uid 0".into() };
        let mut orders = Orders { pause: Some(pause), ..Orders::default() };
        assert!(orders.end_pause(at(59)).is_none() && orders.holds());
        assert!(orders.end_pause(at(60)).is_some() && !orders.is_paused());
    }
    fn theirs(ends: Ends) -> Orders {
        let Undone { id, knob, mitigation, since, .. } = undone(1, "edge");
        let mut orders = Orders::default();
        orders.note_theirs(Theirs { id, knob, mitigation, found: "maxconn is 5".into(), since, ends });
        orders
    }

    #[test]
    fn what_somebody_set_is_theirs_while_a_rule_that_fires_wants_it() {
        let mut orders = theirs(Ends::WithItsRules);
        orders.judge_theirs(Duration::from_secs(9999), |_| Wanted::Perhaps);
        orders.keep_theirs(|_| true);
        assert!(orders.resume(&[]).is_empty() && !orders.is_empty(), "nobody named it");
        orders.keep_theirs(|_| false);
        assert!(orders.is_empty());
        assert_eq!(theirs(Ends::WithItsRules).resume(&[ActionId(1)]).len(), 1);
    }

    #[test]
    fn after_a_restart_it_is_theirs_until_the_rules_were_seen_to_be_clear() {
        let (seconds, clear) = (Duration::from_secs, |_: &Knob| Wanted::NotFor(Duration::from_secs(10)));
        let mut orders = theirs(Ends::WhenAllAreClear(Quiet::default()));
        orders.keep_theirs(|_| false);
        orders.judge_theirs(seconds(9999), |_| Wanted::Perhaps);
        orders.judge_theirs(seconds(9999), clear);
        orders.judge_theirs(seconds(9), clear);
        orders.judge_theirs(seconds(1), |_| Wanted::Perhaps);
        orders.judge_theirs(seconds(9), clear);
        orders.judge_theirs(seconds(9), clear);
        orders.judge_theirs(seconds(9), |_| Wanted::Unknown);
        assert!(!orders.is_empty(), "nobody knew meanwhile");
        orders.judge_theirs(seconds(1), clear);
        assert!(orders.is_empty());
    }

    #[test]
    fn once_a_rule_fires_for_it_that_rule_decides() {
        let mut orders = theirs(Ends::WhenAllAreClear(Quiet::default()));
        orders.judge_theirs(Duration::from_secs(1), |_| Wanted::Now);
        orders.judge_theirs(Duration::from_secs(2), |_| Wanted::Perhaps);
        assert!(!orders.is_empty());
        orders.keep_theirs(|_| false);
        assert!(orders.is_empty());
    }

    #[test]
    fn it_ends_also_where_its_rule_is_gone() {
        let lasts = Duration::from_secs(10);
        let mut orders = theirs(Ends::WithItsRules);
        orders.judge_theirs(Duration::from_secs(1), |_| Wanted::NotFor(lasts));
        assert!(!orders.is_empty());
        orders.judge_theirs(Duration::from_secs(11), |_| Wanted::NotFor(lasts));
        assert!(orders.is_empty());
    }
}
