//! `status`: what somebody who was woken at three needs first, in 80 columns: how it is, what was done about it and why,
//! how much room is left where, and what every rule is up to.

use std::fmt::Write;
use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use super::client::{Client, Failure};
use super::paint::{Paint, Tone, WIDTH, duration, wrapped};
use super::{StatusArgs, code, print};
use crate::clock;
use crate::http::shape::{Action, Headroom, Nearest, Rule, Status};
use crate::status::ControlState;

const AGAIN: Duration = Duration::from_secs(1);
/// Up to the beginning, and clear what is below.
const HOME: &str = "\x1b[H\x1b[J";
/// What a read-back says that found nothing new.
const STILL: &str = "still in force";
/// A daemon that published nothing for so long is stuck, whatever its pace.
const STALE: f64 = 5.0;

pub fn run(args: &StatusArgs) -> u8 {
    let client = match Client::new(&args.reach) {
        Ok(client) => client,
        Err(failure) => return failure.complain(),
    };
    if args.alive {
        return client.probe("/livez").map_or_else(|failure| failure.complain(), |()| 0);
    }
    loop {
        let code = match show(&client, args) {
            Ok((code, Reader::Listens)) => code,
            Ok((code, Reader::Gone)) => return code,
            Err(failure) => failure.complain(),
        };
        if !args.watch {
            return code;
        }
        thread::sleep(AGAIN);
    }
}

/// Whoever reads our output, `head` for one, may have enough of it.
enum Reader {
    Listens,
    Gone,
}

fn show(client: &Client, args: &StatusArgs) -> Result<(u8, Reader), Failure> {
    let (code, mut text) = if args.json {
        let json: serde_json::Value = client.get("/status")?;
        let known: Status = serde_json::from_value(json.clone()).unwrap_or_default();
        (exit_code(&known), format!("{json}\n"))
    } else {
        let status: Status = client.get("/status")?;
        let detail = if args.all { Detail::All } else { Detail::Usual };
        let age = clock::unix_ms().saturating_sub(status.sampled_unix_ms);
        (exit_code(&status), render(&status, Duration::from_millis(age), Paint::of_stdout(), detail))
    };
    if args.watch && !args.json && std::io::stdout().is_terminal() {
        text.insert_str(0, HOME);
    }
    Ok((code, if print(&text) { Reader::Listens } else { Reader::Gone }))
}

fn exit_code(status: &Status) -> u8 {
    match (status.mode.as_str(), status.attention.is_empty()) {
        ("normal", true) => 0,
        ("normal", false) => code::ATTENTION,
        _ => code::NOT_WELL,
    }
}

fn render(status: &Status, age: Duration, paint: Paint, detail: Detail) -> String {
    let mut page = Page { text: String::new(), paint, detail };
    page.title(status, age.as_secs_f64());
    page.in_force(&status.in_force);
    page.headroom(status);
    page.rules(&status.rules);
    page.controls(status);
    page.blind_spots(status);
    page.text
}

struct Page {
    text: String,
    paint: Paint,
    detail: Detail,
}

