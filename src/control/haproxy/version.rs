//! Which versions survive that a frontend's `maxconn` is raised again. Those without the fix of haproxy/haproxy#2726 lock
//! up in it and are aborted by their own watchdog 2.7 s later (seen 5 times of 5 on 2.6.12), so
//! whatever is not known to have it counts as without. Pure.

/// The first release of each branch that has the fix, by the branches' changelogs. Later branches were born with it;
/// 2.7 and those before 2.6 never got it.
const FIXED: [(u32, u32, u32); 4] = [(2, 6, 20), (2, 8, 12), (2, 9, 12), (3, 0, 6)];
const NEWEST_WITHOUT: (u32, u32) = (3, 0);

/// `text` as `show info` has it: `2.6.12-1+deb12u4`, `3.0.11`.
#[must_use]
pub fn survives_raising_a_frontend(text: &str) -> bool {
    let Some((branch, release)) = parse(text) else { return false };
    branch > NEWEST_WITHOUT
        || FIXED.iter().any(|&(major, minor, fixed)| branch == (major, minor) && release.is_some_and(|it| it >= fixed))
}

/// Branch and release; no release where it is a version under development.
fn parse(text: &str) -> Option<((u32, u32), Option<u32>)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut numbers = text[..end].split('.').map(|number| number.parse().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    if text[end..].starts_with("-dev") {
        // What it had when it was built, nobody can tell: it counts as the branch before.
        return Some(((major, u32::checked_sub(minor, 1)?), None));
    }
    Some(((major, minor), numbers.next().flatten()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_versions_with_the_fix_survive() {
        for fixed in [
            "2.6.20",
            "2.6.21-1~bpo12+1",
            "2.8.12",
            "2.9.12",
            "3.0.6",
            "3.0.11-1+deb13u3",
            "3.1.0",
            "3.2.4-98813a1",
            "4.0.0",
        ] {
            assert!(survives_raising_a_frontend(fixed), "{fixed}");
        }
        for broken in [
            "2.6.12-1+deb12u4",
            "2.6.2",
            "2.6",
            "2.8.11",
            "2.9.11",
            "3.0.5",
            "3.0.0",
            "2.7.99",
            "2.5.14",
            "1.8.30",
            "3.1-dev7",
            "3.0-dev13",
            "",
            "HAProxy",
            "2",
            "2.6.x20",
            "99999999999.1.1",
        ] {
            assert!(!survives_raising_a_frontend(broken), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(?s).{0,40}", version in "[0-9.]{0,12}[-+~a-z0-9]{0,6}") {
            let answers = [survives_raising_a_frontend(&text), survives_raising_a_frontend(&version)];
            prop_assert!(answers.len() == 2);
        }
    }
}
