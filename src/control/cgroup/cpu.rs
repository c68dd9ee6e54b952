//! `cpu.max`: how much CPU time a cgroup may use in a period. Pure.

use crate::control::failure::Failure;
use crate::policy::mitigation::Amount;

/// The kernel takes no less.
const LEAST_MICROS: f64 = 1000.0;

/// As the file has it: `max 100000`, `150000 100000`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// None: no limit.
    pub micros: Option<u64>,
    pub period: u64,
}

impl Quota {
    pub fn parse(text: &str) -> Option<Self> {
        let (micros, period) = text.trim().split_once(' ')?;
        let micros = if micros == "max" { None } else { Some(micros.parse().ok()?) };
        let period = period.parse().ok().filter(|period| *period > 0)?;
        Some(Self { micros, period })
    }

    /// In CPUs.
    fn cpus(self) -> Option<f64> {
        self.micros.map(|micros| micros as f64 / self.period as f64)
    }

    /// This share of what it may use: of its limit, or of all CPUs that it may run on.
    pub fn kept(self, amount: Amount, cpus: u32) -> Result<Self, Failure> {
        let Amount::Keep(percent) = amount else {
            return Err(Failure::unsupported("a cgroup is throttled to a share: write `to = \"50%\"`; or freeze it"));
        };
        let all = self.micros.map_or(f64::from(cpus) * self.period as f64, |micros| micros as f64);
        let kept = (all * percent.clamp(0.0, 100.0) / 100.0).round().max(LEAST_MICROS);
        Ok(Self { micros: Some(kept as u64), period: self.period })
    }

    pub fn text(self) -> String {
        match self.micros {
            Some(micros) => format!("{micros} {}", self.period),
            None => format!("max {}", self.period),
        }
    }
}

/// The less, the stricter.
pub fn strictness(value: &str) -> Option<f64> {
    Some(Quota::parse(value)?.cpus().map_or(f64::NEG_INFINITY, |cpus| -cpus))
}

/// How many CPUs a list names: `0-3,5`.
pub fn count(list: &str) -> Option<u32> {
    let mut count = 0;
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)?.saturating_add(1);
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str, percent: f64) -> String {
        Quota::parse(text).unwrap().kept(Amount::Keep(percent), 4).unwrap().text()
    }

    #[test]
    fn a_share_is_of_the_limit_or_of_all_cpus() {
        assert_eq!(kept("max 100000", 50.0), "200000 100000");
        assert_eq!(kept("150000 100000", 50.0), "75000 100000");
        assert_eq!(kept("20000 50000", 1.0), "1000 50000", "the kernel takes no less");
        assert!(Quota::parse("max 100000").unwrap().kept(Amount::Whole, 4).is_err());
    }

    #[test]
    fn what_is_no_quota_is_none() {
        for text in ["", "max", "100000", "x 100000", "max 0", "-5 100000"] {
            assert_eq!(Quota::parse(text), None, "{text}");
        }
    }

    #[test]
    fn less_is_stricter_whatever_the_period() {
        let of = |text| strictness(text).unwrap();
        assert!(of("50000 100000") > of("150000 100000") && of("150000 100000") > of("max 100000"));
        assert!((of("50000 100000") - of("25000 50000")).abs() < 1e-9);
        assert_eq!(strictness("frozen"), None);
    }

    #[test]
    fn lists_of_cpus_are_counted() {
        assert_eq!((count("0-3,5\n"), count("7"), count("0-1")), (Some(5), Some(1), Some(2)));
        assert_eq!((count(""), count("3-1")), (None, None));
    }
}
