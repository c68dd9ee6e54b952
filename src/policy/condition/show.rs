//! A condition's tree back to text that means exactly the same: reading it again gives the same tree, to the last bit.

use std::fmt;
use std::time::Duration;

use super::{Comparison, Expression, Function, Operand};
use crate::policy::family::Selector;
use crate::policy::metric::Metric;
use crate::policy::unit::Unit;

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_expression(f, self, Binding::Or)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent_rate = self.operand.function == Some(Function::Rate) && self.operand.metric.unit() == Unit::Percent;
        write!(f, "{} {} ", self.operand, self.relation.symbol())?;
        if percent_rate {
            return write!(f, "{}%/s", self.threshold);
        }
        write_exact(f, self.operand.unit(), self.threshold)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metric = Selected { metric: self.metric, selector: self.selector.as_deref() };
        match self.function {
            None => write!(f, "{metric}"),
            Some(Function::Average(window)) => write_windowed(f, "avg", &metric, window),
            Some(Function::Maximum(window)) => write_windowed(f, "max", &metric, window),
            Some(Function::Minimum(window)) => write_windowed(f, "min", &metric, window),
            Some(Function::Percentile95(window)) => write_windowed(f, "p95", &metric, window),
            Some(Function::Rate) => write!(f, "rate({metric})"),
            Some(Function::TimeTo(limit)) => {
                write!(f, "time_to({metric}, ")?;
                write_exact(f, self.metric.unit(), limit)?;
                f.write_str(")")
            }
        }
    }
}

/// What may stand unbracketed where an expression is written: everything, all but `or`, or single terms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Term,
}

/// `and` and `or` group to the left, so a right side of the same kind keeps its brackets.
fn write_expression(f: &mut fmt::Formatter<'_>, expression: &Expression, place: Binding) -> fmt::Result {
    let own = match expression {
        Expression::Or(..) => Binding::Or,
        Expression::And(..) => Binding::And,
        Expression::Compare(_) | Expression::Not(_) => Binding::Term,
    };
    if own < place {
        f.write_str("(")?;
    }
    match expression {
        Expression::Compare(comparison) => write!(f, "{comparison}")?,
        Expression::Not(inner) => {
            f.write_str("not ")?;
            write_expression(f, inner, Binding::Term)?;
        }
        Expression::And(left, right) => {
            write_expression(f, left, Binding::And)?;
            f.write_str(" and ")?;
            write_expression(f, right, Binding::Term)?;
        }
        Expression::Or(left, right) => {
            write_expression(f, left, Binding::Or)?;
            f.write_str(" or ")?;
            write_expression(f, right, Binding::And)?;
        }
    }
    if own < place { f.write_str(")") } else { Ok(()) }
}

struct Selected<'o> {
    metric: Metric,
    selector: Option<&'o str>,
}

impl fmt::Display for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric.name();
        let Some(selector) = self.selector else { return f.write_str(name) };
        let prefix = self.metric.family().prefix();
        let rest = name.strip_prefix(prefix).unwrap_or(name);
        match self.metric.family().selector() {
            Selector::Port => write!(f, "{prefix}[{selector}]{rest}"),
            Selector::Reported => {
                let (control, number) = selector.split_once('.').unwrap_or((selector, ""));
                write!(f, "{prefix}[\"{control}\"].{number}")
            }
            Selector::Nothing | Selector::Path | Selector::Name => {
                let quote = if selector.contains('"') { '\'' } else { '"' };
                write!(f, "{prefix}[{quote}{selector}{quote}]{rest}")
            }
        }
    }
}

fn write_windowed(f: &mut fmt::Formatter<'_>, name: &str, metric: &Selected<'_>, window: Duration) -> fmt::Result {
    write!(f, "{name}({metric}, ")?;
    write_exact(f, Unit::Seconds, window.as_secs_f64())?;
    f.write_str(")")
}

/// A float's plain form is the shortest that reads back as the same; a larger unit is used where nothing is lost.
fn write_exact(f: &mut fmt::Formatter<'_>, unit: Unit, value: f64) -> fmt::Result {
    const SIZES: &[(&str, f64)] = &[("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1024.0), ("B", 1.0)];
    const TIMES: &[(&str, f64)] = &[("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("s", 1.0)];
    match unit {
        Unit::Percent => write!(f, "{value}%"),
        Unit::Bytes => write_scaled(f, value, SIZES),
        Unit::BytesPerSecond => {
            write_scaled(f, value, SIZES)?;
            f.write_str("/s")
        }
        Unit::PerSecond => write!(f, "{value}/s"),
        Unit::Seconds => write_scaled(f, value, TIMES),
        Unit::Count | Unit::Ratio => write!(f, "{value}"),
        Unit::Flag => f.write_str(if value == 0.0 { "false" } else { "true" }),
    }
}

/// In the largest unit that gives a whole number, otherwise in the last one, whose factor is 1.
fn write_scaled(f: &mut fmt::Formatter<'_>, value: f64, scales: &[(&str, f64)]) -> fmt::Result {
    let whole = |factor: f64| {
        let scaled = value / factor;
        scaled.fract() == 0.0 && scaled.abs() >= 1.0 && scaled * factor == value
    };
    let fallback = scales.last().copied().unwrap_or(("", 1.0));
    let (suffix, factor) = scales.iter().copied().find(|(_, factor)| whole(*factor)).unwrap_or(fallback);
    write!(f, "{}{suffix}", value / factor)
}
