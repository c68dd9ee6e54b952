//! Conditions as people write them, as a tree: `memory.available_percent < 8% or avg(cpu.used_percent, 30s) > 90%`.
//! Names, units and selectors are checked here, once, so that nothing can be misspelt at run time.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::metric::Metric;
use super::unit::{Shown, Unit};

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
    pub const fn symbol(self) -> &'static str {
        match self {
            Relation::Less => "<",
            Relation::LessOrEqual => "<=",
            Relation::Greater => ">",
            Relation::GreaterOrEqual => ">=",
            Relation::Equal => "==",
            Relation::NotEqual => "!=",
        }
    }

    #[must_use]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
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

impl Operand {
    /// The unit of what it reads: a rate is per second, a forecast is a duration.
    #[must_use]
    pub fn unit(&self) -> Unit {
        match (self.function, self.metric.unit()) {
            (Some(Function::TimeTo(_)), _) => Unit::Seconds,
            (Some(Function::Rate), Unit::Bytes) => Unit::BytesPerSecond,
            (Some(Function::Rate), _) => Unit::PerSecond,
            (_, unit) => unit,
        }
    }

    #[must_use]
    pub fn show(&self, value: f64) -> Shown {
        self.unit().show(value)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.name())
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
