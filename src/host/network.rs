//! Interfaces: /proc/net/dev, and the links' speed from the slow thread.
//!
//! Counted are all interfaces except `lo`, whose traffic leaves nothing, and `veth*`, whose traffic is counted at the
//! bridge or device that they lead to; of these a container host has hundreds, and they come and go with every container.

use std::path::Path;
use std::time::Duration;

use super::counter::{Last, TOLERANCE, jumped, percent, rate};
use super::found::Speed;
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines};
use super::shared::Shared;
use super::slot::View;
use super::thrift::{Thrift, thread_time};
use crate::policy::metric::{Family, Metric};
use crate::policy::moment::Moment;
use crate::policy::sample::{Sample, find_from};

#[derive(Debug)]
pub(crate) struct Network {
    dev: Kept,
    names: Vec<String>,
    /// One per name.
    rows: Vec<Row>,
    speeds: View<Vec<Speed>>,
    pub thrift: Thrift,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    read: Option<Raw>,
    last: Last<Raw>,
    rates: Rates,
    speed_bits: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Raw {
    pub received_bytes: u64,
    pub transmitted_bytes: u64,
    pub errors: u64,
    pub drops: u64,
}

/// Per second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    pub received_bytes: Option<f64>,
    pub transmitted_bytes: Option<f64>,
    pub errors: Option<f64>,
    pub drops: Option<f64>,
}

impl Network {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let without = "the metrics of network interfaces are unknown";
        Self {
            dev: Kept::new(proc_root.join("net/dev"), Shape::Records, without),
            names: Vec::new(),
            rows: Vec::new(),
            speeds: View::default(),
            thrift: Thrift::default(),
        }
    }

    /// What is not due keeps its readings.
    pub fn sample(&mut self, now: Moment, reader: &mut Reader, shared: &Shared, sample: &mut Sample) {
        if !self.thrift.is_due(now) {
            return;
        }
        let before = thread_time();
        self.read(now, reader, shared, sample);
        self.thrift.spend(now, thread_time().saturating_sub(before));
    }

    fn read(&mut self, now: Moment, reader: &mut Reader, shared: &Shared, sample: &mut Sample) {
        let (names, rows) = (&mut self.names, &mut self.rows);
        rows.iter_mut().for_each(|row| row.read = None);
        let mut changed = false;
        let read = reader.take(&mut self.dev, now, |bytes| {
            changed = !fill_rows(bytes, names, rows)?;
            if changed {
                rearrange(bytes, names, rows)?;
            }
            Some(())
        });
        if read.is_none() {
            changed |= !rows.is_empty();
            names.clear();
            rows.clear();
        }
        if self.speeds.refresh(&shared.speeds) || changed {
            self.look_up_speeds();
        }
        for (name, row) in self.names.iter().zip(&mut self.rows) {
            let speed = row.speed_bits;
            let rates = row.last.step(now, row.read, |before, now, elapsed| derive(before, now, elapsed, speed));
            if rates == Some(None) {
                reader.blind.doubt(now, "counters of interfaces", || jumped("interface", name));
            }
            row.rates = rates.flatten().unwrap_or_default();
        }
        self.fill(sample);
    }

    fn fill(&self, sample: &mut Sample) {
        sample.set_instances(Family::Network, &self.names);
        for (at, row) in self.rows.iter().enumerate() {
            sample.set_instance(Metric::NetworkReceiveRate, at, row.rates.received_bytes);
            sample.set_instance(Metric::NetworkTransmitRate, at, row.rates.transmitted_bytes);
            sample.set_instance(Metric::NetworkErrorsRate, at, row.rates.errors);
            sample.set_instance(Metric::NetworkDropsRate, at, row.rates.drops);
            match row.speed_bits {
                Some(speed) => sample.set_instance(Metric::NetworkLinkUsedPercent, at, link_used(&row.rates, speed)),
                None => sample.set_inapplicable(Metric::NetworkLinkUsedPercent, at),
            }
        }
    }

    fn look_up_speeds(&mut self) {
        let speeds = &*self.speeds.value;
        for (name, row) in self.names.iter().zip(&mut self.rows) {
            let at = speeds.binary_search_by(|speed| speed.interface.as_str().cmp(name)).ok();
            row.speed_bits = at.and_then(|at| speeds.get(at)).map(|speed| speed.bits);
        }
    }
}

