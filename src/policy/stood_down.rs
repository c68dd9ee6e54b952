//! What a rule that has stood down knows, for the guardian's next life: else users would be refused again for a whole
//! `stand_down` at each start in the same trouble. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::moment::Moment;
use super::quiet::Quiet;

/// Before another try.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// After its pause it says little of what is there now.
const KEPT_AFTER: Duration = Duration::from_secs(3600);

#[derive(Clone, PartialEq, Debug)]
pub struct StoodDown {
    pub rule: Arc<str>,
    /// What the rule could do: another ladder has not been tried.
    pub ladder: u32,
    /// Since when nothing is known to help.
    pub since: Moment,
    pub tries: u32,
    /// When the next try is.
    pub until: Moment,
    /// That try is under way.
    pub retries: bool,
    /// What its condition is about, and how that was when it stood down.
    pub read: Option<(Arc<str>, f64)>,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub struct StoodDowns {
    /// Each with how long its rule has been clear, where an earlier guardian knew it and the rule has not fired since.
    list: Vec<(StoodDown, Option<Quiet>)>,
}

impl StoodDowns {
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    #[must_use]
    pub fn of(list: Vec<StoodDown>) -> Self {
        Self { list: list.into_iter().map(|stood| (stood, None)).collect() }
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn all(&self) -> impl Iterator<Item = &StoodDown> {
        self.list.iter().map(|(stood, _)| stood)
    }

    /// No rule has been seen to fire yet.
    pub(crate) fn begin_anew(&mut self) {
        self.list.iter_mut().for_each(|(_, quiet)| *quiet = Some(Quiet::default()));
    }

    /// Those of before these.
    pub(crate) fn join(&mut self, earlier: Self) {
        let is_known = |rule: &str| self.list.iter().any(|(known, _)| *known.rule == *rule);
        let unknown: Vec<_> = earlier.list.into_iter().filter(|(stood, _)| !is_known(&stood.rule)).collect();
        self.list.extend(unknown);
    }

    /// What an earlier guardian knew of a rule that fires now.
    pub(crate) fn take(&mut self, rule: &str) -> Option<StoodDown> {
        let at = self.list.iter().position(|(stood, quiet)| *stood.rule == *rule && quiet.is_some())?;
        Some(self.list.remove(at).0)
    }

    /// After a look at all rules: forgets what is over, and has of this guardian's rules what these know now. `clear_for`: how
    /// long a rule is to be clear that is clear now.
    pub(crate) fn pass(
        &mut self,
        now: Moment,
        watched: Duration,
        mut clear_for: impl FnMut(&str) -> Option<Duration>,
        mine: impl Iterator<Item = StoodDown>,
    ) {
        self.list.retain_mut(|(stood, quiet)| {
            let Some(quiet) = quiet else { return false };
            let clear_for = clear_for(&stood.rule);
            if clear_for.is_none() {
                *quiet = Quiet::default();
            }
            let is_over = clear_for.is_some_and(|lasts| quiet.reaches(watched, lasts));
            !is_over && now < stood.until + KEPT_AFTER
        });
        self.list.extend(mine.map(|stood| (stood, None)));
    }
}
