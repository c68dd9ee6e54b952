//! `explain`: per rule the last verdict with its numbers, what it waits for, its ladder with the measured effects.

use std::fmt::Write;

use serde::Deserialize;

use super::client::{Client, Failure};
use super::paint::{Paint, Tone, duration, wrapped};
use super::{ExplainArgs, print};

/// As `policy::explain` writes them; unknown fields are ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Explained {
    name: String,
    severity: String,
    priority: i32,
    state: String,
    state_seconds: f64,
    waits_for: String,
    when: Condition,
    clear: Condition,
    steps: Vec<Step>,
    fired: u64,
    dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    text: String,
    verdict: String,
    comparisons: Vec<Comparison>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Comparison {
    text: String,
    shown: String,
    verdict: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    text: String,
    class: String,
    together: bool,
    state: String,
    detail: String,
    effect_text: String,
}

#[derive(Debug, Default, Deserialize)]
struct All {
    rules: Vec<Explained>,
}

pub fn run(args: &ExplainArgs) -> u8 {
    match ask(args) {
        Ok(text) => {
            print(&text);
            0
        }
        Err(failure) => failure.complain(),
    }
}

fn ask(args: &ExplainArgs) -> Result<String, Failure> {
    let client = Client::new(&args.reach)?;
    let path = match &args.rule {
        Some(rule) => format!("/rules/{}", encoded(rule)),
        None => "/rules".to_owned(),
    };
    if args.json {
        return client.get::<serde_json::Value>(&path).map(|value| format!("{value}\n"));
    }
    let rules = match &args.rule {
        Some(_) => vec![client.get(&path)?],
        None => client.get::<All>(&path)?.rules,
    };
    let paint = Paint::of_stdout();
    Ok(rules.iter().map(|rule| render(rule, paint)).collect::<Vec<_>>().join("\n"))
}

/// Whatever is typed stays one segment of the path.
fn encoded(name: &str) -> String {
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").ok();
        }
        text
    })
}

fn render(rule: &Explained, paint: Paint) -> String {
    let mut text = String::new();
    let dry = if rule.dry_run { ", dry run" } else { "" };
    let name = paint.paint(Tone::Heading, &rule.name);
    let (state, since) = (paint.paint(tone(&rule.state), &rule.state), duration(rule.state_seconds));
    let fired = match rule.fired {
        0 => "never fired".to_owned(),
        1 => "fired once".to_owned(),
        times => format!("fired {times} times"),
    };
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("{name} ({}, priority {}{dry}): {state} for {since}, {fired}", rule.severity, rule.priority));
    for part in wrapped(&rule.waits_for, 72) {
        line(format!("  {part}"));
    }
    for (label, condition) in [("when", &rule.when), ("clear", &rule.clear)] {
        line(format!("  {label:<6}{:<8} {}", condition.verdict, condition.text));
        for comparison in &condition.comparisons {
            line(format!("          {:<8} {}, now {}", comparison.verdict, comparison.text, comparison.shown));
        }
    }
    for (index, step) in rule.steps.iter().enumerate() {
        let label = if index == 0 { "steps" } else { "" };
        let together = if step.together { "at once with the next" } else { "" }.to_owned();
        let parts = [step.class.clone(), together, step.effect_text.clone(), step.detail.clone()].into_iter();
        let detail: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        line(format!("  {label:<6}{}. {:<9} {}", index + 1, step.state.replace('_', " "), step.text));
        for part in wrapped(&detail.join("; "), 59) {
            line(format!("{:21}{part}", ""));
        }
    }
    text
}

fn tone(state: &str) -> Tone {
    match state {
        "firing" => Tone::Bad,
        "quiet" => Tone::Good,
        _ => Tone::Uneasy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_explained_from_its_state_down_to_its_last_step() {
        let json = serde_json::json!({
            "name": "memory-critical", "severity": "emergency", "priority": 100, "state": "firing",
            "state_seconds": 42.0, "waits_for": "step 1 is judged in 1.2s", "fired": 2, "dry_run": false,
            "when": {"text": "memory.available_percent < 8%", "verdict": "true", "comparisons":
                [{"text": "memory.available_percent < 8.0%", "value": 7.1, "shown": "7.1%", "verdict": "true"}]},
            "clear": {"text": "memory.available_percent > 15%", "verdict": "false", "comparisons": []},
            "steps": [{"text": "throttle edge to 50%", "class": "reversible", "together": true, "state": "in_force", "detail": "applied", "effect": 0.4, "effect_text": "closed 40% of the gap"},
                {"text": "flush cache", "class": "lossy", "together": false, "state": "skipped", "detail": "needs level aggressive", "effect": null, "effect_text": ""}],
        });
        let rule: Explained = serde_json::from_value(json).unwrap();
        let expected = "\
memory-critical (emergency, priority 100): firing for 42s, fired 2 times
  step 1 is judged in 1.2s
  when  true     memory.available_percent < 8%
          true     memory.available_percent < 8.0%, now 7.1%
  clear false    memory.available_percent > 15%
  steps 1. in force  throttle edge to 50%
                     reversible; at once with the next; closed 40% of the gap;
                     applied
        2. skipped   flush cache
                     lossy; needs level aggressive
";
        assert_eq!(render(&rule, Paint::Plain), expected);
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(encoded("a-b_c.d"), "a-b_c.d");
        assert_eq!(encoded("a/../b ?é"), "a%2F..%2Fb%20%3F%C3%A9");
    }
}
