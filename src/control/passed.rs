//! How much of a counter passed since it was last read. A counter that went back has begun anew. Pure.

use std::time::Instant;

#[derive(Default)]
pub struct Passed(Option<(f64, Instant)>);

impl Passed {
    /// A second, on average since the last reading; `None` at the first.
    pub fn per_second(&mut self, counter: f64, now: Instant) -> Option<f64> {
        let (before, at) = self.0.replace((counter, now))?;
        let seconds = now.duration_since(at).as_secs_f64();
        (seconds > 0.0 && counter >= before).then(|| (counter - before) / seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_needs_two_readings_of_one_life() {
        let (mut passed, start) = (Passed::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(passed.per_second(100.0, start), None);
        assert_eq!(passed.per_second(120.0, after(2)), Some(10.0));
        assert_eq!(passed.per_second(120.0, after(4)), Some(0.0));
        assert_eq!(passed.per_second(5.0, after(6)), None, "it restarted");
        assert_eq!(passed.per_second(5.0, after(6)), None, "no time has passed");
    }
}
