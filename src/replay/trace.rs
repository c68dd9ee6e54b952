//! The text of a scenario: one moment a line, readings that stay until the next line changes them.
//!
//! ```text
//! # Comments and blank lines are passed over.
//! every 1s                                  the policy is asked this often between the lines; without it, at each line
//! 0s   memory.available_percent=40% disk["/var"].used_percent=50%
//! 10s  memory.available_percent=?           what could not be read
//! 12s  answer edge throttle refused         from now on; also `answer edge throttle undo timed_out`
//! 20s  undo                                 an operator's `node-guardian undo`
//! 30s  asleep                               suspended or stopped: nothing is sampled until the next line
//! 60s  stop                                 SIGTERM
//! ```

use std::time::Duration;

use crate::policy::condition::{Operand, operand};
use crate::policy::metric::{Family, Metric};
use crate::policy::mitigation::{Answered, Mitigation, Outcome, Verb};
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;
use crate::policy::unit::{Quantity, Suffix, Unit};

#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub every: Option<Duration>,
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub at: Moment,
    pub happening: Happening,
}

#[derive(Clone, Debug)]
pub enum Happening {
    Readings(Vec<Reading>),
    Answer(Answer),
    /// Nothing is sampled until the next line.
    Asleep,
    Undo,
    Stop,
}

#[derive(Clone, Debug)]
pub struct Reading {
    metric: Metric,
    instance: Option<String>,
    value: Option<f64>,
}

/// What a control answers from some moment on.
#[derive(Clone, Debug)]
pub struct Answer {
    control: String,
    verb: Verb,
    /// `None`: to every command.
    command: Option<Answered>,
    pub outcome: Outcome,
}

/// A line that cannot be meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    pub line: usize,
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.line, self.message)
    }
}

impl Trace {
    /// # Errors
    /// Every line that cannot be meant.
    pub fn parse(text: &str) -> Result<Trace, Vec<Mistake>> {
        let mut trace = Trace::default();
        let mut mistakes = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(message) = trace.read(line) {
                mistakes.push(Mistake { line: number + 1, message });
            }
        }
        if mistakes.is_empty() { Ok(trace) } else { Err(mistakes) }
    }

    /// Every metric that it ever has a reading of, or says cannot be read.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> + '_ {
        let readings = self.lines.iter().filter_map(|line| match &line.happening {
            Happening::Readings(readings) => Some(readings),
            Happening::Answer(_) | Happening::Asleep | Happening::Undo | Happening::Stop => None,
        });
        readings.flatten().map(|reading| reading.metric)
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if first == "every" {
            self.every = Some(duration(rest.trim())?).filter(|every| !every.is_zero());
            return Ok(());
        }
        let at = Moment::at(duration(first)?);
        if self.lines.last().is_some_and(|last| at < last.at) {
            return Err(format!("{first} is earlier than the line before it; put the lines in the order of time"));
        }
        let happening = happening(rest.trim())?;
        self.lines.push(Line { at, happening });
        Ok(())
    }
}

fn happening(text: &str) -> Result<Happening, String> {
    match words(text).as_slice() {
        ["asleep"] => Ok(Happening::Asleep),
        ["undo"] => Ok(Happening::Undo),
        ["stop"] => Ok(Happening::Stop),
        ["answer", control, verb, rest @ ..] => answer(control, verb, rest).map(Happening::Answer),
        readings => readings.iter().map(|word| reading(word)).collect::<Result<_, _>>().map(Happening::Readings),
    }
}

