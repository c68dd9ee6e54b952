//! Counters, gauges and histograms behind the `metrics` facade, and nothing that grows with time: buckets are fixed, so
//! recording is a few atomic additions, never allocates and never waits.
//!
//! Why not the exporter crate: it keeps every recorded value until somebody drains it, allocates per record, and costs
//! 0.7 MB resident and 31 crates for what is a table and a text format.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use text::{Exposition, Family, Kind, Labels};

pub mod text;

/// What the daemon records. The readings are not recorded: they are written from the snapshot (`http/metrics.rs`).
pub mod name {
    pub(crate) const RULE_FIRED: &str = "node_guardian_rule_fired_total";
    pub(crate) const RULE_RELAPSED: &str = "node_guardian_rule_relapsed_total";
    pub(crate) const STEPS_SKIPPED: &str = "node_guardian_steps_skipped_total";
    pub(crate) const ACTIONS: &str = "node_guardian_actions_total";
    pub(crate) const UNDOS: &str = "node_guardian_undos_total";
    pub(crate) const ACTION_SECONDS: &str = "node_guardian_action_seconds";
    pub(crate) const MODE_CHANGES: &str = "node_guardian_mode_changes_total";
    pub(crate) const EVENTS: &str = "node_guardian_events_total";
    pub(crate) const RELOADS: &str = "node_guardian_reloads_total";
    pub(crate) const SAMPLE_SECONDS: &str = "node_guardian_sample_seconds";
    pub(crate) const TICK_LAG_SECONDS: &str = "node_guardian_tick_lag_seconds";
    pub(crate) const DETECTION_SECONDS: &str = "node_guardian_detection_seconds";
    pub(crate) const HTTP_REQUESTS: &str = "node_guardian_http_requests_total";
    pub(crate) const HTTP_TURNED_AWAY: &str = "node_guardian_http_turned_away_total";
    pub(crate) const WEBHOOK_DELIVERED: &str = "node_guardian_webhook_delivered_total";
    pub(crate) const WEBHOOK_FAILED: &str = "node_guardian_webhook_failed_total";
    pub(crate) const WEBHOOK_DROPPED: &str = "node_guardian_webhook_dropped_total";
    pub(crate) const WEBHOOK_QUEUED: &str = "node_guardian_webhook_queue_length";
}

/// From a hot read of five files (20 us) to a sample that a starved kernel delays by a second.
const SAMPLE_BUCKETS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_2, 0.000_4, 0.000_8, 0.001_6, 0.003_2, 0.01, 0.03, 0.1, 0.3, 1.0];
/// The aim is 0.2 ms at four-fold oversubscription; without real-time scheduling it may be 100 ms.
const LAG_BUCKETS: &[f64] = &[
    0.000_02, 0.000_03, 0.000_05, 0.000_07, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.000_7, 0.001, 0.002, 0.005,
    0.02, 0.1, 0.5, 2.0,
];
/// Around the goals of 4 ms and 10 ms, up to one calm interval and what comes a little after it: a quantile lies between two of
/// these, and must not be taken for five seconds where it is one.
const DETECTION_BUCKETS: &[f64] =
    &[0.001, 0.002, 0.004, 0.007, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0, 1.05, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0];
/// A unix socket answers in 0.1 ms; deadlines are 1 to 2 s.
const ACTION_BUCKETS: &[f64] = &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0];