/// Puts each reading where it was last time. False where interfaces came or went: then the rows are to be made anew.
fn fill_rows(bytes: &[u8], names: &[String], rows: &mut [Row]) -> Option<bool> {
    let (mut next, mut same) = (0, true);
    parse(bytes, |name, raw| {
        match rows.get_mut(next).filter(|_| names.get(next).is_some_and(|known| known.as_bytes() == name)) {
            Some(row) => row.read = Some(raw),
            None => same = false,
        }
        next += 1;
    })?;
    Some(same && next == rows.len())
}

/// Makes the rows in the order of the file. It keeps its order where one comes or goes, so each is looked for behind the one
/// before: a thousand interfaces of which one changes take some thousand looks and no million.
fn rearrange(bytes: &[u8], names: &mut Vec<String>, rows: &mut Vec<Row>) -> Option<()> {
    let (old_names, old_rows) = (std::mem::take(names), std::mem::take(rows));
    let mut expected = 0;
    parse(bytes, |name, raw| {
        let known = find_from(&old_names, expected, |known| known.as_bytes() == name);
        expected = known.map_or(expected, |at| at + 1);
        let row = known.and_then(|at| old_rows.get(at)).copied().unwrap_or_default();
        names.push(String::from_utf8_lossy(name).into_owned());
        rows.push(Row { read: Some(raw), ..row });
    })
}

/// The names of all interfaces.
pub(crate) fn names(bytes: &[u8]) -> impl Iterator<Item = String> {
    let colon = |line: &[u8]| line.iter().position(|byte| *byte == b':');
    let named = move |line: &[u8]| Some(String::from_utf8_lossy(line.get(..colon(line)?)?.trim_ascii()).into_owned());
    lines(bytes).skip(2).filter_map(named)
}

/// Shows each interface that counts to `visit`. `None` where the content is not what the kernel writes.
pub fn parse(bytes: &[u8], mut visit: impl FnMut(&[u8], Raw)) -> Option<()> {
    let mut lines = lines(bytes);
    lines.next()?;
    lines.next()?;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii();
        if let Some(raw) = parse_counters(&line[colon + 1..])
            && counts(name)
        {
            visit(name, raw);
        }
    }
    Some(())
}

/// Whether an interface of this name is watched.
#[must_use]
pub(crate) fn counts(name: &[u8]) -> bool {
    !name.is_empty() && name != b"lo" && !name.starts_with(b"veth")
}

fn parse_counters(text: &[u8]) -> Option<Raw> {
    let mut columns = [0u64; 12];
    let mut words = fields(text);
    for column in &mut columns {
        *column = words.number()?;
    }
    let [received_bytes, _, receive_errors, receive_drops, _, _, _, _, transmitted_bytes, _, errors, drops] = columns;
    Some(Raw {
        received_bytes,
        transmitted_bytes,
        errors: errors.checked_add(receive_errors)?,
        drops: drops.checked_add(receive_drops)?,
    })
}

/// No link is faster: IEEE 802.3dj, 1.6 Tbit/s.
const FASTEST_BITS: u64 = 1_600_000_000_000;
/// Some drivers ask their card for its counters every other second only, and then it all comes at once.
const LATE: Duration = Duration::from_secs(2);

/// `None` where a counter went back, or bytes came faster than the link is: another interface has come by this name, and
/// nothing is known of its other counters either.
#[must_use]
pub fn derive(before: &Raw, now: &Raw, elapsed: Duration, speed_bits: Option<u64>) -> Option<Rates> {
    let rates = Rates {
        received_bytes: Some(rate(before.received_bytes, now.received_bytes, elapsed)?),
        transmitted_bytes: Some(rate(before.transmitted_bytes, now.transmitted_bytes, elapsed)?),
        errors: Some(rate(before.errors, now.errors, elapsed)?),
        drops: Some(rate(before.drops, now.drops, elapsed)?),
    };
    let speed = speed_bits.unwrap_or(FASTEST_BITS) as f64 / 8.0;
    let most = TOLERANCE * speed * (elapsed + LATE).as_secs_f64() / elapsed.as_secs_f64();
    let is_possible = |bytes: Option<f64>| bytes.is_none_or(|bytes| bytes <= most);
    (is_possible(rates.received_bytes) && is_possible(rates.transmitted_bytes)).then_some(rates)
}

