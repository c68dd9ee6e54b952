//! Connections of the node as a whole: counts at every tick from /proc/net/sockstat; what the TCP stack counts, from
//! /proc/net/snmp, /proc/net/netstat and /proc/net/softnet_stat; the connection-tracking table. Per port: the slow thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::counter::{Last, percent, rate};
use super::found::Port;
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, hexadecimal, lines, named, number};
use super::shared::Shared;
use super::slot::View;
use crate::policy::metric::{Family, Metric};
use crate::policy::moment::Moment;
use crate::policy::sample::Sample;

/// Modules are seldom loaded, and to look costs a microsecond.
const LOOK_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Sockets {
    sockstat: Kept,
    snmp: Kept,
    netstat: Kept,
    softnet: Kept,
    tracked: Tracked,
    last_tcp: Last<Tcp>,
    last_listen: Last<Listen>,
    last_softnet: Last<Softnet>,
    ports: View<Vec<Arc<Port>>>,
    port_names: Vec<String>,
}

/// Of /proc/net/sockstat; IPv4 and IPv6 together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub orphan: u64,
    pub time_wait: u64,
}

/// Of /proc/net/snmp; IPv4 and IPv6 together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tcp {
    pub established: Option<u64>,
    /// Without those sent again.
    pub sent: Option<u64>,
    pub retransmitted: Option<u64>,
}

/// Of /proc/net/netstat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Listen {
    pub overflows: Option<u64>,
    pub drops: Option<u64>,
}

/// Of /proc/net/softnet_stat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Softnet {
    pub drops: u64,
    pub cpus: u32,
}

impl Sockets {
    #[must_use]
    pub fn new(proc_root: &Path) -> Self {
        let whole = |name: &str, without| Kept::new(proc_root.join(name), Shape::Whole, without);
        let softnet = "network.softnet_drops_rate is unknown";
        Self {
            sockstat: whole("net/sockstat", "connections.time_wait and connections.orphan are unknown"),
            snmp: whole("net/snmp", "connections.established and network.retransmit_percent are unknown"),
            netstat: whole(
                "net/netstat",
                "connections.listen_overflow_rate and connections.listen_drops_rate are unknown",
            ),
            softnet: Kept::new(proc_root.join("net/softnet_stat"), Shape::Records, softnet),
            tracked: Tracked::new(proc_root),
            last_tcp: Last::default(),
            last_listen: Last::default(),
            last_softnet: Last::default(),
            ports: View::default(),
            port_names: Vec::new(),
        }
    }

    pub(crate) fn sample_counts(&mut self, now: Moment, reader: &mut Reader, sample: &mut Sample) {
        let counts = reader.take(&mut self.sockstat, now, parse_sockstat);
        sample.set(Metric::ConnectionsOrphan, counts.map(|counts| counts.orphan as f64));
        sample.set(Metric::ConnectionsTimeWait, counts.map(|counts| counts.time_wait as f64));
    }

    pub(crate) fn sample_rates(&mut self, now: Moment, reader: &mut Reader, shared: &Shared, sample: &mut Sample) {
        let tcp = reader.take(&mut self.snmp, now, parse_snmp);
        let retransmits = self.last_tcp.step(now, tcp, |before, now, _| retransmit_percent(before, now));
        let retransmits = expect_to_grow(now, reader, retransmits).flatten();
        sample.set(Metric::ConnectionsEstablished, tcp.and_then(|tcp| tcp.established).map(|count| count as f64));
        sample.set(Metric::NetworkRetransmitPercent, retransmits);

        let listen = reader.take(&mut self.netstat, now, parse_netstat);
        let rates = self.last_listen.step(now, listen, listen_rates);
        let rates = expect_to_grow(now, reader, rates);
        sample.set(Metric::ConnectionsListenOverflowRate, rates.and_then(|(overflows, _)| overflows));
        sample.set(Metric::ConnectionsListenDropsRate, rates.and_then(|(_, drops)| drops));

        let softnet = reader.take(&mut self.softnet, now, parse_softnet);
        let drops = self.last_softnet.step(now, softnet, softnet_rate);
        let drops = expect_to_grow(now, reader, drops).flatten();
        sample.set(Metric::NetworkSoftnetDropsRate, drops);

        match self.tracked.read(now, reader) {
            Some(count) => {
                let share = count.zip(shared.conntrack_limit.get());
                let used = share.and_then(|(count, limit)| percent(count as f64, limit));
                sample.set(Metric::ConnectionsUsedPercent, used);
            }
            None => sample.set_impossible(Metric::ConnectionsUsedPercent),
        }
    }

