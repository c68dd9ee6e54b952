//! Which value a verb is to set, given the one that is there. Pure. Never one that lets more through than before.

use super::Knob;
use super::text::{as_it_is, fill, is_plain};
use crate::control::failure::Failure;
use crate::policy::mitigation::Amount;

/// That share of the prior number.
pub const SHARE: &str = "{share}";
/// Percent that remains.
pub const KEPT: &str = "{kept}";
/// Percent that does not.
pub const SHED: &str = "{shed}";
/// A size, or a share of the prior number.
pub const BYTES: &str = "{bytes}";

pub fn knows_shares(to: &str) -> bool {
    [SHARE, KEPT, SHED, BYTES].iter().any(|name| to.contains(name))
}

/// `None` where the prior value is as strong already.
pub fn value(knob: &Knob, prior: &str, amount: Amount) -> Result<Option<String>, Failure> {
    let kept = match amount {
        Amount::Whole => Some(0.0),
        Amount::Keep(kept) => Some(kept.clamp(0.0, 100.0)),
        Amount::Bytes(_) => None,
    };
    let (mut share, mut percents) = (String::new(), (String::new(), String::new()));
    if let Some(kept) = kept {
        percents = (format!("{kept:.0}"), format!("{:.0}", 100.0 - kept));
        if knob.to.contains(SHARE) || knob.to.contains(BYTES) {
            share = scaled(knob, prior, kept)?;
        }
    } else if !knob.to.contains(BYTES) && knows_shares(&knob.to) {
        return Err(Failure::unsupported(format!("{} is set by a share: write a percentage in the step", knob.name)));
    }
    let bytes = if let Amount::Bytes(bytes) = amount {
        if knob.to.contains(BYTES) && number(knob, prior).is_none() && prior.contains(|c: char| c.is_ascii_digit()) {
            return Err(Failure::unsupported(format!(
                "{} is `{prior}`, whose unit is unknown: let `read` take a number of bytes",
                knob.name
            )));
        }
        bytes.to_string()
    } else {
        share.clone()
    };
    let words = [(SHARE, share.as_str()), (KEPT, &percents.0), (SHED, &percents.1), (BYTES, &bytes)];
    let wanted = fill(&knob.to, &words, as_it_is);
    if !is_plain(&wanted) {
        return Err(Failure::unsupported(format!("`{wanted}` is not a value for {}: correct its `to`", knob.name)));
    }
    Ok((wanted != prior && !is_stronger(knob, prior, &wanted)).then_some(wanted))
}

/// Of a knob that is set by a share; a value that nobody knows the unit of has no order.
pub fn strictness(knob: &Knob, value: &str) -> Option<f64> {
    let (name, ..) = place(&knob.to)?;
    let number = number(knob, value);
    match (name, number) {
        (SHED, Some(shed)) => Some(shed),
        (KEPT, Some(kept)) => Some(-kept),
        (_, Some(limit)) if limit > 0.0 => Some(-limit),
        // No limit reads as nothing, 0 or less.
        (_, Some(_)) => Some(f64::NEG_INFINITY),
        (_, None) => (!value.contains(|c: char| c.is_ascii_digit())).then_some(f64::NEG_INFINITY),
    }
}

fn is_stronger(knob: &Knob, prior: &str, wanted: &str) -> bool {
    let (Some(prior), Some(wanted)) = (number(knob, prior), number(knob, wanted)) else { return false };
    match place(&knob.to) {
        Some((SHED, ..)) => prior >= wanted,
        Some((KEPT, ..)) => prior <= wanted,
        // No limit reads as nothing, 0 or less.
        Some(_) => prior > 0.0 && prior <= wanted,
        None => false,
    }
}

/// The number in a value that is written as `to` says: `80` in `80pct` for `{shed}pct`.
fn number(knob: &Knob, value: &str) -> Option<f64> {
    let (_, before, behind) = place(&knob.to)?;
    let bare = value.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
    bare.and_then(|bare| bare.parse().ok()).or_else(|| value.parse().ok()).filter(|number: &f64| !number.is_nan())
}

/// Which number `to` is made of, and what stands around it.
fn place(to: &str) -> Option<(&'static str, &str, &str)> {
    let find = |name: &'static str| to.split_once(name).map(|(before, behind)| (name, before, behind));
    [SHED, KEPT, SHARE, BYTES].into_iter().find_map(find)
}

/// With as many decimals as the prior number has, because it is to be read back.
fn scaled(knob: &Knob, prior: &str, kept: f64) -> Result<String, Failure> {
    let number = prior.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    let decimals = number.and(prior.split_once('.')).map_or(0, |(_, decimals)| decimals.len());
    // `-1`, `0`, nothing, `max`: but `30s` is a limit, of which nobody here knows the unit.
    let is_unlimited = prior.parse::<f64>().is_ok() || !prior.contains(|c: char| c.is_ascii_digit());
    let unlimited = knob.unlimited_is.filter(|_| is_unlimited).map(f64::from);
    let Some(base) = number.or(unlimited) else {
        return Err(Failure::unsupported(format!(
            "{} is `{prior}`, which has no share: set `unlimited_is` if that means no limit, or let `read` \
             take a number",
            knob.name
        )));
    };
    Ok(format!("{:.decimals$}", (base * kept / 100.0).max(f64::from(knob.least))))
}

