//! Memory and swap: /proc/meminfo, the one file that is read at the fastest pace. Kernels before 3.14 name no
//! MemAvailable: it is estimated as the kernel does it (commit 34e431b0ae39), with the node's low watermark taken to be
//! 5/4 of vm.min_free_kbytes as in procps.

use std::path::Path;

use super::arc::Arc;
use super::counter::percent;
use super::fuse::Fuse;
use super::kept::{Kept, Reader, Scope, Shape};
use super::scan::{fields, lines, number};
use crate::policy::metric::Metric;
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

#[derive(Debug)]
pub(crate) struct Memory {
    meminfo: Kept,
    low_watermark_bytes: u64,
    arc: Arc,
    swapless: bool,
}

/// In bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Raw {
    pub total: u64,
    pub free: u64,
    pub available: Option<u64>,
    pub page_cache: u64,
    pub slab_reclaimable: u64,
    pub swap_total: Option<u64>,
    pub swap_free: Option<u64>,
    pub dirty: Option<u64>,
    /// Set aside as huge pages, of all sizes where the kernel says (since Linux 4.19), used or not: no other memory is made
    /// of them, and they are not part of what is available.
    pub huge: u64,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Derived {
    pub available_percent: Option<f64>,
    pub available_bytes: Option<f64>,
    pub used_percent: Option<f64>,
    pub swap_used_percent: Option<f64>,
    pub dirty_bytes: Option<f64>,
}

impl Memory {
    #[must_use]
    pub fn new(proc_root: &Path, fuse: &Fuse) -> Self {
        let without =
            "memory.used_percent, memory.available_percent, memory.swap_used_percent and their kin are unknown";
        let min_free = std::fs::read(proc_root.join("sys/vm/min_free_kbytes")).ok();
        let min_free = min_free.and_then(|text| kibibytes(&text)).unwrap_or(0);
        Self {
            meminfo: Kept::new(proc_root.join("meminfo"), Shape::Whole, without),
            low_watermark_bytes: min_free.saturating_add(min_free / 4),
            arc: Arc::new(proc_root, fuse),
            swapless: false,
        }
    }

    pub fn sample(&mut self, now: Moment, scope: Scope, reader: &mut Reader, sample: &mut Sample) {
        let raw = reader.take(&mut self.meminfo, now, parse);
        if scope == Scope::Full {
            self.arc.sample(now, reader);
        }
        let kernels = Kernel { low_watermark: self.low_watermark_bytes, arc: self.arc.reclaimable_bytes() };
        let derived = raw.map(|raw| derive(&raw, kernels)).unwrap_or_default();
        sample.set(Metric::MemoryAvailablePercent, derived.available_percent);
        sample.set(Metric::MemoryAvailableBytes, derived.available_bytes);
        sample.set(Metric::MemoryUsedPercent, derived.used_percent);
        sample.set(Metric::MemorySwapUsedPercent, derived.swap_used_percent);
        sample.set(Metric::MemoryDirtyBytes, derived.dirty_bytes);
        if let Some(raw) = &raw {
            self.note_swap(raw, sample);
        }
    }

    fn note_swap(&mut self, raw: &Raw, sample: &mut Sample) {
        let swapless = raw.swap_total == Some(0);
        if swapless {
            sample.set_impossible(Metric::MemorySwapUsedPercent);
        }
        if swapless && !self.swapless {
            tracing::debug!("this node has no swap: rules about memory.swap_used_percent are not applicable");
        }
        self.swapless = swapless;
    }
}

/// Of /proc/meminfo. `None` without a total and a free.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Raw> {
    let mut raw = Raw::default();
    let (mut total, mut free, mut pages) = (None, None, 0);
    for line in lines(bytes) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, rest) = line.split_at(colon);
        let value = || kibibytes(&rest[1..]);
        match name {
            b"MemTotal" => total = value(),
            b"MemFree" => free = value(),
            b"MemAvailable" => raw.available = value(),
            b"Active(file)" | b"Inactive(file)" => {
                raw.page_cache = raw.page_cache.saturating_add(value().unwrap_or(0));
            }
            b"SwapTotal" => raw.swap_total = value(),
            b"SwapFree" => raw.swap_free = value(),
            b"Dirty" => raw.dirty = value(),
            b"SReclaimable" => raw.slab_reclaimable = value().unwrap_or(0),
            b"HugePages_Total" => pages = number(fields(&rest[1..]).next().unwrap_or_default()).unwrap_or(0),
            b"Hugepagesize" => raw.huge = pages.saturating_mul(value().unwrap_or(0)),
            b"Hugetlb" => raw.huge = value().unwrap_or(0),
            _ => {}
        }
    }
    Some(Raw { total: total.filter(|total| *total > 0)?, free: free?, ..raw })
}

