//! What rules want: one demand per rule and step that should be in force, oldest first, so that recovery takes the last
//! one back first. Which of several demands on one knob counts is decided by whoever knows the rules (`Guardian::wanted`).

use super::mitigation::{Amount, Knob, Mitigation};
use super::proportion::Lull;

/// One rule's wish for one knob.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    /// `None`: no rule wants it any more; it only goes back.
    pub rule: Option<usize>,
    /// The flat number of the step.
    pub step: Option<usize>,
    pub knob: Knob,
    pub mitigation: Mitigation,
    pub lull: Option<Lull>,
    pub way_back: WayBack,
}

/// How a demand that no rule has any more goes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WayBack {
    /// Like any other: a reload has dropped it.
    ByHalves,
    /// At once: found after a restart, when nobody knows what it was worth.
    Whole,
}

impl Demand {
    #[must_use]
    pub const fn of(rule: usize, step: usize, knob: Knob, mitigation: Mitigation) -> Self {
        Self { rule: Some(rule), step: Some(step), knob, mitigation, lull: None, way_back: WayBack::ByHalves }
    }

    /// What a restart left behind.
    #[must_use]
    pub const fn inherited(knob: Knob, mitigation: Mitigation) -> Self {
        Self { rule: None, step: None, knob, mitigation, lull: None, way_back: WayBack::Whole }
    }
}

/// Where a demand belongs in another plan.
#[derive(Debug)]
pub(crate) struct Placed {
    pub rule: usize,
    pub step: usize,
    pub knob: Knob,
    pub mitigation: Mitigation,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Demands {
    list: Vec<Demand>,
}

impl Demands {
    #[must_use]
    pub(crate) fn all(&self) -> &[Demand] {
        &self.list
    }

    #[must_use]
    pub fn get(&self, at: usize) -> &Demand {
        &self.list[at]
    }

    /// Wants it this strongly from now on.
    pub(crate) fn set_amount(&mut self, at: usize, amount: Amount) {
        self.list[at].mitigation.amount = amount;
    }

    /// What is wanted of a knob comes to this at most: of one rule, or of all.
    pub(crate) fn weaken(&mut self, knob: &Knob, of: Option<usize>, most: Amount) {
        let chosen = |demand: &&mut Demand| demand.knob == *knob && (of.is_none() || demand.rule == of);
        for demand in self.list.iter_mut().filter(chosen) {
            if demand.mitigation.amount.is_stronger_than(most) {
                demand.mitigation.amount = most;
            }
        }
    }

    /// Brings what a rule wants to other strengths, where `aim` says one. The lull is kept for it.
    pub(crate) fn aim(&mut self, rule: usize, aim: impl Fn(usize, Amount, &mut Option<Lull>) -> Option<Amount>) {
        for demand in self.list.iter_mut().filter(|demand| demand.rule == Some(rule)) {
            let Some(flat) = demand.step else { continue };
            if let Some(amount) = aim(flat, demand.mitigation.amount, &mut demand.lull) {
                demand.mitigation.amount = amount;
            }
        }
    }

    /// Another plan: each demand gets its new rule, step, knob and mitigation. One that `place` has no place for only goes
    /// back.
    pub(crate) fn renumber(&mut self, place: impl Fn(&Demand) -> Option<Placed>) {
        for demand in &mut self.list {
            match place(demand) {
                Some(Placed { rule, step, knob, mitigation }) => {
                    (demand.rule, demand.step) = (Some(rule), Some(step));
                    (demand.knob, demand.mitigation) = (knob, mitigation);
                }
                None => (demand.rule, demand.step) = (None, None),
            }
        }
    }

    #[must_use]
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Places of the demands on this knob.
    pub(crate) fn on<'a>(&'a self, knob: &'a Knob) -> impl Iterator<Item = usize> + 'a {
        self.list.iter().enumerate().filter(|(_, demand)| demand.knob == *knob).map(|(at, _)| at)
    }

    #[must_use]
    pub(crate) fn of_step(&self, flat: usize) -> Option<usize> {
        self.list.iter().position(|demand| demand.step == Some(flat))
    }

    /// Whether a rule of the present plan wants this knob.
    #[must_use]
    pub(crate) fn is_claimed(&self, knob: &Knob) -> bool {
        self.list.iter().any(|demand| demand.rule.is_some() && demand.knob == *knob)
    }

    pub(crate) fn add(&mut self, demand: Demand) {
        self.list.push(demand);
    }

    pub(crate) fn remove(&mut self, at: usize) -> Demand {
        self.list.remove(at)
    }

    pub(crate) fn drop_rule(&mut self, rule: usize) {
        self.list.retain(|demand| demand.rule != Some(rule));
    }

    pub(crate) fn drop_knob(&mut self, knob: &Knob) {
        self.list.retain(|demand| demand.knob != *knob);
    }

    /// A rule has taken over, or it is gone: what nobody has wanted of this knob need not go back any more.
    pub(crate) fn drop_orphans(&mut self, knob: &Knob) {
        self.list.retain(|demand| demand.rule.is_some() || demand.knob != *knob);
    }

    /// All that one rule wants of a knob.
    pub(crate) fn drop_wishes(&mut self, rule: usize, knob: &Knob) {
        self.list.retain(|demand| demand.rule != Some(rule) || demand.knob != *knob);
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Takes out those that are not to stay.
    pub(crate) fn take_unless(&mut self, stays: impl Fn(&Demand) -> bool) -> Vec<Demand> {
        let (kept, taken) = self.list.drain(..).partition(stays);
        self.list = kept;
        taken
    }
}