const KNOWN: &[(&str, &str, Option<&[f64]>)] = &[
    (name::RULE_FIRED, "Times a rule fired.", None),
    (name::RULE_RELAPSED, "Times a rule fired again while its steps were being undone.", None),
    (name::STEPS_SKIPPED, "Steps that were due and left out, by reason.", None),
    (name::ACTIONS, "Answers of controls to actions.", None),
    (name::UNDOS, "Answers of controls to the undoing of actions.", None),
    (name::ACTION_SECONDS, "Time from a command to its verified answer.", Some(ACTION_BUCKETS)),
    (name::MODE_CHANGES, "Times the node entered a mode.", None),
    (name::EVENTS, "Events of the audit trail, by what an operator should do about them.", None),
    (name::RELOADS, "Reloads of the configuration.", None),
    (name::SAMPLE_SECONDS, "Time to read one sample.", Some(SAMPLE_BUCKETS)),
    (name::TICK_LAG_SECONDS, "How late a tick began.", Some(LAG_BUCKETS)),
    (name::DETECTION_SECONDS, "Time from the crossing of a threshold to the decision.", Some(DETECTION_BUCKETS)),
    (name::HTTP_REQUESTS, "HTTP requests answered, by way in and class of status.", None),
    (name::HTTP_TURNED_AWAY, "Connections closed to make room, or for want of it.", None),
    (name::WEBHOOK_DELIVERED, "Events that a receiver has taken.", None),
    (name::WEBHOOK_FAILED, "Events given up, because their receiver refused them.", None),
    (name::WEBHOOK_DROPPED, "Events dropped before delivery, because newer ones needed their room.", None),
    (name::WEBHOOK_QUEUED, "Events that a receiver is still to get.", None),
];

/// More series than this are a mistake in somebody's labels; further ones are recorded nowhere.
const MOST_SERIES: usize = 2_000;

#[derive(Debug, Default)]
pub struct Telemetry(Mutex<BTreeMap<String, Recorded>>);

#[derive(Debug)]
struct Recorded {
    kind: Kind,
    series: BTreeMap<String, Series>,
}

#[derive(Clone, Debug)]
enum Series {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Buckets>),
}

/// What the loop records at every tick, registered once.
#[derive(Clone, Debug)]
pub struct Timings {
    pub sample: Histogram,
    pub tick_lag: Histogram,
    pub detection: Histogram,
}

impl Timings {
    #[must_use]
    pub fn register() -> Self {
        Self {
            sample: metrics::histogram!(name::SAMPLE_SECONDS),
            tick_lag: metrics::histogram!(name::TICK_LAG_SECONDS),
            detection: metrics::histogram!(name::DETECTION_SECONDS),
        }
    }
}

impl Telemetry {
    /// Makes a recorder and gives it to the facade, for the rest of the process.
    ///
    /// # Errors
    /// When there is one already.
    pub fn install() -> Result<Arc<Self>, String> {
        let telemetry = Arc::new(Self::default());
        metrics::set_global_recorder(Arc::clone(&telemetry))
            .map_err(|_| "another metrics recorder is installed".to_owned())?;
        Ok(telemetry)
    }

    /// Writes every series that was ever registered.
    pub fn write(&self, out: &mut Exposition) {
        for (name, recorded) in &*self.families() {
            out.family(&Family { name, kind: recorded.kind, help: help(name) });
            for (labels, series) in &recorded.series {
                match series {
                    Series::Counter(cell) => out.sample(name, Labels::Rendered(labels), count(cell)),
                    Series::Gauge(cell) => {
                        out.sample(name, Labels::Rendered(labels), f64::from_bits(cell.load(Ordering::Relaxed)));
                    }
                    Series::Histogram(buckets) => buckets.write(name, labels, out),
                }
            }
        }
    }

    fn register(&self, key: &Key, kind: Kind, build: impl FnOnce() -> Series) -> Option<Series> {
        let mut families = self.families();
        let full = families.values().map(|family| family.series.len()).sum::<usize>() >= MOST_SERIES;
        let family =
            families.entry(key.name().to_owned()).or_insert_with(|| Recorded { kind, series: BTreeMap::new() });
        if family.kind != kind {
            return None;
        }
        let labels = text::render_labels(key.labels().map(|label| (label.key(), label.value())));
        if full && !family.series.contains_key(&labels) {
            return None;
        }
        Some(family.series.entry(labels).or_insert_with(build).clone())
    }

