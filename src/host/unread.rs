//! Instances that cannot be read (a mount that hangs, an interface without counters) are named, because the worst of the
//! others is what rules go by then. It allocates only when that changes.

use super::listeners::PORTS;
use crate::policy::family::Selector;
use crate::policy::metric::{Family, Metric};
use crate::policy::sample::Sample;
use crate::status::BlindSpot;

#[derive(Debug, Default)]
pub struct Unread {
    /// Of what cannot be read, so that a calm tick sees that it is the same as before.
    mark: u64,
    changed: bool,
    spots: Vec<BlindSpot>,
}

impl Unread {
    pub fn look(&mut self, sample: &Sample) {
        let mark = mark(sample);
        if mark == self.mark {
            return;
        }
        self.mark = mark;
        self.changed = true;
        self.spots.clear();
        for (metric, row) in unread(sample) {
            self.note(sample, metric, row);
        }
    }

    /// Whether something else cannot be read than at the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// All but what is told already, of the instance or of all ports at once.
    pub fn beyond<'s>(&'s self, told: &'s [BlindSpot]) -> impl Iterator<Item = &'s BlindSpot> {
        let covers = |told: &BlindSpot, what: &str| {
            told.what == what || told.what == PORTS && what.starts_with(Family::Port.prefix())
        };
        self.spots.iter().filter(move |spot| !told.iter().any(|told| covers(told, &spot.what)))
    }

    fn note(&mut self, sample: &Sample, metric: Metric, row: usize) {
        let family = metric.family();
        let instance = &sample.instances(family)[row];
        // Ports are numbers, the others are quoted.
        let quote = if family.selector() == Selector::Port { "" } else { "\"" };
        let what = format!("{}[{quote}{instance}{quote}]", family.prefix());
        let name = metric.name().rsplit('.').next().unwrap_or_default();
        match self.spots.iter_mut().find(|spot| spot.what == what) {
            Some(spot) => spot.why = format!("{name}, {}", spot.why),
            None => {
                self.spots.push(BlindSpot { what, why: format!("{name} cannot be read: the others count without it") })
            }
        }
    }
}

/// What an application reports of itself is told where its control is.
fn unread(sample: &Sample) -> impl Iterator<Item = (Metric, usize)> + '_ {
    sample.unread().filter(|(metric, _)| metric.family() != Family::App)
}

/// FNV-1a over metrics and rows.
fn mark(sample: &Sample) -> u64 {
    let step = |mark: u64, part: u64| (mark ^ part).wrapping_mul(0x0000_0100_0000_01b3);
    unread(sample).fold(0, |mark, (metric, row)| step(step(mark + 1, metric as u64), row as u64))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::moment::Moment;

    #[test]
    fn what_cannot_be_read_is_named_once_and_until_it_can() {
        let (mut unread, mut sample) = (Unread::default(), Sample::default());
        sample.set_instances(Family::Disk, &["/", "/mnt"]);
        for metric in Metric::ALL.iter().filter(|metric| metric.family() == Family::Disk) {
            sample.set_instance(*metric, 0, Some(1.0));
            sample.set_instance(*metric, 1, Some(1.0));
        }
        let changes = |unread: &mut Unread, sample: &Sample| {
            unread.look(sample);
            unread.take_changed()
        };
        assert!(!changes(&mut unread, &sample));
        sample.set_instance(Metric::DiskUsedPercent, 1, None);
        sample.set_instance(Metric::DiskAwait, 1, None);
        assert!(!changes(&mut unread, &sample), "it is waited for");
        sample.at = Moment::at(Duration::from_secs(10));
        assert!(changes(&mut unread, &sample) && !changes(&mut unread, &sample));
        let why = "await, used_percent cannot be read: the others count without it";
        let spot = BlindSpot { what: "disk[\"/mnt\"]".into(), why: why.into() };
        assert_eq!(unread.beyond(&[]).collect::<Vec<_>>(), [&spot]);
        assert_eq!(unread.beyond(std::slice::from_ref(&spot)).count(), 0, "it is told already");
        sample.set_instance(Metric::DiskUsedPercent, 1, Some(3.0));
        sample.set_instance(Metric::DiskAwait, 1, Some(3.0));
        assert!(changes(&mut unread, &sample) && unread.beyond(&[]).count() == 0);
    }
}
