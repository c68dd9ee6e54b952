//! The distinct operands of all conditions, read once per tick: a thousand rules about the same ten metrics cost ten
//! look-ups. Windows and trends live here, one per operand.

use std::sync::Arc;
use std::time::Duration;

use super::condition::{Function, Operand};
use super::effect::{Effect, Question};
use super::metric::{Family, Metric};
use super::moment::Moment;
use super::past::Past;
use super::plan::Plan;
use super::program::Compare;
use super::reading::Reading;
use super::sample::{Extreme, Sample};
use super::spacing::{Passed, Spacing};
use super::trend::{FORECAST_HALF_LIFE, Trend};
use super::window::{Rate, Window};

/// What runs away does so within seconds: its line is drawn through the last couple of them.
const WATCH_HALF_LIFE: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Slot {
    operand: Arc<Operand>,
    /// Row of the selected instance, and the generation of the family's rows in which it was found.
    row: Option<usize>,
    generation: Option<u64>,
    series: Series,
    last: Option<Seen>,
    before: Option<Seen>,
    /// What was read of late, where the effect of steps is told from it.
    past: Option<Box<Past>>,
    /// Where the readings are heading, for the pace of the ladder.
    heading: Option<Trend>,
}

/// A reading, when it was last read to be so, and in which sample it was told first.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Moment,
    told: Moment,
    value: f64,
}

#[derive(Debug)]
enum Series {
    Now,
    Window(Box<Window>, fn(&Window) -> Option<f64>),
    Rate(Rate),
    TimeTo { trend: Box<Trend>, target: f64, last: Option<Moment> },
}

#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    readings: Vec<Reading>,
    spacing: Spacing,
    last: Option<Moment>,
}

