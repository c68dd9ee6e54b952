//! `replay`: a trace through the real policy, offline. Prints each decision; never touches a control.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::config;
use crate::policy::plan::Plan;
use crate::policy::rule::Policy;
use crate::replay::replay;
use crate::replay::trace::Trace;

/// Exit code where `--expect` differs.
const DIFFERS: u8 = 1;
/// `EX_CONFIG` of sysexits.h.
const BAD_CONFIGURATION: u8 = 78;

/// What the trace makes the configuration decide, as text.
///
/// # Errors
/// The complaints about the configuration or the trace.
pub fn decide(config: &Path, trace: &Path) -> Result<String, String> {
    let settings = config::load(&config::Source::file(config)).map_err(|complaints| complaints.to_string())?;
    let text = fs::read_to_string(trace)
        .map_err(|error| format!("cannot read {}: {error}; name a file of samples", trace.display()))?;
    let trace_file = trace;
    let trace = Trace::parse(&text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(|mistake| format!("{}:{mistake}", trace_file.display())).collect();
        lines.join("\n")
    })?;
    let (policy, left_out) = concerned(settings.policy, &trace);
    let mut decided = replay(Plan::new(policy), &trace);
    if left_out > 0 {
        decided.insert_str(0, &format!("# {left_out} rules left out: the trace has none of what they need\n"));
    }
    Ok(decided)
}

/// Rules whose conditions use nothing that the trace ever reads would only be blind.
fn concerned(mut policy: Policy, trace: &Trace) -> (Policy, usize) {
    let read: BTreeSet<_> = trace.metrics().collect();
    let before = policy.rules.len();
    policy.rules.retain(|rule| rule.when.expression.metrics().any(|metric| read.contains(&metric)));
    let left_out = before - policy.rules.len();
    (policy, left_out)
}

/// Runs the subcommand and returns its exit code.
#[must_use]
pub(crate) fn run(config: &Path, trace: &Path, expect: Option<&Path>) -> u8 {
    let decided = match decide(config, trace) {
        Ok(decided) => decided,
        Err(why) => {
            eprintln!("{why}");
            return BAD_CONFIGURATION;
        }
    };
    print!("{decided}");
    let Some(expect) = expect else { return 0 };
    let expected = match fs::read_to_string(expect) {
        Ok(expected) => expected,
        Err(error) => {
            eprintln!("cannot read {}: {error}; write what you expect there", expect.display());
            return BAD_CONFIGURATION;
        }
    };
    match first_difference(&decided, &expected) {
        None => 0,
        Some(difference) => {
            eprintln!("{}: {difference}", expect.display());
            DIFFERS
        }
    }
}

/// The first line that differs, if any; comments and white space at the ends of lines do not count.
#[must_use]
pub fn first_difference(decided: &str, expected: &str) -> Option<String> {
    let (mut decided, mut expected) = (meant(decided), meant(expected));
    loop {
        match (decided.next(), expected.next()) {
            (None, None) => return None,
            (Some((_, mine)), Some((_, theirs))) if mine == theirs => {}
            (Some((_, mine)), Some((line, theirs))) => {
                return Some(format!("line {line} differs\n  expected: {theirs}\n  decided:  {mine}"));
            }
            (Some((_, mine)), None) => return Some(format!("not expected\n  decided:  {mine}")),
            (None, Some((line, theirs))) => {
                return Some(format!("line {line} was not decided\n  expected: {theirs}"));
            }
        }
    }
}

fn meant(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_with_its_line() {
        assert_eq!(first_difference("a\nb\n", "# c\n a \n\nb"), None);
        assert!(first_difference("a\nb", "a\nc").unwrap().contains("line 2 differs"));
        assert!(first_difference("a\nb", "a").unwrap().contains("not expected"));
        assert!(first_difference("a", "a\nb").unwrap().contains("was not decided"));
    }
}