/// What meminfo does not say, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kernel {
    pub low_watermark: u64,
    /// What the cache of ZFS gives back.
    pub arc: u64,
}

#[must_use]
pub fn derive(raw: &Raw, kernel: Kernel) -> Derived {
    let total = raw.total.saturating_sub(raw.huge).max(1);
    let available = raw.available.unwrap_or_else(|| estimate(raw, kernel.low_watermark));
    let available = available.saturating_add(kernel.arc).min(total);
    let available_percent = percent(available as f64, total as f64);
    let swap = raw.swap_total.zip(raw.swap_free);
    Derived {
        available_percent,
        available_bytes: Some(available as f64),
        used_percent: available_percent.map(|available| 100.0 - available),
        swap_used_percent: swap.and_then(|(total, free)| percent(total.saturating_sub(free) as f64, total as f64)),
        dirty_bytes: raw.dirty.map(|dirty| dirty as f64),
    }
}

/// Free memory above the watermark, and what of the page cache and the slab would not be missed.
fn estimate(raw: &Raw, low_watermark_bytes: u64) -> u64 {
    let spare = |size: u64| size - (size / 2).min(low_watermark_bytes);
    let free = raw.free.saturating_sub(low_watermark_bytes);
    free.saturating_add(spare(raw.page_cache)).saturating_add(spare(raw.slab_reclaimable))
}

fn kibibytes(text: &[u8]) -> Option<u64> {
    number(fields(text).next()?)?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODERN: &[u8] = b"MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  400 kB\nBuffers:  1 kB\n\
        Active(file):  10 kB\nInactive(file):  20 kB\nSwapTotal:  200 kB\nSwapFree:  150 kB\nDirty:  7 kB\nSReclaimable:  30 kB\n";

    #[test]
    fn what_is_available() {
        let derived = derive(&parse(MODERN).unwrap(), Kernel::default());
        assert_eq!(derived.available_bytes, Some(400.0 * 1024.0));
        assert_eq!((derived.available_percent, derived.used_percent), (Some(40.0), Some(60.0)));
        assert_eq!((derived.swap_used_percent, derived.dirty_bytes), (Some(25.0), Some(7.0 * 1024.0)));
    }

    #[test]
    fn old_kernels_are_estimated_as_the_kernel_does() {
        let raw = Raw { total: 1000, free: 100, page_cache: 300, slab_reclaimable: 30, ..Raw::default() };
        assert_eq!(estimate(&raw, 20), 80 + 280 + 15);
        assert_eq!(estimate(&raw, 5000), 150 + 15);
        assert_eq!(derive(&raw, Kernel { low_watermark: 20, arc: 0 }).available_percent, Some(37.5));
    }

    #[test]
    fn what_is_set_aside_or_given_back_is_not_used() {
        let huge = "HugePages_Total:      150\nHugePages_Free:        0\nHugepagesize:       2 kB\n";
        let text = |more: &str| format!("MemTotal: 1000 kB\nMemFree: 90 kB\nMemAvailable: 100 kB\n{more}");
        let available = |text: String, arc: u64| {
            let derived = derive(&parse(text.as_bytes()).unwrap(), Kernel { low_watermark: 0, arc: arc * 1024 });
            (derived.available_percent.unwrap(), derived.available_bytes.unwrap() / 1024.0)
        };
        assert_eq!(available(text(""), 0), (10.0, 100.0));
        assert_eq!(available(text("Hugetlb:  800 kB\n"), 0), (50.0, 100.0), "of the 200 kB that there are for others");
        assert_eq!(available(text(huge), 0).0.round(), 14.0, "before Linux 4.19: of one size");
        assert_eq!(available(text(&format!("{huge}Hugetlb:  800 kB\n")), 0).0, 50.0);
        assert_eq!(available(text(""), 400), (50.0, 500.0));
        assert_eq!(available(text("Hugetlb:  5000 kB\n"), 0).0, 100.0, "nonsense is bounded");
    }

    #[test]
    fn no_swap_is_unknown_and_nonsense_is_bounded() {
        let raw =
            Raw { total: 10, free: 1, available: Some(99), swap_total: Some(0), swap_free: Some(0), ..Raw::default() };
        let derived = derive(&raw, Kernel::default());
        assert_eq!((derived.available_percent, derived.swap_used_percent), (Some(100.0), None));
        assert_eq!(parse(b"MemTotal: 0 kB\nMemFree: 0 kB\n"), None);
        assert_eq!(parse(b"MemTotal: 18446744073709551615 kB\nMemFree: 1 kB\n"), None);
    }
}
