//! Whether a step bent the curve of its rule's metric, and by how much: told only where it can be told from what the
//! metric does by itself. That is measured, not assumed: the same question is asked of every earlier moment, at which
//! no step was taken, and what comes out there is noise. So readings that hang together, spikes and wandering need no
//! model. "Not distinguishable" is an answer, and never a number.

use std::fmt;
use std::time::Duration;

use super::moment::Moment;
use super::past::{KEPT, Past};

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Effect {
    /// Share of the gap between the threshold and where the metric was heading that was closed: 1 is all of it, 0 is
    /// nothing, below 0 it got worse than the trend. Within ±1.
    Share(f64),
    NotDistinguishable,
}

/// Closing less than a tenth of the gap helps nobody.
pub const LEAST_SHARE: f64 = 0.1;

/// `closed 40% of the gap`, after the name of a step.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Adding zero makes nothing of a negative zero.
            Effect::Share(share) => write!(f, "closed {:.0}% of the gap", (share * 100.0).round() + 0.0),
            Effect::NotDistinguishable => f.write_str("has no effect that can be told from noise"),
        }
    }
}

impl Effect {
    #[must_use]
    pub(crate) const fn share(self) -> Option<f64> {
        match self {
            Effect::Share(share) => Some(share),
            Effect::NotDistinguishable => None,
        }
    }

    /// It measurably helped.
    #[must_use]
    pub(crate) fn is_useful(self) -> bool {
        self.share().is_some_and(|share| share >= LEAST_SHARE)
    }

    /// It was measured, and what it may have closed is too little to help.
    #[must_use]
    pub(crate) fn is_useless(self) -> bool {
        self.share().is_some_and(|share| share < LEAST_SHARE)
    }
}

/// What is asked: what became of the metric between `at`, when a step was taken, and `now`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Question {
    pub at: Moment,
    pub now: Moment,
    pub threshold: f64,
    /// +1 where high is bad, -1 where low is.
    pub sign: f64,
    /// What was read when the step was taken, where it is what is compared.
    pub value: Option<f64>,
    /// Where the metric can go at all: no trend leads beyond.
    pub limits: (f64, f64),
    /// Time constant of a fading average that the metric is.
    pub lag: Duration,
}

/// What a spread of four fifths of the earlier moments, and the widest of the last ones, are widened by. With these less
/// than one useless step in twenty is told as one with an effect on real series (`benches/effect.rs`).
const WIDENED: f64 = 3.0;
const WIDENED_LATEST: f64 = 1.25;
/// A rule fires while things get worse: that they go on to, and faster, needs twice as much to be a step's doing.
const WIDENED_WORSE: f64 = 2.0;
/// Earlier moments that are near enough to count at their worst: what moved by itself just now may move back by itself.
const LATEST_HORIZONS: usize = 3;
/// Fewer horizons of earlier moments say nothing about noise.
const LEAST_HORIZONS: usize = 2;
/// A step that slows growth by this much is not useless.
const SLOWED: f64 = 0.25;
/// A fading average that has taken in less than this of a change says nothing yet.
const LEAST_RESPONSE: f64 = 0.2;

impl Past {
    #[must_use]
    pub fn effect(&self, question: &Question) -> Effect {
        self.measure(question).map_or(Effect::NotDistinguishable, |measured| measured.verdict(question))
    }

