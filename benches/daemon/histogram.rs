//! Quantiles of what the daemon itself counts, over a window of its life.

use super::client;

pub const TICK_LAG: &str = "node_guardian_tick_lag_seconds";

/// Values up to each bound, as Prometheus has them.
pub struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    pub fn read(port: u16, name: &str) -> Result<Self, String> {
        let text = client::get(port, "/metrics")?;
        let prefix = format!("{name}_bucket{{le=\"");
        let buckets = text.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        let buckets = buckets.filter_map(|(bound, count)| Some((parse_bound(bound)?, count.parse().ok()?)));
        let buckets: Vec<_> = buckets.collect();
        if buckets.is_empty() { Err(format!("/metrics has no {name}")) } else { Ok(Self(buckets)) }
    }

    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.0.iter().zip(&earlier.0);
        Self(pairs.map(|((bound, now), (_, before))| (*bound, now - before)).collect())
    }

    pub fn count(&self) -> f64 {
        self.0.last().map_or(0.0, |(_, count)| *count)
    }

    /// The upper bound of the bucket that holds it, so never less than it was.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = share * self.count();
        self.0.iter().find(|(_, count)| *count >= rank).map_or(f64::NAN, |(bound, _)| *bound)
    }

    /// The bounds of the bucket that holds it.
    pub fn bucket(&self, share: f64) -> (f64, f64) {
        let most = self.quantile(share);
        let least = self.0.iter().map(|(bound, _)| *bound).take_while(|bound| *bound < most).last();
        (least.unwrap_or(0.0), most)
    }

    /// As if values were spread evenly within each bucket: for comparing two of them, which would else jump by a bucket.
    pub fn between(&self, share: f64) -> f64 {
        let rank = share * self.count();
        let (mut below, mut from) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank {
                let into = if *count > below { (rank - below) / (count - below) } else { 1.0 };
                return from + (bound - from) * into;
            }
            (below, from) = (*count, *bound);
        }
        f64::NAN
    }
}

fn parse_bound(bound: &str) -> Option<f64> {
    if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
}
