//! Numbers as services tell them: whether one is what another was rounded to, or lies on the way to it. Pure. Text that is
//! no number is near nothing.

/// Services round to a step or a power of their own: 176 becomes 180.
const ROUNDING: f64 = 0.05;

/// Whether `live` is what was written, but for rounding.
#[must_use]
pub fn is_near(written: &str, live: &str) -> bool {
    let Some(((written, whole), (live, also))) = pair(written, live) else {
        return written.eq_ignore_ascii_case(live);
    };
    let unit = if whole && also { 1.0 } else { 0.0 };
    (written - live).abs() <= (written.abs() * ROUNDING).max(unit)
}

/// Whether `live` lies between these two, both included.
#[must_use]
pub fn is_between(from: &str, live: &str, to: &str) -> bool {
    let (Some(((from, _), (live, _))), Some(((to, _), _))) = (pair(from, live), pair(to, live)) else { return false };
    from.min(to) <= live && live <= from.max(to)
}

/// Whether all of it is a number with its unit.
#[must_use]
pub fn is_number(text: &str) -> bool {
    number(text).is_some()
}

/// Both, and whether each is whole: of one unit.
fn pair(one: &str, other: &str) -> Option<((f64, bool), (f64, bool))> {
    let ((one, unit, whole), (other, same, also)) = (number(one)?, number(other)?);
    (unit == same).then_some(((one, whole), (other, also)))
}

fn number(text: &str) -> Option<(f64, &str, bool)> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |at| at + 1);
    let (digits, unit) = text.split_at(end);
    let number: f64 = digits.parse().ok()?;
    number.is_finite().then_some((number, unit, !digits.contains('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_a_twentieth_or_one_of_what_is_counted() {
        assert!(is_near("176", "180") && is_near("180", "176") && is_near("3", "4") && is_near("50", "50.0"));
        assert!(!is_near("176", "186") && !is_near("3", "5"));
        assert!(!is_near("0.2", "0.8") && is_near("0.20", "0.2"), "a share is not counted");
        assert!(is_near("64mb", "65mb") && !is_near("64mb", "64kb") && !is_near("64", "64%"));
        assert!(is_near("ON", "on") && !is_near("on", "off") && !is_near("1e999", "2e999"));
    }

    #[test]
    fn on_the_way_is_between() {
        assert!(is_between("200", "120", "50") && is_between("50", "120", "200") && is_between("200", "200", "50"));
        assert!(!is_between("200", "40", "50") && !is_between("200", "x", "50") && !is_between("", "1", "2"));
    }
}
