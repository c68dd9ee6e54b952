//! How often a step that does nothing is told as one with an effect on real series, and how often one that bends the curve
//! is seen. `cargo bench --bench effect -- FOLDER [SECONDS]`: CSV files with a header and the value in the second column,
//! one reading every SECONDS (1 by default, whatever it was in truth: what is asked is only how readings hang together).

use std::path::Path;
use std::time::Duration;

use node_guardian::policy::effect::{Effect, LEAST_SHARE, Question};
use node_guardian::policy::moment::Moment;
use node_guardian::policy::past::Past;

const SETTLES: [f64; 5] = [2.0, 3.0, 5.0, 10.0, 15.0];
/// The thresholds are these quantiles of a series.
const QUANTILES: [f64; 4] = [0.5, 0.75, 0.9, 0.95];
/// Steps per series, direction and threshold.
const STEPS: usize = 40;
/// A rule fires when its condition has held for so long.
const HOLD: f64 = 2.0;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(folder) = args.next() else { return println!("effect: no folder of series is named; nothing to do") };
    let pace = args.next().map_or(1.0, |seconds| seconds.parse().expect("seconds between readings"));
    let series = read(Path::new(&folder));
    println!("{} series, a reading every {pace} s; told as: helped, worse, useless, not distinguishable", series.len());
    for settle in SETTLES {
        let mut tally = Tallies::default();
        for values in &series {
            for sign in [1.0, -1.0] {
                Place { values, sign, pace, settle, span: (settle / pace).round() as usize }.try_all(&mut tally);
            }
        }
        println!("settle {settle} s");
        tally.nothing_anywhere.show("does nothing, at any moment");
        tally.nothing_firing.show("does nothing, when a rule fires");
        tally.closes_gap.show("closes the gap, when a rule fires");
        tally.halves.show("takes half of the range, at any moment");
        tally.stops_rise.show("stops a rise of 0.2..1.6/s, spread 0.3");
        tally.stops_quiet_rise.show("stops a rise of 0.2..1.6/s, spread 0.05");
    }
}

fn read(folder: &Path) -> Vec<Vec<f64>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let csv = paths.iter().filter(|path| path.extension().is_some_and(|ending| ending == "csv"));
    let value = |line: &str| line.split(',').nth(1)?.parse().ok();
    csv.map(|path| std::fs::read_to_string(path).unwrap().lines().skip(1).filter_map(value).collect()).collect()
}

#[derive(Default)]
struct Tallies {
    nothing_anywhere: Tally,
    nothing_firing: Tally,
    closes_gap: Tally,
    halves: Tally,
    stops_rise: Tally,
    stops_quiet_rise: Tally,
}

#[derive(Default)]
struct Tally {
    told: [u32; 4],
}

impl Tally {
    fn add(&mut self, effect: Effect) {
        let kind = match effect {
            Effect::Share(share) if share >= LEAST_SHARE => 0,
            Effect::Share(share) if share <= -LEAST_SHARE => 1,
            Effect::Share(_) => 2,
            Effect::NotDistinguishable => 3,
        };
        self.told[kind] += 1;
    }

    fn show(&self, what: &str) {
        let all: u32 = self.told.iter().sum();
        let shares = self.told.map(|told| format!("{:5.1}%", 100.0 * f64::from(told) / f64::from(all.max(1))));
        println!("  {what:<40} {all:>6}  {}", shares.join("  "));
    }
}

/// Where steps are tried: one series, one direction that is bad, one settle time.
struct Place<'a> {
    values: &'a [f64],
    sign: f64,
    pace: f64,
    settle: f64,
    span: usize,
}

impl Place<'_> {
    fn try_all(&self, tally: &mut Tallies) {
        if self.span < 2 || self.values.len() < self.span * 30 {
            return;
        }
        let mut sorted = self.values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let quantile = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ self.values.len() as u64);
        for share in QUANTILES {
            let threshold = quantile(if self.sign > 0.0 { share } else { 1.0 - share });
            for _ in 0..STEPS {
                let at = self.span * 8 + random.below(self.values.len() - self.span * 9 - 1);
                self.try_anywhere(at, threshold, quantile(0.95) - quantile(0.05), tally);
                self.try_firing(at, threshold, tally);
            }
        }
        let spread = (quantile(0.84) - quantile(0.16)) / 2.0;
        for _ in 0..if spread > 0.0 { STEPS } else { 0 } {
            let at = self.span * 8 + random.below(self.values.len() - self.span * 9 - 1);
            let rate = 0.2 * f64::from(1 << random.below(4));
            tally.stops_rise.add(self.stopped_rise(at, rate, 0.3 / spread));
            tally.stops_quiet_rise.add(self.stopped_rise(at, rate, 0.05 / spread));
        }
    }

    fn is_bad(&self, at: usize, threshold: f64) -> bool {
        self.sign * (self.values[at] - threshold) > 0.0
    }

    fn try_anywhere(&self, at: usize, threshold: f64, range: f64, tally: &mut Tallies) {
        if self.is_bad(at, threshold) {
            tally.nothing_anywhere.add(self.ask(at, threshold, |_, value| value));
            tally
                .halves
                .add(self.ask(at, threshold, |second, value| value - self.sign * range / 2.0 * second.min(1.0)));
        }
    }

    /// The next time that the threshold is crossed for as long as a rule waits.
    fn try_firing(&self, from: usize, threshold: f64, tally: &mut Tallies) {
        let hold = (HOLD / self.pace) as usize;
        let end = (from + 2000).min(self.values.len() - self.span - hold - 2);
        let fires =
            |at: &usize| !self.is_bad(at - 1, threshold) && (0..=hold).all(|later| self.is_bad(at + later, threshold));
        let Some(at) = (from..end).find(fires).map(|at| at + hold) else { return };
        tally.nothing_firing.add(self.ask(at, threshold, |_, value| value));
        let gap = (self.values[at] - threshold).abs().max(threshold.abs() * 0.05);
        tally.closes_gap.add(self.ask(at, threshold, |second, value| value - self.sign * gap * second.min(1.0)));
    }

    /// A rise with the noise of the series around it, which stops a second after the step.
    fn stopped_rise(&self, at: usize, rate: f64, scale: f64) -> Effect {
        let risen = |reading: usize| {
            let seconds = (reading as f64 - at as f64) * self.pace;
            let bent = seconds.min(1.0);
            self.sign * bent * rate + (self.values[reading] - self.values[at]) * scale
        };
        let values: Vec<f64> = (0..=at + self.span).map(risen).collect();
        Place { values: &values, ..*self }.ask(at, -self.sign * 2.0, |_, value| value)
    }

    fn ask(&self, at: usize, threshold: f64, bent: impl Fn(f64, f64) -> f64) -> Effect {
        let mut past = Past::for_horizon(Duration::from_secs_f64(self.settle));
        let moment = |reading: usize| Moment::at(Duration::from_secs_f64(reading as f64 * self.pace));
        for reading in at.saturating_sub((300.0 / self.pace) as usize)..=at + self.span {
            let value = self.values[reading];
            let since = (reading as f64 - at as f64) * self.pace;
            past.push(moment(reading), if since > 0.0 { bent(since, value) } else { value });
        }
        past.effect(&Question {
            at: moment(at),
            now: moment(at + self.span),
            threshold,
            sign: self.sign,
            value: Some(self.values[at]),
            limits: (f64::NEG_INFINITY, f64::INFINITY),
            lag: Duration::ZERO,
        })
    }
}

/// Xorshift: the same steps at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}
