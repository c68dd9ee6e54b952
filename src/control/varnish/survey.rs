//! What a shrink changes at Varnish, and which objects go. Pure.
//!
//! The size of its storage is fixed while it runs. What is left are the threads it may have, each with its stack and
//! workspaces, and how soon a banned object goes.

use super::params::Param;
use crate::control::failure::Failure;
use crate::control::undo::Change;
use crate::policy::mitigation::Amount;

pub const THREADS: &str = "thread_pool_max";
pub const AGE: &str = "ban_lurker_age";
/// Bans only look at an object's own fields, so that the lurker finds them without a request.
pub const EVERYTHING: &str = "obj.status != 0";
/// The lurker leaves bans alone until they are this old: a tenth of a second, as Varnish writes it. Then 1,500 objects are
/// through in 0.12 s (measured on Varnish 7.1).
const SOON: &str = "0.100";
const SOON_SECONDS: f64 = 0.1;

/// Percent of its normal size that remains. A size is one of what is resident.
pub fn kept_percent(amount: Amount, resident: Option<u64>) -> Result<f64, Failure> {
    match (amount, resident) {
        (Amount::Keep(percent), _) => Ok(percent.clamp(0.0, 100.0)),
        (Amount::Bytes(bytes), Some(resident)) => Ok((bytes as f64 / resident.max(1) as f64 * 100.0).clamp(0.0, 100.0)),
        (Amount::Bytes(_), None) => Err(Failure::unsupported(
            "the memory of Varnish cannot be seen from here: write `to` as a percentage, not as a size",
        )),
        (Amount::Whole, _) => {
            Err(Failure::unsupported("how far to shrink Varnish? write `to` as a size or percentage"))
        }
    }
}

pub fn shrink(threads: &Param, age: &Param, kept: f64) -> Result<Vec<Change>, Failure> {
    let change = |key: &str, prior: &str, ours: String| Change::new(key, prior, vec![ours]);
    let mut changes = Vec::new();
    let fewer = fewer_threads(&threads.value, threads.minimum.as_deref(), kept)?;
    if fewer != threads.value {
        changes.push(change(THREADS, &threads.value, fewer));
    }
    if age.seconds().is_some_and(|seconds| seconds > SOON_SECONDS) {
        changes.push(change(AGE, &age.value, SOON.to_owned()));
    }
    if changes.is_empty() {
        return Err(Failure::refused(
            "thread_pool_max is at its minimum and ban_lurker_age at 0.1 s: nothing is left to shrink but by `flush`",
        ));
    }
    Ok(changes)
}

/// Never more than there are, never fewer than Varnish takes.
pub fn fewer_threads(value: &str, minimum: Option<&str>, kept: f64) -> Result<String, Failure> {
    let number = |text: &str| text.parse::<u64>().ok();
    let now = number(value).ok_or_else(|| Failure::unsupported(format!("Varnish's {THREADS} is `{value}`")))?;
    let least = minimum.and_then(number).unwrap_or(1);
    let wanted = (now as f64 * kept / 100.0) as u64;
    Ok(wanted.max(least).min(now).to_string())
}

/// Fewer threads hold less, and the sooner a banned object goes the sooner does its memory.
pub fn strictness(key: &str, value: &str) -> Option<f64> {
    if matches!(key, THREADS | AGE) { value.parse::<f64>().ok().map(|number| -number) } else { None }
}

/// The objects that go so that this share remains: by the second of their `Date`, which Varnish itself adds where the
/// backend does not. One that goes at a weak shrink goes at each stronger one, too.
pub fn ban(kept: f64) -> Option<String> {
    let seconds = ((100.0 - kept) * 0.6 - 1e-9).ceil().clamp(0.0, 60.0) as u32;
    let (tens, ones) = (seconds / 10, seconds % 10);
    let whole = |tens: u32| format!("[0-{}][0-9]", tens - 1);
    let part = |tens: u32, ones: u32| format!("{tens}[0-{}]", ones - 1);
    let matching = match (tens, ones) {
        (0, 0) => return None,
        (6, _) => return Some(EVERYTHING.to_owned()),
        (tens, 0) => whole(tens),
        (0, ones) => part(0, ones),
        (tens, ones) => format!("({}|{})", whole(tens), part(tens, ones)),
    };
    Some(format!("obj.http.date ~ :{matching}.GMT$"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::mitigation::Outcome;

    fn param(value: &str, minimum: &str) -> Param {
        Param { value: value.into(), minimum: Some(minimum.into()) }
    }

    #[test]
    fn threads_and_age_come_down_and_never_go_up() {
        let changes = shrink(&param("5000", "100"), &param("60.000", "0.000"), 50.0).unwrap();
        let told: Vec<_> = changes.iter().map(|c| (c.key.as_str(), c.prior.as_str(), c.wanted())).collect();
        assert_eq!(told, [(THREADS, "5000", "2500"), (AGE, "60.000", "0.100")]);
        let changes = shrink(&param("150", "100"), &param("0.050", "0.000"), 10.0).unwrap();
        assert_eq!((changes.len(), changes[0].wanted()), (1, "100"));
        let refused = shrink(&param("100", "100"), &param("0.100", "0.000"), 10.0).unwrap_err();
        assert_eq!(refused.outcome, Outcome::Refused);
        assert!(shrink(&param("many", "100"), &param("0.100", "0.000"), 10.0).is_err());
    }

    #[test]
    fn the_share_that_goes_is_of_the_seconds_of_a_minute() {
        let ban = |kept| ban(kept).unwrap_or_default();
        assert_eq!(ban(50.0), "obj.http.date ~ :[0-2][0-9].GMT$");
        assert_eq!(ban(75.0), "obj.http.date ~ :([0-0][0-9]|1[0-4]).GMT$");
        assert_eq!(ban(90.0), "obj.http.date ~ :0[0-5].GMT$");
        assert_eq!(ban(0.0), EVERYTHING);
        assert_eq!(ban(100.0), "");
    }

    #[test]
    fn a_size_is_a_share_of_what_is_resident() {
        assert_eq!(kept_percent(Amount::Bytes(100), Some(400)).unwrap(), 25.0);
        assert_eq!(kept_percent(Amount::Bytes(900), Some(400)).unwrap(), 100.0);
        assert_eq!(kept_percent(Amount::Bytes(900), None).unwrap_err().outcome, Outcome::Unsupported);
        assert_eq!(kept_percent(Amount::Whole, Some(400)).unwrap_err().outcome, Outcome::Unsupported);
    }
}