/// Split at white space outside of quotes, so that a mount may have a space in it.
fn words(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let parts = text.split(move |c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    parts.filter(|part| !part.is_empty()).collect()
}

fn answer(control: &str, verb: &str, rest: &[&str]) -> Result<Answer, String> {
    let known = Verb::ALL.into_iter().find(|known| known.name() == verb);
    let verb = known.ok_or_else(|| format!("{verb} is not a verb; try {}", names(Verb::ALL.map(Verb::name))))?;
    let (command, outcome) = match rest {
        [outcome] => (None, *outcome),
        ["apply", outcome] => (Some(Answered::Apply), *outcome),
        ["verify", outcome] => (Some(Answered::Verify), *outcome),
        ["undo", outcome] => (Some(Answered::Undo), *outcome),
        _ => return Err("write `answer CONTROL VERB [apply|verify|undo] OUTCOME`".to_owned()),
    };
    let known = Outcome::ALL.into_iter().find(|known| known.name() == outcome);
    let outcome =
        known.ok_or_else(|| format!("{outcome} is not an outcome; try {}", names(Outcome::ALL.map(Outcome::name))))?;
    Ok(Answer { control: control.to_owned(), verb, command, outcome })
}

fn names<const N: usize>(names: [&str; N]) -> String {
    names.join(", ")
}

fn reading(word: &str) -> Result<Reading, String> {
    let Some((name, value)) = word.rsplit_once('=') else {
        return Err(format!("`{word}` is neither METRIC=VALUE nor undo, stop, asleep, answer or every"));
    };
    let Operand { metric, selector, .. } =
        operand(name).map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    if metric.family() != Family::Node && selector.is_none() {
        return Err(format!("{name} needs the instance that was read, as in {}[\"…\"]", metric.family().prefix()));
    }
    Ok(Reading { metric, instance: selector, value: value_of(value, metric.unit())? })
}

/// With the metric's unit or as a plain number in its base unit; `?` where nothing was read.
fn value_of(text: &str, unit: Unit) -> Result<Option<f64>, String> {
    match text {
        "?" => return Ok(None),
        "true" => return Ok(Some(1.0)),
        "false" => return Ok(Some(0.0)),
        _ => {}
    }
    let plain = |quantity: Quantity| (quantity.suffix == Suffix::None).then_some(quantity.value);
    let quantity = Quantity::parse(text);
    let value = quantity.and_then(|quantity| quantity.fits(unit).or_else(|| plain(quantity)));
    value.map(Some).ok_or_else(|| format!("{text} is not {}", unit.example()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let quantity = Quantity::parse(text).and_then(Quantity::duration);
    quantity.ok_or_else(|| format!("`{text}` is not a time since the start, such as 12.5s"))
}

impl Reading {
    pub fn put(&self, sample: &mut Sample) {
        let family = self.metric.family();
        let Some(instance) = &self.instance else { return sample.set(self.metric, self.value) };
        let row = sample.row(family, instance).unwrap_or_else(|| {
            let mut names = sample.instances(family).to_vec();
            names.push(instance.clone());
            sample.set_instances(family, &names);
            names.len() - 1
        });
        sample.set_instance(self.metric, row, self.value);
    }
}

impl Answer {
    #[must_use]
    pub fn same_place(&self, other: &Answer) -> bool {
        self.control == other.control && self.verb == other.verb && self.command == other.command
    }

    #[must_use]
    pub fn is_for(&self, mitigation: &Mitigation, answered: Answered) -> bool {
        *self.control == *mitigation.control
            && self.verb == mitigation.verb
            && self.command.is_none_or(|command| command == answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_reads_as_it_is_written() {
        let trace = Trace::parse(
            "# c\nevery 500ms\n0s memory.available_percent=40% disk[\"/var lib\"].used_percent=5\n\
             1.5s memory.available_percent=?\n2s answer edge throttle undo timed_out\n3s undo\n4s stop\n",
        )
        .unwrap();
        assert_eq!(trace.every, Some(Duration::from_millis(500)));
        assert_eq!(trace.lines.len(), 5);
        let mut sample = Sample::default();
        let Happening::Readings(readings) = &trace.lines[0].happening else { panic!("readings first") };
        readings.iter().for_each(|reading| reading.put(&mut sample));
        assert_eq!(sample.get(Metric::MemoryAvailablePercent), Some(40.0));
        assert_eq!(sample.get(Metric::DiskUsedPercent), Some(5.0));
    }

    #[test]
    fn every_bad_line_is_named() {
        let mistakes = Trace::parse("5s memory.free=1\n4s cpu.used_percent=x\n3s\n2s stop\nnow stop").unwrap_err();
        let lines: Vec<usize> = mistakes.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [1, 2, 4, 5]);
    }
}