fn link_used(rates: &Rates, speed_bits: u64) -> Option<f64> {
    let busier = rates.received_bytes?.max(rates.transmitted_bytes?);
    percent(busier * 8.0, speed_bits as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "Inter-|   Receive |  Transmit\n face |bytes packets\n";

    fn line(name: &str, received: u64) -> String {
        format!("{name}: {received} 9 1 2 0 0 0 0 50 9 3 4 0 0 0 0\n")
    }

    fn names(sample: &Sample) -> Vec<&str> {
        sample.instances(Family::Network).iter().map(String::as_str).collect()
    }

    #[test]
    fn interfaces_that_count() {
        let mut found = Vec::new();
        let text = format!("{HEAD}{}{}{}", line("    lo", 1), line("veth12ab", 2), line(" eth0", 7));
        parse(text.as_bytes(), |name, raw| found.push((name.to_vec(), raw))).unwrap();
        let raw = Raw { received_bytes: 7, transmitted_bytes: 50, errors: 4, drops: 6 };
        assert_eq!(found, [(b"eth0".to_vec(), raw)]);
        assert_eq!(parse(b"nonsense\n", |_, _| ()), None);
    }

    #[test]
    fn a_link_is_as_full_as_its_busier_direction() {
        let rates = Rates { received_bytes: Some(25.0), transmitted_bytes: Some(100.0), ..Rates::default() };
        assert_eq!(link_used(&rates, 1600), Some(50.0));
    }

    #[test]
    fn another_interface_by_the_same_name_is_no_traffic() {
        let (second, gigabit) = (Duration::from_secs(1), Some(1_000_000_000));
        let old = Raw { received_bytes: 1000, transmitted_bytes: 500, errors: 3, drops: 7 };
        let recreated = Raw { received_bytes: 900, transmitted_bytes: 90_000_000, errors: 50, drops: 70 };
        assert_eq!(derive(&old, &recreated, second, None), None);
        let busier = Raw { received_bytes: 9_000_000_000, ..old };
        assert_eq!(derive(&old, &busier, second, gigabit), None, "72 times the link");
        assert!(derive(&old, &busier, second, None).is_some(), "nobody knows the link");
        let late = Raw { received_bytes: 250_001_000, ..old };
        let rates = derive(&old, &late, Duration::from_millis(190), gigabit).unwrap();
        assert!(rates.received_bytes > Some(125e6), "two seconds of traffic came at once");
    }

    #[test]
    fn interfaces_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("net")).unwrap();
        let (mut network, mut reader) = (Network::new(folder.path()), Reader::default());
        let (shared, mut sample) = (Shared::default(), Sample::default());
        let mut tick = |seconds, lines: &[String], sample: &mut Sample| {
            std::fs::write(folder.path().join("net/dev"), format!("{HEAD}{}", lines.concat())).unwrap();
            network.sample(Moment::at(Duration::from_secs(seconds)), &mut reader, &shared, sample);
        };
        tick(1, &[line("a", 0), line("b", 0), line("c", 0)], &mut sample);
        assert_eq!(sample.get(Metric::NetworkReceiveRate), None);
        tick(2, &[line("a", 10), line("c", 30), line("d", 40)], &mut sample);
        assert_eq!(names(&sample), ["a", "c", "d"]);
        let received: Vec<_> = (0..3).map(|row| sample.instance(Metric::NetworkReceiveRate, row)).collect();
        assert_eq!(received, [Some(10.0), Some(30.0), None]);
        tick(3, &[line("a", 5), line("b", 9)], &mut sample);
        assert_eq!(names(&sample), ["a", "b"]);
        assert_eq!(sample.instance(Metric::NetworkReceiveRate, 0), None, "the counter was reset");
        tick(4, &[], &mut sample);
        assert!(names(&sample).is_empty());
    }
}
