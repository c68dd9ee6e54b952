//! The text that Prometheus scrapes, in both of its dialects: 0.0.4 and OpenMetrics 1.0. Writing only; what a family
//! means is known elsewhere.

use std::fmt::Write;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    #[must_use]
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a scraper that sends this `Accept` wants.
    #[must_use]
    pub(crate) fn accepted(accept: &str) -> Format {
        let best = |wanted: &str| accept.split(',').map(|range| quality(range, wanted)).fold(0.0, f32::max);
        let open = best("application/openmetrics-text");
        if open > 0.0 && open >= best("text/plain") { Format::OpenMetrics } else { Format::Prometheus }
    }
}

/// `text/plain;version=0.0.4;q=0.3`
fn quality(range: &str, wanted: &str) -> f32 {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next().is_some_and(|media| media.eq_ignore_ascii_case(wanted)) {
        return 0.0;
    }
    parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Constant 1 with labels that say something; its name ends in `_info`.
    Info,
}

#[derive(Clone, Copy, Debug)]
pub struct Family<'a> {
    /// As it is sampled: counters with `_total`.
    pub name: &'a str,
    pub kind: Kind,
    pub help: &'a str,
}

#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    None,
    Pairs(&'a [(&'a str, &'a str)]),
    /// By [`render_labels`].
    Rendered(&'a str),
}

#[derive(Debug)]
pub struct Exposition {
    format: Format,
    text: String,
}

/// Units that a name may end with.
const UNITS: [&str; 4] = ["bytes_per_second", "seconds", "bytes", "ratio"];

impl Exposition {
    #[must_use]
    pub fn new(format: Format) -> Self {
        // A scrape with the built-in rules and three disks is about 25 kB.
        Self { format, text: String::with_capacity(32 * 1024) }
    }

    pub fn family(&mut self, family: &Family<'_>) {
        let (name, kind) = match (self.format, family.kind) {
            (Format::Prometheus, Kind::Counter) => (family.name, "counter"),
            (Format::OpenMetrics, Kind::Counter) => (stem(family.name, "_total"), "counter"),
            (Format::Prometheus | Format::OpenMetrics, Kind::Gauge) => (family.name, "gauge"),
            (Format::Prometheus | Format::OpenMetrics, Kind::Histogram) => (family.name, "histogram"),
            (Format::Prometheus, Kind::Info) => (family.name, "gauge"),
            (Format::OpenMetrics, Kind::Info) => (stem(family.name, "_info"), "info"),
        };
        self.push(&["# HELP ", name, " "]);
        let quotes = if self.format == Format::OpenMetrics { Quotes::Escaped } else { Quotes::Plain };
        escape(&mut self.text, family.help, quotes);
        self.push(&["\n# TYPE ", name, " ", kind, "\n"]);
        if self.format == Format::OpenMetrics
            && let Some(unit) = UNITS.iter().find(|unit| stem(name, unit).ends_with('_'))
        {
            self.push(&["# UNIT ", name, " ", unit, "\n"]);
        }
    }

    pub fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        self.text.push_str(name);
        match labels {
            Labels::None | Labels::Rendered("") | Labels::Pairs([]) => {}
            Labels::Rendered(rendered) => self.push(&["{", rendered, "}"]),
            Labels::Pairs(pairs) => {
                self.text.push('{');
                write_labels(&mut self.text, pairs.iter().copied());
                self.text.push('}');
            }
        }
        self.text.push(' ');
        self.number(value);
        self.text.push('\n');
    }

    pub(crate) fn bucket(&mut self, name: &str, labels: &str, bound: f64, below: u64) {
        let comma = if labels.is_empty() { "" } else { "," };
        self.push(&[name, "_bucket{", labels, comma, "le=\""]);
        if bound.is_infinite() {
            self.text.push_str("+Inf");
        } else {
            self.write(format_args!("{bound:?}"));
        }
        self.write(format_args!("\"}} {below}\n"));
    }

    pub(crate) fn totals(&mut self, name: &str, labels: &str, sum: f64, count: u64) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        self.push(&[name, "_sum", open, labels, close, " "]);
        self.number(sum);
        self.push(&["\n", name, "_count", open, labels, close]);
        self.write(format_args!(" {count}\n"));
    }

    #[must_use]
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn number(&mut self, value: f64) {
        if value.is_nan() {
            self.text.push_str("NaN");
        } else if value.is_infinite() {
            self.text.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
        } else {
            // A sum of nothing is -0.0.
            let value = value + 0.0;
            self.write(format_args!("{value}"));
        }
    }

    fn push(&mut self, parts: &[&str]) {
        for part in parts {
            self.text.push_str(part);
        }
    }

    fn write(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.text.write_fmt(arguments).ok();
    }
}

#[must_use]
pub(crate) fn render_labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    write_labels(&mut text, labels);
    text
}

fn write_labels<'a>(text: &mut String, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    for (index, (name, value)) in labels.enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        escape(text, value, Quotes::Escaped);
        text.push('"');
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Plain,
    Escaped,
}

fn escape(text: &mut String, value: &str, quotes: Quotes) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes == Quotes::Escaped => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

fn stem<'a>(name: &'a str, suffix: &str) -> &'a str {
    name.strip_suffix(suffix).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_the_dialect_that_it_likes_best() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("text/plain, application/openmetrics-text;q=0.2"), Format::Prometheus);
        assert_eq!(Format::accepted("application/openmetrics-text;q=0"), Format::Prometheus);
        for accept in ["", "*/*", ";;;,,q=", "text/html"] {
            assert_eq!(Format::accepted(accept), Format::Prometheus);
        }
    }

    #[test]
    fn numbers_are_written_as_the_format_wants_them() {
        let mut out = Exposition::new(Format::Prometheus);
        for value in [1.0, 0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            out.sample("x", Labels::None, value);
        }
        assert_eq!(out.finish(), "x 1\nx 0.5\nx NaN\nx +Inf\nx -Inf\n");
    }
}