impl Slots {
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut slots: Vec<Slot> = plan.operands().iter().map(Slot::new).collect();
        for (slot, settle) in slots.iter_mut().zip(plan.watched()) {
            // A forecast follows a change by minutes: no step is told from it.
            let is_told = !matches!(slot.series, Series::TimeTo { .. });
            slot.past = settle.filter(|_| is_told).map(|settle| Box::new(Past::for_horizon(settle)));
            slot.heading = settle.map(|_| Trend::new(WATCH_HALF_LIFE));
        }
        let readings = vec![Reading::MISSING; slots.len()];
        Self { slots, readings, spacing: plan.policy.spacing, last: None }
    }

    /// Takes the windows and trends of the slots that stay, so that a reload does not forget what was seen.
    pub(crate) fn inherit(&mut self, older: Slots) {
        self.last = older.last;
        for (old, reading) in older.slots.into_iter().zip(older.readings) {
            if let Some(at) = self.slots.iter().position(|slot| slot.operand == old.operand) {
                let past = self.slots[at].past.take();
                let heading = self.slots[at].heading.take().map(|new| old.heading.clone().unwrap_or(new));
                self.slots[at] = Slot { past: past.and_then(|new| old.past.or(Some(new))), heading, ..old };
                self.readings[at] = reading;
            }
        }
    }

    /// Whether the newest sample is too old to say how the node is now.
    #[must_use]
    pub(crate) fn are_stale(&self, now: Moment) -> bool {
        self.last.is_some_and(|last| !self.spacing.unseen(now.since(last)).is_zero())
    }

    /// Takes in a sample; what passed since the one before it.
    pub(crate) fn refresh(&mut self, sample: &Sample) -> Passed {
        let passed = self.last.map_or(Duration::ZERO, |last| sample.at.since(last));
        let unseen = self.spacing.unseen(passed);
        self.last = Some(sample.at);
        if !unseen.is_zero() {
            self.slots.iter_mut().for_each(|slot| slot.skip(unseen));
        }
        for (slot, reading) in self.slots.iter_mut().zip(&mut self.readings) {
            *reading = slot.read(sample);
            if let (Some(heading), Some(value)) = (&mut slot.heading, reading.known().filter(|value| value.is_finite()))
            {
                heading.push(sample.at, value);
            }
        }
        Passed { watched: passed - unseen, unseen }
    }

    /// How long ago the reading crossed a threshold, where it did so since the reading before: on the line between the two.
    #[must_use]
    pub(crate) fn crossed(&self, compare: &Compare, now: Moment) -> Option<Duration> {
        let slot = self.slots.get(compare.slot)?;
        let (last, before) = (slot.last.filter(|last| last.told == now)?, slot.before?);
        let holds = |value| compare.relation.holds(value, compare.threshold);
        if !holds(last.value) || holds(before.value) {
            return None;
        }
        let share = (last.value - compare.threshold) / (last.value - before.value);
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 1.0 };
        Some(now.since(last.at) + last.at.since(before.at).mul_f64(share))
    }

    #[must_use]
    pub fn effect(&self, slot: usize, question: &Question) -> Effect {
        let past = self.slots[slot].past.as_ref();
        past.map_or(Effect::NotDistinguishable, |past| past.effect(question))
    }

    /// Change per second of late, or 0 where it follows no line: what jumped will not go on jumping.
    #[must_use]
    pub(crate) fn slope(&self, slot: usize) -> f64 {
        self.slots[slot].heading.as_ref().map_or(0.0, Trend::believed_slope)
    }

    /// Whether it has got worse for three quarters of a minute.
    #[must_use]
    pub(crate) fn has_grown(&self, slot: usize, sign: f64) -> bool {
        let past = self.slots[slot].past.as_ref().zip(self.last);
        past.is_some_and(|(past, now)| past.has_grown(now, sign))
    }

    /// Change per second over the last half of a minute.
    #[must_use]
    pub(crate) fn pace(&self, slot: usize) -> Option<f64> {
        let (past, now) = self.slots[slot].past.as_ref().zip(self.last)?;
        past.pace(now)
    }

    /// The slope of late without waiting for certainty: what runs away must be met before that.
    #[must_use]
    pub(crate) fn quick_slope(&self, slot: usize) -> Option<f64> {
        self.slots[slot].heading.as_ref()?.quick_slope()
    }

    /// How far the readings of late lie from their line.
    #[must_use]
    pub(crate) fn spread(&self, slot: usize) -> f64 {
        self.slots[slot].heading.as_ref().map_or(0.0, |heading| heading.spread())
    }

    #[must_use]
    pub(crate) fn readings(&self) -> &[Reading] {
        &self.readings
    }
}

impl Slot {
    fn new(operand: &Arc<Operand>) -> Self {
        let series = match operand.function {
            None => Series::Now,
            Some(Function::Average(span)) => window(span, Window::average),
            Some(Function::Maximum(span)) => window(span, Window::maximum),
            Some(Function::Minimum(span)) => window(span, Window::minimum),
            Some(Function::Percentile95(span)) => window(span, Window::percentile95),
            Some(Function::Rate) => Series::Rate(Rate::default()),
            Some(Function::TimeTo(target)) => {
                Series::TimeTo { trend: Box::new(Trend::new(FORECAST_HALF_LIFE)), target, last: None }
            }
        };
        Self {
            operand: Arc::clone(operand),
            row: None,
            generation: None,
            series,
            last: None,
            before: None,
            past: None,
            heading: None,
        }
    }

    /// A difference between two readings is one whatever lies between them; a window and a trend are not.
    fn skip(&mut self, unseen: Duration) {
        match &mut self.series {
            Series::Window(window, _) => window.skip(unseen),
            Series::TimeTo { trend, last, .. } if unseen > FORECAST_HALF_LIFE => {
                **trend = Trend::new(FORECAST_HALF_LIFE);
                *last = None;
            }
            Series::Now | Series::Rate(_) | Series::TimeTo { .. } => {}
        }
        if let Some(heading) = self.heading.as_mut().filter(|_| unseen > WATCH_HALF_LIFE) {
            *heading = Trend::new(WATCH_HALF_LIFE);
        }
    }

