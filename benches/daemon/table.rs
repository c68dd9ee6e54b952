//! One row a figure: what was measured, what it must be, what it should be, and what others need for it.

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Megabytes,
    Percent,
    Times,
    Count,
    Microseconds,
    Milliseconds,
    PerSecond,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Unit::Megabytes => format!("{value:.2} MB"),
            Unit::Percent => format!("{value:.3} %"),
            Unit::Times => format!("{value:.2} x"),
            Unit::Count => format!("{value:.0}"),
            Unit::Microseconds => format!("{value:.1} us"),
            Unit::Milliseconds => format!("{value:.2} ms"),
            Unit::PerSecond => format!("{value:.0} /s"),
        }
    }
}

/// What a figure is held against. Where there is nothing, it is shown for what it is.
#[derive(Clone, Copy, PartialEq)]
pub enum Goal {
    None,
    AtMost { must: f64, aim: Option<f64> },
    AtLeast { must: f64, aim: Option<f64> },
    Between { least: f64, most: f64 },
}

pub struct Row {
    pub figure: String,
    pub value: f64,
    pub unit: Unit,
    pub goal: Goal,
    pub peers: String,
}

impl Row {
    pub fn new(figure: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self { figure: figure.into(), value, unit, goal: Goal::None, peers: String::new() }
    }

    pub fn at_most(self, must: f64, aim: impl Into<Option<f64>>) -> Self {
        Self { goal: Goal::AtMost { must, aim: aim.into() }, ..self }
    }

    pub fn at_least(self, must: f64, aim: impl Into<Option<f64>>) -> Self {
        Self { goal: Goal::AtLeast { must, aim: aim.into() }, ..self }
    }

    pub fn between(self, least: f64, most: f64) -> Self {
        Self { goal: Goal::Between { least, most }, ..self }
    }

    pub fn next_to(self, peers: impl Into<String>) -> Self {
        Self { peers: peers.into(), ..self }
    }

    fn cells(&self) -> [String; 6] {
        let show = |value: f64| self.unit.show(value);
        let (must, aim, reached): (_, _, fn(f64, f64) -> bool) = match self.goal {
            Goal::None => return self.line(String::new(), String::new(), ""),
            Goal::Between { least, most } => {
                let verdict = if (least..=most).contains(&self.value) { "ok" } else { "MISSED" };
                return self.line(format!("{least:.0} to {}", show(most)), String::new(), verdict);
            }
            Goal::AtMost { must, aim } => (must, aim, |value, goal| value <= goal),
            Goal::AtLeast { must, aim } => (must, aim, |value, goal| value >= goal),
        };
        let verdict = match aim {
            _ if !reached(self.value, must) => "MISSED",
            Some(aim) if reached(self.value, aim) => "ok, aim",
            Some(_) | None => "ok",
        };
        self.line(show(must), aim.map(show).unwrap_or_default(), verdict)
    }

    fn line(&self, must: String, aim: String, verdict: &str) -> [String; 6] {
        [self.figure.clone(), self.unit.show(self.value), must, aim, verdict.to_owned(), self.peers.clone()]
    }
}

#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    pub fn add(&mut self, rows: Vec<Row>) {
        self.0.extend(rows);
    }

    pub fn print(&self) {
        let head = ["figure", "measured", "must", "aim", "", "next to"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(self.0.iter().map(Row::cells)).collect();
        let widths: [usize; 6] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        println!();
        for row in &rows {
            let [figure, measured, must, aim, verdict, peers] = row;
            let [w0, w1, w2, w3, w4, _] = widths;
            let line = format!("{figure:<w0$}  {measured:>w1$}  {must:>w2$}  {aim:>w3$}  {verdict:<w4$}  {peers}");
            println!("{}", line.trim_end());
        }
    }
}

/// The smallest value that at least this share of the values does not exceed.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