    /// Copies what the slow thread knows of ports.
    pub(crate) fn sample_ports(&mut self, shared: &Shared, now_ms: u64, sample: &mut Sample) {
        if self.ports.refresh(&shared.ports) {
            self.port_names = self.ports.value.iter().map(|port| port.name.clone()).collect();
        }
        sample.set_instances(Family::Port, &self.port_names);
        let age = Duration::from_millis(now_ms.saturating_sub(shared.ports_read_ms.load(Ordering::Relaxed)));
        for (row, port) in self.ports.value.iter().enumerate() {
            sample.set_instance_read(Metric::PortBacklogPercent, row, port.backlog_percent.get(), age);
            let counted = [
                (Metric::PortEstablished, port.established.get()),
                (Metric::PortListenDropsRate, port.drops_rate.get()),
            ];
            for (metric, value) in counted {
                match value {
                    // Not counted yet, or never by this kernel: nobody is to wait for it.
                    None if port.backlog_percent.get().is_some() => sample.set_inapplicable(metric, row),
                    value => sample.set_instance_read(metric, row, value, age),
                }
            }
        }
    }
}

/// The connections that the kernel tracks. Its module is loaded when somebody asks for it, or never.
#[derive(Debug)]
struct Tracked {
    path: PathBuf,
    count: Option<Kept>,
    look_at: Moment,
}

impl Tracked {
    fn new(proc_root: &Path) -> Self {
        let path = proc_root.join("sys/net/netfilter/nf_conntrack_count");
        Self { path, count: None, look_at: Moment::ORIGIN }
    }

    /// `None` where connections are not tracked.
    fn read(&mut self, now: Moment, reader: &mut Reader) -> Option<Option<u64>> {
        if self.count.is_none() && now >= self.look_at {
            let first = self.look_at == Moment::ORIGIN;
            self.look_at = now + LOOK_EVERY;
            let kept = || Kept::new(self.path.clone(), Shape::Whole, "connections.used_percent is unknown");
            self.count = self.path.exists().then(kept);
            if first && self.count.is_none() {
                tracing::debug!(
                    "this node tracks no connections: rules about connections.used_percent are not applicable"
                );
            }
        }
        let count = self.count.as_mut()?;
        Some(reader.take(count, now, |bytes| number(bytes.trim_ascii())))
    }
}

#[must_use]
pub fn parse_sockstat(bytes: &[u8]) -> Option<Counts> {
    let mut words = fields(lines(bytes).find(|line| line.starts_with(b"TCP:"))?);
    words.next()?;
    let (mut orphan, mut time_wait) = (None, None);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        match name {
            b"orphan" => orphan = number(value),
            b"tw" => time_wait = number(value),
            _ => {}
        }
    }
    Some(Counts { orphan: orphan?, time_wait: time_wait? })
}

#[must_use]
pub fn parse_snmp(bytes: &[u8]) -> Option<Tcp> {
    let [established, sent, retransmitted] = named(bytes, b"Tcp:", [b"CurrEstab", b"OutSegs", b"RetransSegs"])?;
    Some(Tcp { established, sent, retransmitted })
}

#[must_use]
pub fn parse_netstat(bytes: &[u8]) -> Option<Listen> {
    let [overflows, drops] = named(bytes, b"TcpExt:", [b"ListenOverflows", b"ListenDrops"])?;
    Some(Listen { overflows, drops })
}

/// A line per online CPU, the second column is what was dropped.
#[must_use]
pub fn parse_softnet(bytes: &[u8]) -> Option<Softnet> {
    let mut softnet = Softnet::default();
    for line in lines(bytes) {
        softnet.drops = softnet.drops.checked_add(hexadecimal(fields(line).nth(1)?)?)?;
        softnet.cpus = softnet.cpus.checked_add(1)?;
    }
    Some(softnet)
}

