//! What rules want: one demand per rule and step that should be in force, oldest first, so that recovery takes the last
//! one back first. Which of several demands on one knob counts is decided by whoever knows the rules (`Guardian::wanted`).

use super::mitigation::{Knob, Mitigation};
use super::proportion::Lull;

/// One rule's wish for one knob.
#[derive(Clone, Debug)]
pub struct Demand {
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
pub enum WayBack {
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

#[derive(Clone, Debug, Default)]
pub struct Demands {
    list: Vec<Demand>,
}

impl Demands {
    #[must_use]
    pub fn all(&self) -> &[Demand] {
        &self.list
    }

    pub fn all_mut(&mut self) -> &mut [Demand] {
        &mut self.list
    }

    #[must_use]
    pub fn get(&self, at: usize) -> &Demand {
        &self.list[at]
    }

    pub fn get_mut(&mut self, at: usize) -> &mut Demand {
        &mut self.list[at]
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Places of the demands on this knob.
    pub fn on<'a>(&'a self, knob: &'a Knob) -> impl Iterator<Item = usize> + 'a {
        self.list.iter().enumerate().filter(|(_, demand)| demand.knob == *knob).map(|(at, _)| at)
    }

    #[must_use]
    pub fn of_step(&self, flat: usize) -> Option<usize> {
        self.list.iter().position(|demand| demand.step == Some(flat))
    }

    /// Whether a rule of the present plan wants this knob.
    #[must_use]
    pub fn is_claimed(&self, knob: &Knob) -> bool {
        self.list.iter().any(|demand| demand.rule.is_some() && demand.knob == *knob)
    }

    pub fn add(&mut self, demand: Demand) {
        self.list.push(demand);
    }

    pub fn remove(&mut self, at: usize) -> Demand {
        self.list.remove(at)
    }

    pub fn drop_rule(&mut self, rule: usize) {
        self.list.retain(|demand| demand.rule != Some(rule));
    }

    pub fn drop_knob(&mut self, knob: &Knob) {
        self.list.retain(|demand| demand.knob != *knob);
    }

    /// A rule has taken over, or it is gone: what nobody has wanted of this knob need not go back any more.
    pub fn drop_orphans(&mut self, knob: &Knob) {
        self.list.retain(|demand| demand.rule.is_some() || demand.knob != *knob);
    }

    /// All that one rule wants of a knob.
    pub fn drop_wishes(&mut self, rule: usize, knob: &Knob) {
        self.list.retain(|demand| demand.rule != Some(rule) || demand.knob != *knob);
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Takes out those that are not to stay.
    pub fn take_unless(&mut self, stays: impl Fn(&Demand) -> bool) -> Vec<Demand> {
        let (kept, taken) = self.list.drain(..).partition(stays);
        self.list = kept;
        taken
    }
}
