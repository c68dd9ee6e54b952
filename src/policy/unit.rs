//! Units of metrics and of the values that configuration compares them with: one grammar for both, so that
//! `8%`, `512MiB`, `250ms` and `1000/s` mean the same wherever they are written.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Percent,
    Bytes,
    BytesPerSecond,
    PerSecond,
    Count,
    Seconds,
    /// A plain number without a dimension (load per core).
    Ratio,
    /// 1 when true, 0 when false.
    Flag,
}

impl Unit {
    /// How a complaint names it, with an example.
    #[must_use]
    pub const fn example(self) -> &'static str {
        match self {
            Unit::Percent => "a percentage, such as 90%",
            Unit::Bytes => "a size, such as 512MiB",
            Unit::BytesPerSecond => "a throughput, such as 100MiB/s",
            Unit::PerSecond => "a rate, such as 50/s",
            Unit::Count => "a count, such as 1000",
            Unit::Seconds => "a duration, such as 250ms",
            Unit::Ratio => "a plain number, such as 1.5",
            Unit::Flag => "true or false",
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Percent => "percent",
            Unit::Bytes => "bytes",
            Unit::BytesPerSecond => "bytes/second",
            Unit::PerSecond => "1/second",
            Unit::Count => "count",
            Unit::Seconds => "seconds",
            Unit::Ratio => "ratio",
            Unit::Flag => "flag",
        }
    }

    /// What a change of this per second is measured in. The change of a percentage is percent points per second.
    #[must_use]
    pub const fn per_second(self) -> Unit {
        match self {
            Unit::Bytes | Unit::BytesPerSecond => Unit::BytesPerSecond,
            Unit::Percent | Unit::PerSecond | Unit::Count | Unit::Seconds | Unit::Ratio | Unit::Flag => Unit::PerSecond,
        }
    }

    /// Writes a value the way people read it: `7.9%`, `512.0MiB`, `1.5s`.
    #[must_use]
    pub const fn show(self, value: f64) -> Shown {
        Shown { unit: self, value }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Shown {
    unit: Unit,
    value: f64,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value;
        match self.unit {
            Unit::Percent => write!(f, "{value:.1}%"),
            Unit::Bytes => write_bytes(f, value),
            Unit::BytesPerSecond => {
                write_bytes(f, value)?;
                f.write_str("/s")
            }
            Unit::PerSecond => write!(f, "{value:.1}/s"),
            Unit::Count => write!(f, "{value:.0}"),
            Unit::Seconds => write_seconds(f, value),
            Unit::Ratio => write!(f, "{value:.2}"),
            Unit::Flag => f.write_str(if value == 0.0 { "false" } else { "true" }),
        }
    }
}

fn write_bytes(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    const STEPS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = value;
    let mut step = 0;
    while scaled.abs() >= 1024.0 && step + 1 < STEPS.len() {
        scaled /= 1024.0;
        step += 1;
    }
    if step == 0 { write!(f, "{scaled:.0}B") } else { write!(f, "{scaled:.1}{}", STEPS[step]) }
}

fn write_seconds(f: &mut fmt::Formatter<'_>, value: f64) -> fmt::Result {
    match value.abs() {
        0.0 => f.write_str("0s"),
        small if small < 0.001 => write!(f, "{:.0}us", value * 1e6),
        small if small < 1.0 => write!(f, "{:.1}ms", value * 1e3),
        large if large >= 3600.0 => write!(f, "{:.1}h", value / 3600.0),
        large if large >= 120.0 => write!(f, "{:.1}m", value / 60.0),
        _ => write!(f, "{value:.1}s"),
    }
}

/// A number with its unit as written, before anybody knows what it will be compared with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Quantity {
    /// In the base unit: bytes, seconds, percent points.
    pub value: f64,
    pub suffix: Suffix,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suffix {
    None,
    Percent,
    Bytes,
    Seconds,
    BytesPerSecond,
    PerSecond,
    /// Only the rate of a percentage is compared with it.
    PercentPerSecond,
}