    fn read(&mut self, sample: &Sample) -> Reading {
        let extreme = self.look(sample);
        let complete = extreme.value.filter(|_| !extreme.incomplete);
        let reading = self.series.read(self.operand.metric, sample.at, extreme);
        let reading = if extreme.cannot_be() { Reading::IMPOSSIBLE } else { reading };
        self.note(sample, reading.known());
        // What a window says comes late, and mixes what was before a step into what was after it.
        let told = if matches!(self.series, Series::Window(..)) { complete } else { reading.known() };
        if let (Some(past), Some(value)) = (&mut self.past, told.filter(|value| value.is_finite())) {
            past.push(sample.at, value);
        }
        reading
    }

    fn look(&mut self, sample: &Sample) -> Extreme {
        let metric = self.operand.metric;
        let Some(name) = &self.operand.selector else { return sample.worst(metric) };
        let generation = Some(sample.generation(metric.family()));
        if self.generation != generation {
            self.row = sample.row(metric.family(), name);
            self.generation = generation;
        }
        self.row.map_or(Extreme::MISSING, |row| sample.of_instance(metric, row))
    }

    /// Keeps what was read before it became what it is.
    fn note(&mut self, sample: &Sample, value: Option<f64>) {
        let at = sample.read_at(self.operand.metric, self.row);
        let seen = value.map(|value| Seen { at, told: sample.at, value });
        match (seen, &mut self.last) {
            (Some(seen), Some(last)) if seen.value.to_bits() == last.value.to_bits() => last.at = last.at.max(seen.at),
            (seen, last) => (self.before, *last) = (*last, seen),
        }
    }
}

impl Series {
    fn read(&mut self, metric: Metric, now: Moment, extreme: Extreme) -> Reading {
        let complete = extreme.value.filter(|_| !extreme.incomplete);
        match self {
            Series::Now => Reading { value: extreme.value.unwrap_or(f64::NAN), incomplete: extreme.incomplete },
            Series::Window(window, ask) => {
                window.push(now, complete);
                Reading::of(ask(window))
            }
            Series::Rate(rate) => Reading::of(rate.push(now, complete)),
            Series::TimeTo { trend, target, last } => time_to(metric, trend, *target, last, now, complete),
        }
    }
}

fn window(span: Duration, ask: fn(&Window) -> Option<f64>) -> Series {
    Series::Window(Box::new(Window::new(span)), ask)
}

/// The forecast is fed once a second, whatever the pace: its half-life is minutes.
const FEED: Duration = Duration::from_millis(950);
/// Memory moves in jumps: a forecast is believed only where the rise of the last 15 minutes is at least twice the gap
/// that is left, which at that slope is 7.5 minutes.
const MEMORY_HORIZON: f64 = 450.0;

