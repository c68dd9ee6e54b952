//! A condition made ready to run: a flat list of operations on slots, evaluated with three-valued logic.

use super::condition::{Comparison, Expression, Relation};
use super::metric::Worse;
use super::reading::Reading;
use super::verdict::Verdict;

/// Of an expression that is being evaluated; `None` is what cannot be.
pub type Stack = Vec<Option<Verdict>>;

#[derive(Clone, Debug, Default)]
pub struct Program {
    operations: Vec<Operation>,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Compare(Compare),
    And,
    Or,
    Not,
}

/// One comparison against a slot.
#[derive(Clone, Copy, Debug)]
pub struct Compare {
    pub slot: usize,
    pub relation: Relation,
    pub threshold: f64,
    worse: Worse,
}

impl Program {
    /// `slot_of` gives each comparison's operand its slot.
    pub fn compile(expression: &Expression, slot_of: &mut impl FnMut(&Comparison) -> usize) -> Self {
        let mut operations = Vec::new();
        emit(expression, slot_of, &mut operations);
        Self { operations }
    }

    /// `None` where what it asks about cannot be here. `stack` is scratch that the caller keeps, so that evaluating allocates
    /// nothing.
    #[must_use]
    pub fn evaluate(&self, readings: &[Reading], stack: &mut Stack) -> Option<Verdict> {
        stack.clear();
        for operation in &self.operations {
            let verdict = match operation {
                Operation::Compare(compare) if compare.cannot_be(readings) => None,
                Operation::Compare(compare) => Some(compare.evaluate(readings)),
                Operation::Not => stack.pop().flatten().map(not),
                Operation::And => and(stack.pop().flatten(), stack.pop().flatten()),
                Operation::Or => or(stack.pop().flatten(), stack.pop().flatten()),
            };
            stack.push(verdict);
        }
        stack.pop().flatten()
    }

    /// In the order in which they are written.
    pub fn comparisons(&self) -> impl Iterator<Item = &Compare> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Compare(compare) => Some(compare),
            Operation::And | Operation::Or | Operation::Not => None,
        })
    }
}

fn emit(expression: &Expression, slot_of: &mut impl FnMut(&Comparison) -> usize, operations: &mut Vec<Operation>) {
    match expression {
        Expression::Compare(comparison) => {
            let compare = Compare::new(slot_of(comparison), comparison.relation, comparison);
            operations.push(Operation::Compare(compare));
        }
        Expression::Not(inner) => {
            emit(inner, slot_of, operations);
            operations.push(Operation::Not);
        }
        Expression::And(left, right) => {
            emit(left, slot_of, operations);
            emit(right, slot_of, operations);
            operations.push(Operation::And);
        }
        Expression::Or(left, right) => {
            emit(left, slot_of, operations);
            emit(right, slot_of, operations);
            operations.push(Operation::Or);
        }
    }
}

impl Compare {
    #[must_use]
    pub fn new(slot: usize, relation: Relation, comparison: &Comparison) -> Self {
        let worse = comparison.operand.metric.describe().worse;
        Self { slot, relation, threshold: comparison.threshold, worse }
    }

    /// No node of this kind has such a reading.
    #[must_use]
    pub fn cannot_be(&self, readings: &[Reading]) -> bool {
        readings.get(self.slot).is_some_and(|reading| reading.cannot_be())
    }

    /// Where some instance is missing, only what an even worse one could not change is known.
    #[must_use]
    pub fn evaluate(&self, readings: &[Reading]) -> Verdict {
        let Some(reading) = readings.get(self.slot) else { return Verdict::Unknown };
        if reading.value.is_nan() {
            return Verdict::Unknown;
        }
        let holds = self.relation.holds(reading.value, self.threshold);
        if !reading.incomplete {
            return if holds { Verdict::True } else { Verdict::False };
        }
        match (self.towards_worse(), holds) {
            (Some(true), true) => Verdict::True,
            (Some(false), false) => Verdict::False,
            _ => Verdict::Unknown,
        }
    }

    /// Whether this asks if the metric is bad (`true`) or good (`false`); neither for equality.
    #[must_use]
    pub const fn towards_worse(&self) -> Option<bool> {
        match (self.relation, self.worse) {
            (Relation::Greater | Relation::GreaterOrEqual, Worse::High)
            | (Relation::Less | Relation::LessOrEqual, Worse::Low) => Some(true),
            (Relation::Greater | Relation::GreaterOrEqual, Worse::Low)
            | (Relation::Less | Relation::LessOrEqual, Worse::High) => Some(false),
            (Relation::Equal | Relation::NotEqual, _) => None,
        }
    }
}

fn not(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::True => Verdict::False,
        Verdict::False => Verdict::True,
        Verdict::Unknown => Verdict::Unknown,
    }
}

/// With what cannot be, it never holds.
fn and(right: Option<Verdict>, left: Option<Verdict>) -> Option<Verdict> {
    Some(match (left?, right?) {
        (Verdict::False, _) | (_, Verdict::False) => Verdict::False,
        (Verdict::True, Verdict::True) => Verdict::True,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
    })
}

/// Of what cannot be, the other side decides.
fn or(right: Option<Verdict>, left: Option<Verdict>) -> Option<Verdict> {
    let (Some(left), Some(right)) = (left, right) else { return left.or(right) };
    Some(match (left, right) {
        (Verdict::True, _) | (_, Verdict::True) => Verdict::True,
        (Verdict::False, Verdict::False) => Verdict::False,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(relation: Relation, worse: Worse, value: f64, incomplete: bool) -> Verdict {
        Compare { slot: 0, relation, threshold: 50.0, worse }.evaluate(&[Reading { value, incomplete }])
    }

    #[test]
    fn logic_is_three_valued() {
        let (yes, no, dark) = (Some(Verdict::True), Some(Verdict::False), Some(Verdict::Unknown));
        assert_eq!((and(dark, no), and(dark, yes)), (no, dark));
        assert_eq!((or(dark, yes), or(dark, no)), (yes, dark));
        assert_eq!(not(Verdict::Unknown), Verdict::Unknown);
        assert_eq!((and(None, yes), and(no, None), or(None, no), or(yes, None)), (None, None, no, yes));
        assert_eq!(or(None, None), None);
    }

    #[test]
    fn a_missing_instance_leaves_only_what_it_could_not_change() {
        assert_eq!(compare(Relation::Greater, Worse::High, 90.0, true), Verdict::True);
        assert_eq!(compare(Relation::Greater, Worse::High, 10.0, true), Verdict::Unknown);
        assert_eq!(compare(Relation::Less, Worse::High, 90.0, true), Verdict::False);
        assert_eq!(compare(Relation::Less, Worse::High, 10.0, true), Verdict::Unknown);
        assert_eq!(compare(Relation::Less, Worse::Low, 10.0, true), Verdict::True);
        assert_eq!(compare(Relation::Less, Worse::High, 10.0, false), Verdict::True);
        assert_eq!(compare(Relation::Less, Worse::High, f64::NAN, false), Verdict::Unknown);
    }
}