impl Quantity {
    /// Parses `8%`, `512MiB`, `1.5GB`, `250ms`, `1h`, `1000/s`, `20MB/s`, `2%/s`, `42`. `None` where it is none of these.
    ///
    /// Sizes: `B`, `k`/`M`/`G`/`T` with `B` (powers of 1000) or `iB` (powers of 1024).
    /// Times: `ns`, `us`, `ms`, `s`, `m`, `h`, `d`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Quantity> {
        let text = text.trim();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits);
        let number: f64 = number.replace('_', "").parse().ok()?;
        let (suffix, per_second) = match suffix.trim().strip_suffix("/s") {
            Some(rest) => (rest.trim_end(), true),
            None => (suffix.trim(), false),
        };
        let (factor, suffix) = match (suffix, per_second) {
            ("", false) => (1.0, Suffix::None),
            ("", true) => (1.0, Suffix::PerSecond),
            ("%", false) => (1.0, Suffix::Percent),
            ("%", true) => (1.0, Suffix::PercentPerSecond),
            (unit, true) => (size_factor(unit)?, Suffix::BytesPerSecond),
            (unit, false) => match size_factor(unit) {
                Some(factor) => (factor, Suffix::Bytes),
                None => (time_factor(unit)?, Suffix::Seconds),
            },
        };
        Some(Quantity { value: number * factor, suffix })
    }

    /// The value in the metric's unit, or `None` if this quantity cannot be compared with it.
    #[must_use]
    pub fn fits(self, unit: Unit) -> Option<f64> {
        let fits = match unit {
            Unit::Percent => self.suffix == Suffix::Percent,
            Unit::Bytes => self.suffix == Suffix::Bytes,
            Unit::BytesPerSecond => self.suffix == Suffix::BytesPerSecond,
            Unit::PerSecond => matches!(self.suffix, Suffix::PerSecond),
            Unit::Seconds => self.suffix == Suffix::Seconds,
            Unit::Count | Unit::Ratio | Unit::Flag => self.suffix == Suffix::None,
        };
        fits.then_some(self.value)
    }

    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (self.suffix == Suffix::Seconds).then(|| Duration::try_from_secs_f64(self.value).ok())?
    }
}

fn size_factor(unit: &str) -> Option<f64> {
    Some(match unit {
        "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        "KiB" | "kiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        "TiB" => 1_099_511_627_776.0,
        _ => return None,
    })
}

fn time_factor(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_operators_write() {
        let parsed = |text| Quantity::parse(text).map(|q| (q.value, q.suffix));
        assert_eq!(parsed("8%"), Some((8.0, Suffix::Percent)));
        assert_eq!(parsed("512MiB"), Some((536_870_912.0, Suffix::Bytes)));
        assert_eq!(parsed("250ms"), Some((0.25, Suffix::Seconds)));
        assert_eq!(parsed("1000/s"), Some((1000.0, Suffix::PerSecond)));
        assert_eq!(parsed("20 MB/s"), Some((2e7, Suffix::BytesPerSecond)));
        assert_eq!(parsed("2%/s"), Some((2.0, Suffix::PercentPerSecond)));
        assert_eq!(parsed("42"), Some((42.0, Suffix::None)));
        for nonsense in ["", "%", "8%%", "12 parsecs", "1e5", "--3", "1.2.3s", "5ms/s"] {
            assert_eq!(parsed(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn shows_what_people_read() {
        assert_eq!(Unit::Bytes.show(536_870_912.0).to_string(), "512.0MiB");
        assert_eq!(Unit::Seconds.show(0.25).to_string(), "250.0ms");
        assert_eq!(Unit::Seconds.show(0.0).to_string(), "0s");
        assert_eq!(Unit::Percent.show(7.94).to_string(), "7.9%");
        assert_eq!(Unit::Flag.show(1.0).to_string(), "true");
    }
}
