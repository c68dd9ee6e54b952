//! A strength that follows how far beyond its threshold a metric is: `90%..20%`.

/// Points of a percentage between two strengths that are told apart: less would write a journal record and speak to a
/// server for nothing that it would feel.
pub(crate) const NOTCH: f64 = 5.0;
/// What a sum of floats may lack to a whole notch.
pub(super) const ROUNDING: f64 = 1e-6;

/// What is kept at the threshold and what at the far end, in percent: `90%..20%`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Range {
    gentle: f64,
    harsh: f64,
}

impl Range {
    /// `None` where the far end does not keep less.
    #[must_use]
    pub fn new(gentle: f64, harsh: f64) -> Option<Self> {
        (gentle > harsh && (0.0..=100.0).contains(&harsh) && gentle <= 100.0).then_some(Self { gentle, harsh })
    }

    #[must_use]
    pub(crate) const fn gentle(self) -> f64 {
        self.gentle
    }

    #[must_use]
    pub(crate) const fn harsh(self) -> f64 {
        self.harsh
    }

    /// Percent to be kept this far beyond: 0 is the threshold, 1 the far end.
    pub(super) fn at(self, share: f64) -> f64 {
        self.gentle - (self.gentle - self.harsh) * share.clamp(0.0, 1.0)
    }

    /// The gentler one of the two strengths that this is between.
    pub(super) fn notch(self, kept: f64) -> f64 {
        if kept <= self.harsh + ROUNDING {
            return self.harsh;
        }
        self.gentle - ((self.gentle - kept) / NOTCH + ROUNDING).floor() * NOTCH
    }

    /// What a step begins with.
    #[must_use]
    pub(crate) fn first(self, share: f64) -> f64 {
        self.notch(self.at(share))
    }
}