/// `None` within is a counter that went back: of 32 bits and full, or of another network namespace.
fn expect_to_grow<T>(now: Moment, reader: &mut Reader, derived: Option<Option<T>>) -> Option<T> {
    if matches!(derived, Some(None)) {
        let why = "those of the TCP stack went back: rates are unknown for such a sample";
        reader.blind.doubt(now, "counters of connections", || why.to_owned());
    }
    derived.flatten()
}

/// Of each counter that both readings have. `None` where one went back.
fn gained<const N: usize>(before: [Option<u64>; N], now: [Option<u64>; N]) -> Option<[Option<u64>; N]> {
    let mut gained = [None; N];
    for (gain, pair) in gained.iter_mut().zip(before.into_iter().zip(now)) {
        if let (Some(before), Some(now)) = pair {
            *gain = Some(now.checked_sub(before)?);
        }
    }
    Some(gained)
}

/// Linux counts a segment that is sent again in RetransSegs only, so all that went out is the sum.
fn retransmit_percent(before: &Tcp, now: &Tcp) -> Option<Option<f64>> {
    let [again, first] = gained([before.retransmitted, before.sent], [now.retransmitted, now.sent])?;
    Some(again.zip(first).map(|(again, first)| percent(again as f64, again as f64 + first as f64).unwrap_or(0.0)))
}

type ListenRates = (Option<f64>, Option<f64>);

fn listen_rates(before: &Listen, now: &Listen, elapsed: Duration) -> Option<ListenRates> {
    let [overflows, drops] = gained([before.overflows, before.drops], [now.overflows, now.drops])?;
    let per_second = |gain: Option<u64>| rate(0, gain?, elapsed);
    Some((per_second(overflows), per_second(drops)))
}

/// The sum jumps when a CPU comes or goes.
fn softnet_rate(before: &Softnet, now: &Softnet, elapsed: Duration) -> Option<Option<f64>> {
    if before.cpus != now.cpus {
        return Some(None);
    }
    rate(before.drops, now.drops, elapsed).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_sockets() {
        let text = b"sockets: used 14\nTCP: inuse 1 orphan 2 tw 3 alloc 1 mem 0\nUDP: inuse 0 mem 0\n";
        assert_eq!(parse_sockstat(text), Some(Counts { orphan: 2, time_wait: 3 }));
        assert_eq!(parse_sockstat(b"TCP: inuse 1 orphan\n"), None);
    }

    #[test]
    fn counters_of_the_tcp_stack() {
        let snmp = b"Tcp: MaxConn CurrEstab OutSegs RetransSegs\nTcp: -1 5 900 100\n";
        let tcp = Tcp { established: Some(5), sent: Some(900), retransmitted: Some(100) };
        assert_eq!(parse_snmp(snmp), Some(tcp));
        let none = Tcp { sent: Some(0), retransmitted: Some(0), ..tcp };
        assert_eq!(retransmit_percent(&none, &tcp), Some(Some(10.0)));
        assert_eq!(retransmit_percent(&Tcp::default(), &tcp), Some(None), "they were not counted before");
        assert_eq!(retransmit_percent(&tcp, &tcp), Some(Some(0.0)), "nothing was sent, so nothing was sent again");
        assert_eq!(retransmit_percent(&tcp, &none), None);
        let netstat = b"TcpExt: A ListenOverflows ListenDrops\nTcpExt: 0 7 9\nIpExt: X\nIpExt: 1\n";
        let listen = Listen { overflows: Some(7), drops: Some(9) };
        assert_eq!(parse_netstat(netstat), Some(listen));
        let reset = Listen { overflows: Some(8), drops: Some(1) };
        assert_eq!(listen_rates(&listen, &reset, Duration::from_secs(1)), None, "the other one is no rate either");
    }

    #[test]
    fn drops_of_all_cpus() {
        let softnet = parse_softnet(b"00000014 0000000f 00000000\n000013c9 00000001\n").unwrap();
        assert_eq!(softnet, Softnet { drops: 16, cpus: 2 });
        let second = Duration::from_secs(1);
        assert_eq!(softnet_rate(&Softnet::default(), &softnet, second), Some(None), "CPUs came");
        assert_eq!(softnet_rate(&Softnet { drops: 6, cpus: 2 }, &softnet, second), Some(Some(10.0)));
        assert_eq!(softnet_rate(&Softnet { drops: 60, cpus: 2 }, &softnet, second), None);
        assert_eq!(parse_softnet(b"00000014 zz\n"), None);
    }
}