fn time_to(
    metric: Metric,
    trend: &mut Trend,
    target: f64,
    last: &mut Option<Moment>,
    now: Moment,
    value: Option<f64>,
) -> Reading {
    let Some(value) = value else { return Reading::MISSING };
    if last.is_none_or(|last| now.since(last) >= FEED) {
        trend.push(now, value);
        *last = Some(now);
    }
    let seconds = trend.seconds_to(target);
    let memory = metric.family() == Family::Node && metric.name().starts_with("memory.");
    let believed = if memory && seconds > MEMORY_HORIZON { f64::INFINITY } else { seconds };
    Reading { value: believed, incomplete: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operand(metric: Metric, selector: Option<&str>) -> Arc<Operand> {
        Arc::new(Operand { metric, selector: selector.map(str::to_owned), function: None })
    }

    fn slots(operands: &[Arc<Operand>]) -> Slots {
        let slots: Vec<Slot> = operands.iter().map(Slot::new).collect();
        let readings = vec![Reading::MISSING; slots.len()];
        Slots { slots, readings, spacing: Spacing::ANY, last: None }
    }

    #[test]
    fn the_crossing_lies_on_the_line_between_two_readings() {
        let mut slots =
            slots(&[operand(Metric::MemoryUsedPercent, None), operand(Metric::MemorySwapUsedPercent, None)]);
        let expression = crate::policy::condition::parse("memory.used_percent > 90%").unwrap().expression;
        let program = crate::policy::program::Program::compile(&expression, &mut |_| 0);
        let compare = *program.comparisons().next().unwrap();
        let mut sample = Sample::default();
        let mut crossed = |milliseconds, used: f64| {
            sample.at = Moment::at(Duration::from_millis(milliseconds));
            sample.set(Metric::MemoryUsedPercent, Some(used));
            sample.set_impossible(Metric::MemorySwapUsedPercent);
            slots.refresh(&sample);
            slots.crossed(&compare, sample.at).map(|ago| ago.as_millis())
        };
        assert_eq!(crossed(1000, 50.0), None);
        assert_eq!(crossed(2000, 50.0), None);
        assert_eq!(crossed(2020, 89.0), None);
        assert_eq!(crossed(2040, 91.0), Some(10));
        assert_eq!(crossed(2060, 92.0), None, "it crossed before");
        assert!(slots.readings()[1].cannot_be() && !slots.readings()[0].cannot_be());
    }

    /// A reading that rises steadily, looked at now and then, and told more often than it is read.
    #[test]
    fn a_crossing_counts_from_where_it_was_and_never_from_before_the_last_look() {
        let expression = crate::policy::condition::parse("disk[\"/\"].used_percent > 90%").unwrap().expression;
        let program = crate::policy::program::Program::compile(&expression, &mut |_| 0);
        let compare = *program.comparisons().next().unwrap();
        let at = |milliseconds: u64| Moment::at(Duration::from_millis(milliseconds));
        // Read every 1000 ms, in the sample that comes 30 ms later; told every 20 ms, or every 200.
        for (read_every, told_every, late) in [(1000, 20, 30), (1000, 200, 0), (200, 20, 0), (20, 20, 0)] {
            for crosses_at in (5_000..7_000).step_by(37) {
                let mut slots = slots(&[operand(Metric::DiskUsedPercent, Some("/"))]);
                let mut sample = Sample::default();
                sample.set_instances(Family::Disk, &["/"]);
                let told = (1..).map(|tick| tick * told_every).find_map(|now: u64| {
                    sample.at = at(now);
                    let read = now.saturating_sub(late) / read_every * read_every;
                    let value = (90.0 + (read as f64 - f64::from(crosses_at)) / 1000.0).max(0.0);
                    sample.set_instance_read(Metric::DiskUsedPercent, 0, Some(value), at(now).since(at(read)));
                    slots.refresh(&sample);
                    Some((now, slots.crossed(&compare, at(now))?))
                });
                let (now, ago) = told.unwrap();
                let crossed = now as f64 - ago.as_secs_f64() * 1e3;
                assert!((crossed - f64::from(crosses_at)).abs() < 0.01, "{crossed} in place of {crosses_at}");
                assert!(ago <= Duration::from_millis(read_every + told_every + late), "{ago:?}");
            }
        }
    }

    #[test]
    fn a_selector_follows_its_instance_and_is_unknown_without_it() {
        let mut slots = slots(&[operand(Metric::DiskUsedPercent, Some("/var"))]);
        let mut sample = Sample::default();
        sample.set_instances(Family::Disk, &["/", "/var"]);
        sample.set_instance(Metric::DiskUsedPercent, 1, Some(50.0));
        slots.refresh(&sample);
        assert_eq!(slots.readings()[0].known(), Some(50.0));
        sample.set_instances(Family::Disk, &["/var"]);
        slots.refresh(&sample);
        assert_eq!(slots.readings()[0].known(), Some(50.0));
        sample.set_instances(Family::Disk, &["/"]);
        slots.refresh(&sample);
        assert_eq!(slots.readings()[0].known(), None);
    }
}
