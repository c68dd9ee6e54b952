//! Where a metric is heading: least squares whose past fades, believed only while the line fits. No forecaster beats
//! "it stays as it is" on memory and disk unless gated by fit.

use std::time::Duration;

use super::moment::Moment;

/// Five minutes' half-life and R² above 0.8 gave the best precision of alert episodes.
pub const FORECAST_HALF_LIFE: Duration = Duration::from_secs(300);
const BELIEVED_FIT: f64 = 0.8;
/// Memory that is filled at full speed crosses a tenth of a node in this time.
const QUICKLY_WATCHED: Duration = Duration::from_millis(200);
const QUICK_FIT: f64 = 0.8;
/// Two readings at the fastest pace differ by noise.
const RATE_OVER: Duration = Duration::from_millis(100);
/// A trend must have been watched this long before anybody hears of it.
const LEAST_WATCHED: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct Trend {
    half_life: Duration,
    first: Option<Moment>,
    last: Option<Moment>,
    weight: f64,
    time: f64,
    time_squared: f64,
    value: f64,
    value_squared: f64,
    product: f64,
    latest: f64,
    /// A reading some time ago, and the change per second since the one before it.
    mark: Option<(Moment, f64)>,
    rate: f64,
}

impl Trend {
    #[must_use]
    pub const fn new(half_life: Duration) -> Self {
        Self {
            half_life,
            first: None,
            last: None,
            weight: 0.0,
            time: 0.0,
            time_squared: 0.0,
            value: 0.0,
            value_squared: 0.0,
            product: 0.0,
            latest: 0.0,
            mark: None,
            rate: 0.0,
        }
    }

    pub fn push(&mut self, now: Moment, value: f64) {
        let passed = self.last.map_or(0.0, |last| now.since(last).as_secs_f64());
        self.shift(passed);
        let fade = 0.5_f64.powf(passed / self.half_life.as_secs_f64());
        for sum in [
            &mut self.weight,
            &mut self.time,
            &mut self.time_squared,
            &mut self.value,
            &mut self.value_squared,
            &mut self.product,
        ] {
            *sum *= fade;
        }
        self.weight += 1.0;
        self.value += value;
        self.value_squared += value * value;
        self.latest = value;
        match self.mark {
            Some((since, before)) if now.since(since) >= RATE_OVER => {
                self.rate = (value - before) / now.since(since).as_secs_f64();
                self.mark = Some((now, value));
            }
            Some(_) => {}
            None => self.mark = Some((now, value)),
        }
        self.first = self.first.or(Some(now));
        self.last = Some(now);
    }

    /// Change per second, or 0 where there are too few readings to say.
    #[must_use]
    pub fn slope(&self) -> f64 {
        let spread = self.weight * self.time_squared - self.time * self.time;
        if spread <= f64::EPSILON * self.weight { 0.0 } else { self.covariance() / spread }
    }

    /// The same, or 0 where it was not watched for a half-life or follows no line.
    #[must_use]
    pub fn believed_slope(&self) -> f64 {
        if self.watched() >= self.half_life && self.fit() > BELIEVED_FIT { self.slope() } else { 0.0 }
    }

    /// Change per second as soon as a line can be seen at all: for what has to be done before it is certain.
    #[must_use]
    pub fn quick_slope(&self) -> Option<f64> {
        let slope = self.slope();
        // What jumped and stays is no trend.
        let goes_on = slope * self.rate > 0.0;
        let seen = self.watched() >= QUICKLY_WATCHED && self.fit() > QUICK_FIT && goes_on;
        seen.then(|| if slope.abs() < self.rate.abs() { slope } else { self.rate })
    }

    /// Standard deviation of the readings around the line.
    #[must_use]
    pub fn spread(&self) -> f64 {
        if self.weight <= 0.0 {
            return 0.0;
        }
        let mean = self.value / self.weight;
        let variance = (self.value_squared / self.weight - mean * mean).max(0.0);
        (variance * (1.0 - self.fit().min(1.0))).sqrt()
    }

    fn watched(&self) -> Duration {
        self.first.zip(self.last).map_or(Duration::ZERO, |(first, last)| last.since(first))
    }

    /// Seconds until `target` at the present slope; infinite without a believable trend towards it.
    #[must_use]
    pub fn seconds_to(&self, target: f64) -> f64 {
        let watched = self.watched();
        let seconds = (target - self.latest) / self.slope();
        if seconds.is_finite() && seconds >= 0.0 && watched >= LEAST_WATCHED && self.fit() > BELIEVED_FIT {
            seconds
        } else {
            f64::INFINITY
        }
    }

    /// Weighted R².
    #[must_use]
    pub fn fit(&self) -> f64 {
        let spread = self.weight * self.time_squared - self.time * self.time;
        let variance = self.weight * self.value_squared - self.value * self.value;
        if spread <= 0.0 || variance <= f64::EPSILON * self.value_squared.abs() {
            return 0.0;
        }
        self.covariance().powi(2) / (spread * variance)
    }

    fn covariance(&self) -> f64 {
        self.weight * self.product - self.time * self.value
    }

    /// Times count from the newest reading, so the sums move when a new one comes: numbers stay small for ever.
    fn shift(&mut self, passed: f64) {
        self.time_squared += passed * (passed * self.weight - 2.0 * self.time);
        self.product -= passed * self.value;
        self.time -= passed * self.weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(values: impl Iterator<Item = f64>) -> Trend {
        let mut trend = Trend::new(FORECAST_HALF_LIFE);
        for (second, value) in values.enumerate() {
            trend.push(Moment::at(Duration::from_secs(second as u64)), value);
        }
        trend
    }

    #[test]
    fn a_steady_rise_is_extrapolated() {
        let trend = fed((0..300).map(|s| 50.0 + f64::from(s) * 0.1));
        assert!((trend.slope() - 0.1).abs() < 1e-6);
        assert!((trend.seconds_to(98.0) - 181.0).abs() < 1.0, "{}", trend.seconds_to(98.0));
    }

    #[test]
    fn noise_and_flat_lines_say_nothing() {
        let noise = fed((0..600).map(|s| 50.0 + f64::from(s * 7919 % 13)));
        assert!(noise.seconds_to(98.0).is_infinite());
        assert!(fed((0..600).map(|_| 50.0)).seconds_to(98.0).is_infinite());
    }

    #[test]
    fn a_young_trend_is_not_believed() {
        assert!(fed((0..30).map(f64::from)).seconds_to(98.0).is_infinite());
    }

    #[test]
    fn moving_away_never_arrives() {
        assert!(fed((0..300).map(|s| 50.0 - f64::from(s) * 0.1)).seconds_to(98.0).is_infinite());
    }
}