/// How much is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Usual,
    /// What can never happen here, too.
    All,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.text.write_fmt(line).ok();
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
    }

    fn heading(&mut self, name: &str) {
        let name = self.paint.paint(Tone::Heading, name);
        self.line(format_args!("\n{name}"));
    }

    /// A text of any length after a margin, folded below itself.
    fn folded(&mut self, margin: usize, text: &str) {
        for line in wrapped(text, WIDTH - margin) {
            self.line(format_args!("{:margin$}{line}", ""));
        }
    }

    fn title(&mut self, status: &Status, age: f64) {
        let tone = match status.mode.as_str() {
            "normal" => Tone::Good,
            "emergency" => Tone::Bad,
            _ => Tone::Uneasy,
        };
        let mode = self.paint.paint(tone, &status.mode.to_uppercase());
        let host = if status.host.is_empty() { String::new() } else { format!("{}: ", status.host) };
        let held = counted(&status.in_force);
        self.line(format_args!("{host}{mode} for {}{held}", duration(status.mode_seconds)));
        for notice in &status.notices {
            let notice = wrapped(notice, WIDTH - 2).join("\n  ");
            let notice = self.paint.paint(Tone::Bad, &notice);
            self.line(format_args!("! {notice}"));
        }
        if !status.because.is_empty() {
            self.folded(2, &format!("because of {}", status.because.join(", ")));
        }
        if let Some(hold) = status.hold_seconds.filter(|hold| *hold > 0.0 && status.mode == "emergency") {
            self.folded(2, &format!("stays for another {} at least", duration(hold)));
        }
        let dry = if status.dry_run { ", dry run: nothing is changed" } else { "" };
        let facts =
            format!("version {}, level {}{dry}, up {}", status.version, status.level, duration(status.uptime_seconds));
        let facts = self.paint.paint(Tone::Faint, &facts);
        self.line(format_args!("{facts}"));
        // On a node that needs no words.
        if let Some(standing) = status.facts["standing"].as_str().filter(|_| !status.facts["container"].is_null()) {
            let told = wrapped(&format!("using {standing}"), WIDTH - 2).join("\n  ");
            self.line(format_args!("{told}"));
        }
        if status.tick == 0 {
            self.line(format_args!("no sample yet"));
        } else if age > STALE.max(3.0 * status.pace_seconds) {
            let told = format!("the last sample is {} old: is the daemon stuck?", duration(age));
            let told = self.paint.paint(Tone::Bad, &told);
            self.line(format_args!("{told}"));
        }
    }

    fn in_force(&mut self, actions: &[Action]) {
        self.heading("IN FORCE");
        if actions.is_empty() {
            self.line(format_args!("  nothing"));
        }
        for action in actions {
            let phase = match action.phase.as_str() {
                "in_force" => String::new(),
                other => format!(" ({})", other.replace('_', " ")),
            };
            let tone = if matches!(action.phase.as_str(), "owed" | "in_doubt") { Tone::Bad } else { Tone::Uneasy };
            let loosened =
                action.loosened.as_ref().map(|from_to| format!(", loosening: {from_to}")).unwrap_or_default();
            let what = self.paint.paint(tone, &format!("{}{loosened}{phase}", action.text));
            self.line(format_args!("  #{} {what} for {}", action.id, duration(action.seconds)));
            let retry = action.next_try_seconds.map(|left| format!("; next try in {}", duration(left)));
            let mut why = vec![format!("rule {}", action.rule)];
            let is_calm = action.phase == "in_force" && !action.changed.is_empty() && action.detail == STILL;
            let trouble = Some(&action.detail).filter(|_| !is_calm);
            why.extend([Some(&action.changed), trouble].into_iter().flatten().filter(|part| !part.is_empty()).cloned());
            why.dedup();
            why.extend(Some(&action.effect_text).filter(|text| !text.is_empty()).cloned());
            self.folded(6, &format!("{}{}", why.join(": "), retry.unwrap_or_default()));
        }
    }

    fn headroom(&mut self, status: &Status) {
        self.heading("HEADROOM");
        for line in status.headroom.iter().filter(|line| line.value.is_some()) {
            self.headroom_line(line);
        }
        for (resource, left) in &status.exhaustion_seconds {
            self.line(format_args!("  {resource} runs out in {} at its present trend", duration(*left)));
        }
        for (resource, hint) in status.scale_hints.iter().filter(|(_, hint)| **hint != 0) {
            let more = if *hint > 0 { "more" } else { "less" };
            self.line(format_args!("  scale hint: {more} {resource}"));
        }
    }

    fn headroom_line(&mut self, line: &Headroom) {
        let name = match &line.instance {
            Some(instance) => line.metric.replacen('.', &format!("[{}].", tail(instance, 12)), 1),
            None => line.metric.clone(),
        };
        let room = line.nearest.as_ref().map_or_else(String::new, |nearest| room(nearest, &line.state));
        let room = head(&room, WIDTH - 47);
        let (mark, tone) = match line.state.as_str() {
            "beyond" => ("!", Tone::Bad),
            "near" => ("~", Tone::Uneasy),
            _ => (" ", Tone::Good),
        };
        let mark = self.paint.paint(tone, mark);
        let name = head(&name, 32);
        self.line(format_args!("{mark} {name:<32} {:>9}  {room}", line.shown));
    }

    fn rules(&mut self, rules: &[Rule]) {
        self.heading("RULES");
        let any = !rules.is_empty();
        let (absent, rules): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.state == "not_applicable");
        let (quiet, active): (Vec<&Rule>, Vec<&Rule>) = rules.into_iter().partition(|rule| rule.state == "quiet");
        for rule in active {
            let tone = match (rule.state.as_str(), rule.severity.as_str()) {
                ("firing", "emergency") => Tone::Bad,
                ("cooling", _) => Tone::Faint,
                _ => Tone::Uneasy,
            };
            let state = self.paint.paint(tone, &format!("{:<9}", rule.state));
            let ladder =
                if rule.steps == 0 { String::new() } else { format!("step {}/{}", rule.steps_taken, rule.steps) };
            let dry = if rule.dry_run { " dry run" } else { "" };
            let (name, since) = (head(&rule.name, 32), duration(rule.seconds));
            self.line(format_args!("  {name:<32} {state} {since:>8}  {ladder}{dry}"));
            self.folded(6, &rule.waits_for);
        }
        let names = |rules: &[&Rule]| rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(", ");
        if !any {
            self.line(format_args!("  none"));
        }
        if !quiet.is_empty() {
            self.folded(2, &format!("quiet: {}", names(&quiet)));
        }
        if self.detail == Detail::All && !absent.is_empty() {
            self.folded(2, &format!("not applicable, since this node has none of it: {}", names(&absent)));
        }
    }

    fn controls(&mut self, status: &Status) {
        if status.controls.is_empty() {
            return;
        }
        self.heading("CONTROLS");
        for control in &status.controls {
            let fine = control.state == ControlState::Usable.name();
            let (state, tone) = if fine { ("ready", Tone::Good) } else { (control.state.as_str(), Tone::Bad) };
            let state = self.paint.paint(tone, state);
            self.line(format_args!("  {} ({}): {state}", control.name, control.kind));
            self.folded(6, &control.detail);
        }
    }

    fn blind_spots(&mut self, status: &Status) {
        if status.blind_spots.is_empty() {
            return;
        }
        self.heading("BLIND SPOTS");
        for spot in &status.blind_spots {
            self.line(format_args!("  {}", spot.what));
            self.folded(6, &spot.why);
        }
    }
}