    fn families(&self) -> MutexGuard<'_, BTreeMap<String, Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recorder for Telemetry {
    /// Descriptions are in `KNOWN`, next to the names.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.register(key, Kind::Counter, || Series::Counter(Arc::default())) {
            Some(Series::Counter(cell)) => Counter::from_arc(cell),
            Some(Series::Gauge(_) | Series::Histogram(_)) | None => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.register(key, Kind::Gauge, || Series::Gauge(Arc::default())) {
            Some(Series::Gauge(cell)) => Gauge::from_arc(cell),
            Some(Series::Counter(_) | Series::Histogram(_)) | None => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let bounds = known(key.name()).and_then(|(_, _, bounds)| *bounds).unwrap_or(ACTION_BUCKETS);
        match self.register(key, Kind::Histogram, || Series::Histogram(Arc::new(Buckets::new(bounds)))) {
            Some(Series::Histogram(buckets)) => Histogram::from_arc(buckets),
            Some(Series::Counter(_) | Series::Gauge(_)) | None => Histogram::noop(),
        }
    }
}

/// A histogram with fixed bounds. Each cell counts its own range; the text adds them up.
#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    cells: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, cells: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    fn write(&self, name: &str, labels: &str, out: &mut Exposition) {
        let mut below = 0;
        for (cell, bound) in self.cells.iter().zip(self.bounds.iter().copied().chain([f64::INFINITY])) {
            below += cell.load(Ordering::Relaxed);
            out.bucket(name, labels, bound, below);
        }
        out.totals(name, labels, f64::from_bits(self.sum.load(Ordering::Relaxed)), below);
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.cells[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }
}

fn known(name: &str) -> Option<&'static (&'static str, &'static str, Option<&'static [f64]>)> {
    KNOWN.iter().find(|(known, _, _)| *known == name)
}

fn help(name: &str) -> &'static str {
    known(name).map_or("Recorded by a library.", |(_, help, _)| help)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
fn count(cell: &AtomicU64) -> f64 {
    cell.load(Ordering::Relaxed) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use text::Format;

    fn rendered(telemetry: &Telemetry, format: Format) -> String {
        let mut out = Exposition::new(format);
        telemetry.write(&mut out);
        out.finish()
    }

    #[test]
    fn counters_and_histograms_come_out_as_they_went_in() {
        let telemetry = Telemetry::default();
        metrics::with_local_recorder(&telemetry, || {
            metrics::counter!(name::RULE_FIRED, "rule" => "a\"b\\c\nd").increment(3);
            let lag = metrics::histogram!(name::TICK_LAG_SECONDS);
            for value in [0.000_02, 0.000_03, 9.0, f64::NAN] {
                lag.record(value);
            }
        });
        let text = rendered(&telemetry, Format::Prometheus);
        assert!(text.contains("# TYPE node_guardian_rule_fired_total counter\n"), "{text}");
        assert!(text.contains("node_guardian_rule_fired_total{rule=\"a\\\"b\\\\c\\nd\"} 3\n"), "{text}");
        assert!(text.contains("node_guardian_tick_lag_seconds_bucket{le=\"2e-5\"} 1\n"), "{text}");
        assert!(text.contains("node_guardian_tick_lag_seconds_bucket{le=\"2.0\"} 2\n"), "{text}");
        assert!(text.contains("node_guardian_tick_lag_seconds_bucket{le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("node_guardian_tick_lag_seconds_count 3\n"), "{text}");
        let open = rendered(&telemetry, Format::OpenMetrics);
        assert!(open.contains("# TYPE node_guardian_rule_fired counter\n"), "{open}");
        assert!(open.contains("# UNIT node_guardian_tick_lag_seconds seconds\n"), "{open}");
        assert!(open.ends_with("# EOF\n"), "{open}");
    }

    #[test]
    fn a_name_has_one_kind_and_series_are_bounded() {
        let telemetry = Telemetry::default();
        metrics::with_local_recorder(&telemetry, || {
            metrics::counter!("some_total").increment(1);
            metrics::gauge!("some_total").set(7.0);
            for n in 0..MOST_SERIES * 2 {
                metrics::counter!("many_total", "n" => n.to_string()).increment(1);
            }
        });
        let text = rendered(&telemetry, Format::Prometheus);
        assert!(text.contains("some_total 1\n"));
        assert_eq!(text.lines().filter(|line| line.starts_with("many_total{")).count(), MOST_SERIES - 1);
    }
}