    fn measure(&self, question: &Question) -> Option<Measured> {
        let (means, newest) = self.unrolled().filter(|(_, newest)| *newest == self.number(question.now))?;
        let behind = newest.checked_sub(self.number(question.at))? as usize;
        let pivot = (KEPT - 1).checked_sub(behind + 1)?;
        let shape = Shape::new(KEPT - 1 - pivot)?;
        let first = means[..=pivot].iter().rposition(|mean| mean.is_nan()).map_or(0, |gap| gap + 1);
        let before = &means[first..=pivot];
        let errors = shape.errors(before, question.sign)?;
        let projected = shape.projected(before, errors.model)?.clamp(question.limits.0, question.limits.1);
        let after = &means[pivot + 1 + shape.horizon - shape.tail..];
        let expected = shape.carried(before, errors.model, (shape.tail + 1) as f64 / 2.0)?;
        let growth = question.sign * (projected - expected);
        let off = question.value.map_or(0.0, |value| (value - expected).abs());
        let (least, most) = after
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), mean| (least.min(*mean), most.max(*mean)));
        let middle = self.stretch().mul_f64(shape.horizon as f64 - shape.tail as f64 / 2.0);
        Some(Measured {
            projected,
            growth: if errors.model == Model::Line { growth.max(0.0) } else { 0.0 },
            after: average(after),
            least,
            most,
            noise: errors.spread.max(off),
            bettered: errors.bettered,
            response: response(middle, question.lag),
        })
        .filter(|measured| measured.after.is_finite())
    }
}

/// How much of a change a fading average shows after that long.
fn response(after: Duration, lag: Duration) -> f64 {
    if lag.is_zero() { 1.0 } else { 1.0 - (-after.as_secs_f64() / lag.as_secs_f64()).exp() }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    projected: f64,
    /// What its line leads to from the step on, in the direction that is bad.
    growth: f64,
    after: f64,
    least: f64,
    most: f64,
    noise: f64,
    bettered: f64,
    response: f64,
}

impl Measured {
    fn verdict(&self, question: &Question) -> Effect {
        let sign = question.sign;
        let gap = sign * (self.projected - question.threshold);
        if self.response < LEAST_RESPONSE || gap <= 0.0 {
            return Effect::NotDistinguishable;
        }
        let gap = gap.max(question.threshold.abs() * 0.01).max(f64::EPSILON) * self.response;
        let share = |reading: f64| sign * (self.projected - reading) / gap;
        let (noise, change) = (self.noise / gap, share(self.after));
        // Sustained: the tail's nearest reading is beyond half of the noise.
        let (best, worst) = (share(self.least).max(share(self.most)), share(self.least).min(share(self.most)));
        let is_told = if change >= LEAST_SHARE {
            change > noise.max(self.bettered / gap) && worst > noise / 2.0
        } else if change <= -LEAST_SHARE {
            -change > noise * WIDENED_WORSE && -best > noise * WIDENED_WORSE / 2.0
        } else {
            change + noise < self.least_useful(gap)
        };
        if is_told { Effect::Share(change.clamp(-1.0, 1.0)) } else { Effect::NotDistinguishable }
    }