/// `, 2 in force, 1 owed`
fn counted(actions: &[Action]) -> String {
    let (owed, held): (Vec<&Action>, Vec<&Action>) =
        actions.iter().partition(|action| matches!(action.phase.as_str(), "owed" | "in_doubt"));
    let count = |actions: &[&Action], what: &str| match actions.len() {
        0 => String::new(),
        count => format!(", {count} {what}"),
    };
    count(&held, "in force") + &count(&owed, "owed")
}

/// `69.0% below 90.0% disk-high`, `beyond 95.0% avg 10s cpu-emergency`.
fn room(nearest: &Nearest, state: &str) -> String {
    let (relation, limit) = nearest.text.split_once(' ').unwrap_or(("", &nearest.text));
    let side = if relation.starts_with('<') { "above" } else { "below" };
    let room = if state == "beyond" { "beyond".to_owned() } else { format!("{} {side}", nearest.room_shown) };
    let over = nearest.over.as_ref().map(|over| format!(" {over}")).unwrap_or_default();
    format!("{room} {limit}{over} {}", nearest.rule)
}

fn head(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.to_owned() } else { text.chars().take(most - 1).chain(['~']).collect() }
}

/// The end of a path says more than its beginning.
fn tail(text: &str, most: usize) -> String {
    let length = text.chars().count();
    if length <= most {
        text.to_owned()
    } else {
        ['~'].into_iter().chain(text.chars().skip(length + 1 - most)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::shape::{BlindSpot, Control};
    use crate::policy::unit::Unit;

    fn troubled() -> Status {
        let nearest = Nearest {
            rule: "memory-critical".into(),
            text: "< 8.0%".into(),
            room_shown: Unit::Percent.show(-0.9).to_string(),
            ..Nearest::default()
        };
        let memory = Headroom {
            metric: "memory.available_percent".into(),
            value: Some(7.1),
            shown: "7.1%".into(),
            state: "beyond".into(),
            nearest: Some(nearest.clone()),
            ..Headroom::default()
        };
        let disk = Headroom {
            metric: "disk.used_percent".into(),
            instance: Some("/var/lib/containers/storage/overlay".into()),
            state: "ok".into(),
            nearest: Some(Nearest {
                room_shown: "29.0%".into(),
                rule: "a-rule-with-a-very-long-name".into(),
                ..nearest
            }),
            ..memory.clone()
        };
        let rule = |name: &str, state: &str| Rule {
            name: name.into(),
            severity: "emergency".into(),
            state: state.into(),
            seconds: 42.0,
            waits_for: "step 1 is judged in 1.2s".into(),
            steps_taken: 1,
            steps: 3,
            ..Rule::default()
        };
        Status {
            version: "0.1.0".into(),
            host: "web-3".into(),
            mode: "emergency".into(),
            mode_seconds: 42.4,
            because: vec!["memory-critical".into()],
            hold_seconds: Some(5.0),
            level: "standard".into(),
            tick: 9,
            in_force: vec![Action {
                id: 7,
                text: "throttle edge to 50%".into(),
                rule: "memory-critical".into(),
                phase: "owed".into(),
                seconds: 31.0,
                detail: "cannot connect to /run/haproxy/admin.sock: connection refused; is haproxy running?".into(),
                next_try_seconds: Some(2.0),
                ..Action::default()
            }],
            headroom: vec![memory, disk],
            rules: vec![rule("memory-critical", "firing"), rule("cpu-high", "quiet"), rule("disk-full", "quiet")],
            controls: vec![Control {
                name: "edge".into(),
                kind: "haproxy".into(),
                state: "refused".into(),
                ..Control::default()
            }],
            blind_spots: vec![BlindSpot { what: "/proc/pressure".into(), why: "this kernel has no PSI ".repeat(6) }],
            exhaustion_seconds: [("memory".to_owned(), 95.0)].into(),
            scale_hints: [("cpu".to_owned(), 0), ("memory".to_owned(), 1)].into(),
            facts: serde_json::json!({
                "container": "Podman",
                "standing": "the container's limits (memory 512.0MiB, 1.5 CPUs), in a container (Podman): it also runs \
                             other processes",
            }),
            ..Status::default()
        }
    }

    #[test]
    fn the_page_fits_a_terminal_and_says_the_worst_first() {
        let page = render(&troubled(), Duration::from_millis(20), Paint::Plain, Detail::Usual);
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
        assert!(page.starts_with("web-3: EMERGENCY for 42s, 1 owed\n  because of memory-critical\n"), "{page}");
        for line in [
            "using the container's limits (memory 512.0MiB, 1.5 CPUs), in a container",
            "  #7 throttle edge to 50% (owed) for 31s",
            "! memory.available_percent              7.1%  beyond 8.0% memory-critical",
            "  memory runs out in 1m 35s at its present trend",
            "  scale hint: more memory",
            "  memory-critical                  firing         42s  step 1/3",
            "      step 1 is judged in 1.2s",
            "  quiet: cpu-high, disk-full",
            "  edge (haproxy): refused",
        ] {
            assert!(page.lines().any(|known| known == line), "no {line:?} in\n{page}");
        }
        assert!(!page.contains('\x1b'));
    }

    #[test]
    fn what_an_operator_should_know_comes_first_and_by_the_exit_code() {
        let mut status = Status { mode: "normal".into(), ..Status::default() };
        assert_eq!(exit_code(&status), 0);
        status.attention = vec!["paused".into()];
        status.notices = vec!["paused by uid 0 (root) for another 12 minutes: nothing new is done ".repeat(2)];
        let page = render(&status, Duration::ZERO, Paint::Plain, Detail::Usual);
        assert!(page.lines().nth(1).unwrap().starts_with("! paused by uid 0 (root) for another"), "{page}");
        assert!(page.lines().nth(2).unwrap().starts_with("  ") && page.lines().all(|l| l.chars().count() <= WIDTH));
        assert_eq!(exit_code(&status), 3);
        status.mode = "emergency".into();
        assert_eq!(exit_code(&status), 1);
    }

    #[test]
    fn an_old_sample_is_not_passed_off_as_the_present() {
        let page = render(&troubled(), Duration::from_secs(90), Paint::Plain, Detail::Usual);
        assert!(page.contains("the last sample is 1m 30s old: is the daemon stuck?"), "{page}");
        let page = render(&Status::default(), Duration::ZERO, Paint::Colour, Detail::Usual);
        assert!(page.contains("no sample yet") && page.contains("\x1b[1mIN FORCE\x1b[0m"), "{page}");
    }
}
