//! Which shares nginx can be told to refuse: a flag file either is there or is not, so there are as many as the snippet of
//! docs/controls/nginx.md knows. Pure.

use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

/// A request falls into one of these classes by `split_clients`: with `shed-10` there a tenth is refused, with `shed-25`
/// beside it a quarter.
pub const PUBLISHED: [u8; 5] = [10, 25, 50, 75, 100];

/// What is not there.
pub const ABSENT: &str = "";

/// The smallest share that is published and sheds at least this. 0 sheds nothing.
pub fn of(amount: Amount) -> Result<u8, Failure> {
    let share = match amount {
        Amount::Whole => 100.0,
        Amount::Keep(kept) => 100.0 - kept,
        Amount::Bytes(_) => {
            return Err(Failure::unsupported("nginx sheds a share of the requests: write it as a percentage"));
        }
    };
    if share <= 0.0 {
        return Ok(0);
    }
    // Halves of a percent come from halving and doubling shares; nobody means them.
    let enough = |&&level: &&u8| f64::from(level) + 0.5 > share;
    Ok(PUBLISHED.iter().find(enough).copied().unwrap_or(100))
}

/// `flag shed-25`
#[must_use]
pub fn key(level: u8) -> String {
    format!("flag {}", file(level))
}

#[must_use]
pub fn file(level: u8) -> String {
    format!("shed-{level}")
}

/// What a flag of ours reads as: `25%`.
#[must_use]
pub fn set(level: u8) -> String {
    format!("{level}%")
}

#[must_use]
pub fn is_set(value: &str) -> bool {
    PUBLISHED.into_iter().any(|level| value == set(level))
}

/// The level of a key, `None` where a journal or a configuration holds something else.
#[must_use]
pub fn parse(key: &str) -> Option<u8> {
    PUBLISHED.into_iter().find(|&level| self::key(level) == key)
}

/// One that is set sheds.
#[must_use]
pub fn strictness(key: &str, value: &str) -> Option<f64> {
    let level = parse(key)?;
    match value {
        ABSENT => Some(f64::NEG_INFINITY),
        value if value == set(level) => Some(f64::from(level)),
        _ => None,
    }
}

/// How this flag is to be, for all that is to be shed.
#[must_use]
pub fn aim(level: u8, wanted: u8) -> String {
    if level <= wanted { set(level) } else { ABSENT.to_owned() }
}

/// A flag of ours always goes in the end, also one that was left behind by a guardian that lost its journal.
#[must_use]
pub fn change(level: u8, wanted: u8) -> Change {
    let ours = Change::new(key(level), ABSENT, vec![set(level)]);
    ours.aimed(aim(level, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_what_was_asked_for_is_shed() {
        let shed = |share: f64| of(Amount::Keep(100.0 - share)).unwrap();
        assert_eq!(
            [1.0, 10.0, 10.4, 11.0, 25.0, 30.0, 60.0, 76.0, 100.0].map(shed),
            [10, 10, 10, 25, 25, 50, 75, 100, 100]
        );
        assert_eq!((shed(0.0), of(Amount::Whole).unwrap()), (0, 100));
        assert!(of(Amount::Bytes(5)).is_err());
    }

    #[test]
    fn a_level_is_all_flags_up_to_it() {
        let aims: Vec<_> = PUBLISHED.iter().map(|&level| aim(level, 50)).collect();
        assert_eq!(aims, ["10%", "25%", "50%", "", ""]);
        assert_eq!(change(75, 50).ours, ["75%", ""]);
    }

    #[test]
    fn only_keys_of_ours_are_flags() {
        assert_eq!((parse("flag shed-25"), parse("flag shed-26"), parse("flag ../shed-25")), (Some(25), None, None));
    }
}
