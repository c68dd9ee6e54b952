//! What a well-formed piece of a condition means: functions with their arguments, values in their metric's unit. What
//! can never be meant, such as 950 % or a window of no time, is refused here and not at run time.

use std::ops::Range;
use std::time::Duration;

use super::names::unknown_function;
use super::parser::{Parser, Written};
use super::{Function, Operand};
use crate::policy::metric::Metric;
use crate::policy::unit::{Suffix, Unit};

/// History is kept in memory, so a window has an end.
const WIDEST: Duration = Duration::from_secs(24 * 3600);

impl Parser<'_> {
    pub(super) fn resolved(
        &mut self,
        name: &str,
        name_span: Range<usize>,
        span: Range<usize>,
        metric: Option<Metric>,
        argument: Option<Written>,
    ) -> Option<Function> {
        let windowed: fn(Duration) -> Function = match name {
            "avg" => Function::Average,
            "max" => Function::Maximum,
            "min" => Function::Minimum,
            "p95" => Function::Percentile95,
            "rate" => return self.rate(argument),
            "time_to" => return self.time_to(span, metric?, argument),
            _ => {
                self.mistakes.push(unknown_function(name, name_span));
                return None;
            }
        };
        let Some(argument) = argument else {
            self.complain(span, format!("`{name}` needs a window"), format!("write `{name}(metric, 30s)`"));
            return None;
        };
        self.window(argument).map(windowed)
    }

    fn rate(&mut self, argument: Option<Written>) -> Option<Function> {
        match argument {
            None => Some(Function::Rate),
            Some(argument) => {
                self.complain(argument.span, "`rate` takes no window", "write `rate(metric)`: its change per second");
                None
            }
        }
    }

    fn time_to(&mut self, span: Range<usize>, metric: Metric, argument: Option<Written>) -> Option<Function> {
        let Some(argument) = argument else {
            let example = metric.unit().example();
            self.complain(span, "`time_to` needs the value to be reached", format!("give it {example}"));
            return None;
        };
        let operand = Operand { metric, selector: None, function: None };
        self.fitting(&operand, argument).map(Function::TimeTo)
    }

    fn window(&mut self, written: Written) -> Option<Duration> {
        let quantity = written.quantity?;
        match quantity.duration() {
            Some(window) if window.is_zero() => {
                self.complain(written.span, "a window of no time holds no sample", "such as 30s");
            }
            Some(window) if window > WIDEST => {
                self.complain(written.span, "a window is at most 24h", "use a shorter one");
            }
            Some(window) => return Some(window),
            None => self.complain(written.span, "a window is a duration", "such as 30s or 5m"),
        }
        None
    }

    /// The value in the operand's unit, if it is one and within what such a metric can be.
    pub(super) fn fitting(&mut self, operand: &Operand, written: Written) -> Option<f64> {
        let quantity = written.quantity?;
        let rate = operand.function == Some(Function::Rate);
        let unit = operand.unit();
        let percent_rate =
            rate && operand.metric.unit() == Unit::Percent && quantity.suffix == Suffix::PercentPerSecond;
        let value = if percent_rate { Some(quantity.value) } else { quantity.fits(unit) };
        let Some(value) = value else {
            let message = format!("`{operand}` is measured in {}", unit_name(operand));
            self.complain(written.span, message, format!("compare it with {}", unit_example(operand)));
            return None;
        };
        if value < 0.0 && !rate {
            self.complain(
                written.span,
                format!("`{operand}` is never negative"),
                format!("compare it with {}", unit.example()),
            );
            return None;
        }
        if unit == Unit::Percent && value > 100.0 {
            let message = format!("`{operand}` never exceeds 100%");
            self.complain(written.span, message, "use a threshold from 0% to 100%");
            return None;
        }
        Some(value)
    }
}

fn unit_name(operand: &Operand) -> &'static str {
    if operand.function == Some(Function::Rate) && operand.metric.unit() == Unit::Percent {
        "percent/second"
    } else {
        operand.unit().name()
    }
}

fn unit_example(operand: &Operand) -> &'static str {
    if operand.function == Some(Function::Rate) && operand.metric.unit() == Unit::Percent {
        "percent points per second, such as 2%/s"
    } else {
        operand.unit().example()
    }
}
