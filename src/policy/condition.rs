//! Conditions as people write them, as a tree: `memory.available_percent < 8% or avg(cpu.used_percent, 30s) > 90%`.
//! Names, units and selectors are checked here, once, so that nothing can be misspelt at run time.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::metric::Metric;
use super::resource::Resource;
use super::unit::{Shown, Unit};

mod lexer;
mod meaning;
mod names;
mod parser;
mod show;
#[cfg(test)]
mod tests;

pub use parser::{operand, parse};

/// The text as written and what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub text: String,
    pub expression: Expression,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    Compare(Comparison),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Not(Box<Expression>),
}

impl Expression {
    /// In the order in which they are written.
    #[must_use]
    pub(crate) fn comparisons(&self) -> Vec<&Comparison> {
        match self {
            Expression::Compare(comparison) => vec![comparison],
            Expression::Not(inner) => inner.comparisons(),
            Expression::And(left, right) | Expression::Or(left, right) => {
                let mut both = left.comparisons();
                both.extend(right.comparisons());
                both
            }
        }
    }

    /// What all of its metrics are of, as far as they are of any.
    #[must_use]
    pub(crate) fn resource(&self) -> Option<Resource> {
        let mut resources = self.metrics().filter_map(Metric::resource);
        let first = resources.next()?;
        resources.all(|other| other == first).then_some(first)
    }

    pub(crate) fn metrics(&self) -> impl Iterator<Item = Metric> {
        self.comparisons().into_iter().map(|comparison| comparison.operand.metric)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    pub operand: Operand,
    pub relation: Relation,
    /// In the operand's base unit.
    pub threshold: f64,
}

/// A metric, perhaps of one instance, perhaps seen through a function of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    pub metric: Metric,
    pub selector: Option<String>,
    pub function: Option<Function>,
}

impl Operand {
    /// What its readings are measured in: those of the metric, of its change per second, or of time.
    #[must_use]
    pub(crate) fn unit(&self) -> Unit {
        match self.function {
            None
            | Some(Function::Average(_) | Function::Maximum(_) | Function::Minimum(_) | Function::Percentile95(_)) => {
                self.metric.unit()
            }
            Some(Function::Rate) => self.metric.unit().per_second(),
            Some(Function::TimeTo(_)) => Unit::Seconds,
        }
    }

    #[must_use]
    pub fn show(&self, value: f64) -> Shown {
        self.unit().show(value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Average(Duration),
    Maximum(Duration),
    Minimum(Duration),
    Percentile95(Duration),
    /// Change per second.
    Rate,
    /// Seconds until the metric reaches this value, in the metric's unit, if it goes on as it does.
    TimeTo(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Relation {
    #[must_use]
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Relation::Less => "<",
            Relation::LessOrEqual => "<=",
            Relation::Greater => ">",
            Relation::GreaterOrEqual => ">=",
            Relation::Equal => "==",
            Relation::NotEqual => "!=",
        }
    }

    /// What holds where this does not.
    #[must_use]
    pub(crate) const fn opposite(self) -> Relation {
        match self {
            Relation::Less => Relation::GreaterOrEqual,
            Relation::LessOrEqual => Relation::Greater,
            Relation::Greater => Relation::LessOrEqual,
            Relation::GreaterOrEqual => Relation::Less,
            Relation::Equal => Relation::NotEqual,
            Relation::NotEqual => Relation::Equal,
        }
    }

    #[must_use]
    pub(crate) fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Relation::Less => value < threshold,
            Relation::LessOrEqual => value <= threshold,
            Relation::Greater => value > threshold,
            Relation::GreaterOrEqual => value >= threshold,
            Relation::Equal => value == threshold,
            Relation::NotEqual => value != threshold,
        }
    }
}

/// Something in a condition that cannot be meant, with the bytes of the text that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    pub span: Range<usize>,
    /// What is wrong: `unknown metric "memory.free_percent"`.
    pub message: String,
    /// What to try: `did you mean "memory.available_percent"?`.
    pub help: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}
