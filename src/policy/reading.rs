//! What a condition compares.

/// What a slot reads now. `value` is NaN where nothing is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub value: f64,
    /// Some instance could not be read, so that something worse may exist.
    pub incomplete: bool,
}

impl Reading {
    pub(super) const MISSING: Reading = Reading { value: f64::NAN, incomplete: true };

    /// What this node cannot have, such as the use of swap where there is none.
    pub(super) const IMPOSSIBLE: Reading = Reading { value: f64::NAN, incomplete: false };

    pub(super) fn of(value: Option<f64>) -> Self {
        value.map_or(Self::MISSING, |value| Self { value, incomplete: false })
    }

    #[must_use]
    pub(crate) fn known(self) -> Option<f64> {
        (!self.value.is_nan()).then_some(self.value)
    }

    #[must_use]
    pub(crate) fn cannot_be(self) -> bool {
        self.value.is_nan() && !self.incomplete
    }
}