    /// Share of the gap. What slows growth by a quarter helps, however little of the gap that closes so soon.
    fn least_useful(&self, gap: f64) -> f64 {
        if self.growth > 0.0 { LEAST_SHARE.min(SLOWED * self.growth * self.response / gap) } else { LEAST_SHARE }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Model {
    Level,
    Line,
}

#[derive(Clone, Copy, Debug)]
struct Errors {
    model: Model,
    spread: f64,
    /// By how much it got better than that at most: what turned by itself before may have done so again.
    bettered: f64,
}

/// How a moment is looked at, in stretches: a tail of the horizon after it against as much before it, carried on.
#[derive(Clone, Copy, Debug)]
struct Shape {
    horizon: usize,
    tail: usize,
}

impl Shape {
    fn new(horizon: usize) -> Option<Self> {
        (horizon >= 2).then_some(Self { horizon, tail: horizon.div_ceil(3) })
    }

    fn level(&self, before: &[f64]) -> Option<f64> {
        Some(average(before.get(before.len().checked_sub(self.tail)?..)?))
    }

    /// Where the metric is in the tail of the horizon if it goes on as before.
    fn projected(&self, before: &[f64], model: Model) -> Option<f64> {
        self.carried(before, model, self.horizon as f64)
    }

    /// The level of late, carried on for so many stretches.
    fn carried(&self, before: &[f64], model: Model, stretches: f64) -> Option<f64> {
        let level = self.level(before)?;
        match model {
            Model::Level => Some(level),
            Model::Line => {
                let line = before.get(before.len().checked_sub(2 * self.horizon)?..)?;
                Some(level + slope(line) * stretches)
            }
        }
    }

    /// What the better of the two models would have been wrong by at the earlier moments.
    fn errors(&self, before: &[f64], sign: f64) -> Option<Errors> {
        let level = self.errors_of(before, sign, Model::Level)?;
        let line = self.errors_of(before, sign, Model::Line).filter(|line| line.spread < level.spread);
        Some(line.unwrap_or(level))
    }

    fn errors_of(&self, before: &[f64], sign: f64, model: Model) -> Option<Errors> {
        let mut bettered = 0.0_f64;
        let mut errors = [0.0; KEPT];
        let mut count = 0;
        let latest = before.len().checked_sub(self.horizon)?;
        for pivot in (0..latest).rev() {
            let Some(projected) = self.projected(&before[..=pivot], model) else { break };
            let end = pivot + self.horizon;
            let error = projected - average(&before[end + 1 - self.tail..=end]);
            bettered = bettered.max(sign * error);
            errors[count] = error.abs();
            count += 1;
        }
        if count < LEAST_HORIZONS * self.horizon {
            return None;
        }
        let near = errors[..count.min(LATEST_HORIZONS * self.horizon)].iter().copied().fold(0.0, f64::max);
        let errors = &mut errors[..count];
        let (_, most, _) = errors.select_nth_unstable_by(count * 4 / 5, f64::total_cmp);
        Some(Errors {
            model,
            spread: (*most * WIDENED).max(near * WIDENED_LATEST),
            bettered: bettered * WIDENED_LATEST,
        })
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Least squares, per stretch.
fn slope(values: &[f64]) -> f64 {
    let middle = (values.len() as f64 - 1.0) / 2.0;
    let (mut product, mut squares) = (0.0, 0.0);
    for (at, value) in values.iter().enumerate() {
        let time = at as f64 - middle;
        product += time * value;
        squares += time * time;
    }
    if squares > 0.0 { product / squares } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: u64 = 3;
    /// The step is taken at this second.
    const AT: u64 = 60;

    /// Ten readings a second of `metric`, which is told the seconds since the step, up to `settle` after it.
    fn effect(metric: impl Fn(f64) -> f64) -> Effect {
        effect_of(Question { lag: Duration::ZERO, ..question(&metric) }, metric)
    }

    fn question(metric: &impl Fn(f64) -> f64) -> Question {
        let (at, now) = (Moment::at(Duration::from_secs(AT)), Moment::at(Duration::from_secs(AT + SETTLE)));
        let (value, limits) = (Some(metric(0.0)), (0.0, 100.0));
        Question { at, now, threshold: 90.0, sign: 1.0, value, limits, lag: Duration::ZERO }
    }

    fn effect_of(question: Question, metric: impl Fn(f64) -> f64) -> Effect {
        let mut past = Past::for_horizon(Duration::from_secs(SETTLE));
        for tenth in 0..=(AT + SETTLE) * 10 {
            past.push(Moment::at(Duration::from_millis(tenth * 100)), metric(tenth as f64 / 10.0 - AT as f64));
        }
        past.effect(&question)
    }

    /// The same arbitrary number between -1 and 1 for the same tenth of a second and run.
    fn noise(second: f64, run: u64) -> f64 {
        let mut mixed = ((second * 10.0).round() as i64 as u64 ^ (run << 40)).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    fn share(effect: Effect) -> f64 {
        effect.share().unwrap_or(f64::NAN)
    }

    #[test]
    fn what_stays_as_it_was_is_measured_as_nothing() {
        let told = effect(|second| 95.0 + 0.1 * noise(second, 0));
        assert!(told.is_useless() && share(told).abs() < 0.05, "{told:?}");
    }

    #[test]
    fn what_falls_out_of_the_noise_is_told() {
        let told = effect(|second| 95.0 + 0.5 * noise(second, 0) - second.clamp(0.0, 1.0) * 5.0);
        assert!((share(told) - 1.0).abs() < 0.15, "{told:?}");
    }

    #[test]
    fn a_rise_that_stops_is_an_effect_and_one_that_goes_on_is_none() {
        let rise = |second: f64| 91.0 + second * 0.5 + 0.05 * noise(second, 1);
        let told = effect(|second| rise(second.min(0.5)));
        assert!(share(told) > 0.25, "{told:?}");
        assert!(effect(rise).is_useless(), "{:?}", effect(rise));
    }

    #[test]
    fn what_stops_growth_far_beyond_the_threshold_is_not_useless() {
        let leak = |second: f64| 40.0 + second.min(1.0) * 0.2;
        let far = |metric: &dyn Fn(f64) -> f64| effect_of(Question { threshold: 10.0, ..question(&metric) }, metric);
        assert_eq!(far(&leak), Effect::NotDistinguishable);
        assert!(far(&|second| 40.0 + second * 0.2).is_useless());
    }

    #[test]
    fn a_useless_step_on_a_wild_metric_is_not_a_number_in_any_run() {
        let wild = |run| effect(move |second| 93.0 + 6.0 * noise((second / 1.5).floor() / 10.0, run));
        let told = (0..200).filter(|run| wild(*run).share().is_some_and(|share| share.abs() >= LEAST_SHARE)).count();
        assert!(told <= 10, "{told} of 200");
    }

    #[test]
    fn what_jumped_up_just_now_may_come_down_by_itself() {
        let burst = |second: f64| if (-4.0..1.0).contains(&second) { 97.0 } else { 30.0 };
        assert_eq!(effect(burst), Effect::NotDistinguishable);
        let long = |second: f64| if (-40.0..1.0).contains(&second) { 97.0 } else { 30.0 };
        assert!(effect(long).is_useful());
    }

    #[test]
    fn what_turned_by_itself_before_may_turn_again() {
        let saw = |second: f64| 86.0 + 7.0 * (second + 38.5).rem_euclid(40.0) / 40.0;
        let (turned, told) = (saw(0.0) - saw(2.0), effect(saw));
        assert!(turned > 5.0 && told == Effect::NotDistinguishable, "{told:?}");
        let triangle = |second: f64| 93.0 - 8.0 * ((second - 1.0).rem_euclid(50.0) / 25.0 - 1.0).abs();
        let told = effect(|second| 85.0 + 93.0 - triangle(second));
        assert_eq!(told, Effect::NotDistinguishable);
        // A rise that has never turned before.
        assert!(effect(|second| 91.5 + second.min(1.5) * 0.32).is_useful());
    }

    #[test]
    fn nothing_is_told_of_what_was_hardly_watched_or_has_no_gap() {
        let young = |second: f64| if second < -8.0 { f64::NAN } else { 95.0 - second.max(0.0) };
        assert_eq!(effect(young), Effect::NotDistinguishable);
        assert_eq!(effect(|second| 89.0 - second.max(0.0)), Effect::NotDistinguishable);
        let lost = Question { now: Moment::at(Duration::from_secs(AT + SETTLE + 1)), ..question(&|_| 95.0) };
        assert_eq!(effect_of(lost, |second| 95.0 - second.clamp(0.0, 1.0) * 5.0), Effect::NotDistinguishable);
    }

    #[test]
    fn no_trend_leads_beyond_what_a_metric_can_be() {
        let full = |second: f64| (99.0 + second * 0.9).min(100.0);
        assert!(effect(full).share().is_none_or(|share| share.abs() < 0.05), "{:?}", effect(full));
    }

    #[test]
    fn a_fading_average_shows_a_part_of_what_was_done() {
        let fading = |second: f64| 10.0 + 85.0 * (-second.max(0.0) / 10.0).exp();
        let lagging = Question { lag: Duration::from_secs(10), ..question(&fading) };
        assert!(share(effect_of(lagging, fading)) >= 1.0);
        let slow = Question { lag: Duration::from_secs(60), ..question(&fading) };
        assert_eq!(effect_of(slow, fading), Effect::NotDistinguishable);
    }
}