#[cfg(test)]
mod tests {
    use super::super::{Request, Step};
    use super::*;
    use crate::policy::mitigation::Verb;

    fn knob(to: &str) -> Knob {
        let request = Request::Send { text: String::new(), ends_with: None };
        let read = Step { request, expect: None, take: None, means: Vec::new(), may_be_empty: false };
        Knob {
            verb: Verb::Throttle,
            name: "limit".into(),
            read,
            may: None,
            set: Vec::new(),
            unset: Vec::new(),
            to: to.into(),
            least: 1,
            unlimited_is: None,
        }
    }

    #[test]
    fn a_lower_limit_and_a_greater_share_to_refuse_are_stricter() {
        let of = |to: &str, value: &str| strictness(&knob(to), value);
        assert!(of(SHARE, "50") > of(SHARE, "100") && of(SHARE, "100") > of(SHARE, "-1"));
        assert_eq!((of(SHARE, ""), of(SHARE, "0"), of(SHARE, "30s")), (of(SHARE, "-1"), of(SHARE, "-1"), None));
        assert!(of("{shed}pct", "80pct") > of("{shed}pct", "25pct") && of("{shed}pct", "25pct") > of("{shed}pct", ""));
        assert!(of(KEPT, "20") > of(KEPT, "75"));
        assert_eq!(of("1", "0"), None, "this is not a matter of how much");
    }

    fn told(knob: &Knob, prior: &str, amount: Amount) -> Option<String> {
        value(knob, prior, amount).unwrap()
    }

    #[test]
    fn a_share_keeps_the_form_of_the_number_and_never_becomes_nothing() {
        let half = Amount::Keep(50.0);
        assert_eq!(told(&knob(SHARE), "55.00", half).unwrap(), "27.50");
        assert_eq!(told(&knob(SHARE), "100", half).unwrap(), "50");
        assert_eq!(told(&knob(SHARE), "3", Amount::Whole).unwrap(), "1");
        assert_eq!(told(&knob(SHARE), "1", half), None);
        assert_eq!(told(&knob(SHARE), "1.00", half), None);
        assert!(value(&knob(SHARE), "-1", half).unwrap_err().detail.contains("unlimited_is"));
        let knob = Knob { unlimited_is: Some(100), ..knob(SHARE) };
        assert_eq!(told(&knob, "-1", half).unwrap(), "50");
        assert_eq!(told(&knob, "", half).unwrap(), "50");
        assert_eq!(told(&knob, "max", half).unwrap(), "50");
        assert!(value(&knob, "30s", half).is_err());
    }

    #[test]
    fn what_is_stronger_already_stays() {
        assert_eq!(told(&knob(SHED), "", Amount::Keep(75.0)).unwrap(), "25");
        assert_eq!(told(&knob(SHED), "0", Amount::Keep(75.0)).unwrap(), "25");
        assert_eq!(told(&knob(SHED), "80", Amount::Keep(75.0)), None);
        assert_eq!(told(&knob(KEPT), "10", Amount::Keep(75.0)), None);
        assert_eq!(told(&knob(BYTES), "1000", Amount::Bytes(4096)), None);
        assert_eq!(told(&knob(BYTES), "0", Amount::Bytes(4096)).unwrap(), "4096");
        assert_eq!(told(&knob(BYTES), "8192", Amount::Keep(25.0)).unwrap(), "2048");
        assert_eq!(told(&knob("{shed}pct"), "80pct", Amount::Keep(75.0)), None);
        assert_eq!(told(&knob("{shed}pct"), "8pct", Amount::Keep(75.0)).unwrap(), "25pct");
        assert_eq!(told(&knob("{kept}pct"), "10pct", Amount::Keep(75.0)), None);
        assert_eq!(told(&knob("{bytes}B"), "1000B", Amount::Bytes(4096)), None);
        assert!(value(&knob(BYTES), "10MB", Amount::Bytes(64 << 20)).is_err(), "nobody knows which is more");
        assert_eq!(told(&knob("0"), "1", Amount::Whole).unwrap(), "0");
        assert_eq!(told(&knob("0"), "0", Amount::Whole), None);
    }

    #[test]
    fn a_size_is_no_share() {
        assert!(value(&knob(SHARE), "100", Amount::Bytes(1)).is_err());
        assert_eq!(told(&knob("{bytes}B"), "", Amount::Bytes(7)).unwrap(), "7B");
    }
}
