//! The closed vocabulary of metrics: every name that a condition may use, with its unit and which way is worse.
//! A name that is not here is a mistake in the configuration, never a metric that is missing at run time.

pub use super::family::Family;
use super::resource::Resource;
use super::unit::Unit;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Worse {
    High,
    Low,
}

#[derive(Debug)]
pub struct Description {
    pub metric: Metric,
    pub name: &'static str,
    pub family: Family,
    pub unit: Unit,
    pub worse: Worse,
    /// One sentence with the kernel's source, shown by `node-guardian metrics` and as Prometheus help.
    pub help: &'static str,
}

macro_rules! vocabulary {
    ($($variant:ident = $name:literal, $family:ident, $unit:ident, $worse:ident, $help:literal;)*) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Metric { $($variant),* }

        impl Metric {
            pub const ALL: &'static [Metric] = &[$(Metric::$variant),*];
        }

        static DESCRIPTIONS: &[Description] = &[$(Description {
            metric: Metric::$variant,
            name: $name,
            family: Family::$family,
            unit: Unit::$unit,
            worse: Worse::$worse,
            help: $help,
        }),*];
    };
}

vocabulary! {
    CpuUsedPercent = "cpu.used_percent", Node, Percent, High, "CPU time of work that is not niced, of all cores that may be used, since the last sample (/proc/stat; iowait counts as idle, as in top). Work of the scheduler's idle class counts here unless it is niced too: the kernel books it so.";
    CpuNicePercent = "cpu.nice_percent", Node, Percent, High, "CPU time of niced work, which makes way for all other (/proc/stat nice).";
    CpuIowaitPercent = "cpu.iowait_percent", Node, Percent, High, "CPU time idle while a disk request was outstanding (/proc/stat).";
    CpuStealPercent = "cpu.steal_percent", Node, Percent, High, "CPU time that the hypervisor gave to somebody else (/proc/stat).";
    CpuLoad1PerCore = "cpu.load1_per_core", Node, Ratio, High, "One-minute load average divided by online CPUs (/proc/loadavg).";
    CpuThrottledPercent = "cpu.throttled_percent", Node, Percent, High, "Scheduler periods in which our own cgroup's CPU limit throttled it (cpu.stat nr_throttled of nr_periods).";
    CpuWaitingPercent = "cpu.waiting_percent", Node, Percent, High, "Share of the last second in which some task waited for a CPU (/proc/pressure/cpu total). Where the kernel does not count that: tasks that want to run beyond one per CPU, of the CPUs (/proc/loadavg).";
    CpuPressureSomeAvg10 = "cpu.pressure.some.avg10", Node, Percent, High, "Share of the last 10 s in which some task waited for a CPU (/proc/pressure/cpu).";
    CpuPressureSomeAvg60 = "cpu.pressure.some.avg60", Node, Percent, High, "Share of the last 60 s in which some task waited for a CPU (/proc/pressure/cpu).";
    MemoryUsedPercent = "memory.used_percent", Node, Percent, High, "Memory that is not available: 100 % less memory.available_percent (/proc/meminfo).";
    MemoryAvailablePercent = "memory.available_percent", Node, Percent, Low, "memory.available_bytes, of MemTotal less huge pages that were set aside (/proc/meminfo).";
    MemoryAvailableBytes = "memory.available_bytes", Node, Bytes, Low, "MemAvailable, and the part of the ZFS cache that can be freed (/proc/meminfo, /proc/spl/kstat/zfs/arcstats).";
    MemorySwapUsedPercent = "memory.swap_used_percent", Node, Percent, High, "Swap in use, of all swap; not applicable where there is none (/proc/meminfo).";
    MemorySwapInRate = "memory.swap_in_rate", Node, BytesPerSecond, High, "Bytes read back from swap (/proc/vmstat pswpin).";
    MemoryDirtyBytes = "memory.dirty_bytes", Node, Bytes, High, "Pages waiting to be written to disk (/proc/meminfo Dirty).";
    MemoryOomKills = "memory.oom_kills", Node, Count, High, "Processes that the kernel's OOM killer has ended since boot (/proc/vmstat oom_kill).";
    MemoryPressureSomeAvg10 = "memory.pressure.some.avg10", Node, Percent, High, "Share of the last 10 s in which some task waited for memory (/proc/pressure/memory).";
    MemoryPressureSomeAvg60 = "memory.pressure.some.avg60", Node, Percent, High, "Share of the last 60 s in which some task waited for memory (/proc/pressure/memory).";
    MemoryPressureFullAvg10 = "memory.pressure.full.avg10", Node, Percent, High, "Share of the last 10 s in which all tasks waited for memory (/proc/pressure/memory).";
    MemoryPressureFullAvg60 = "memory.pressure.full.avg60", Node, Percent, High, "Share of the last 60 s in which all tasks waited for memory (/proc/pressure/memory).";
    DiskUsedPercent = "disk.used_percent", Disk, Percent, High, "Space in use as df counts it: used of used plus available to users; none where a file system was mounted read-only (statvfs).";
    DiskFreeBytes = "disk.free_bytes", Disk, Bytes, Low, "Space available to users (statvfs f_bavail).";
    DiskInodesUsedPercent = "disk.inodes_used_percent", Disk, Percent, High, "Inodes in use; 0 where the file system has no fixed number, since it cannot run out (statvfs).";
    DiskReadRate = "disk.read_rate", Disk, BytesPerSecond, High, "Bytes read from the device below the mount (/proc/diskstats).";
    DiskWriteRate = "disk.write_rate", Disk, BytesPerSecond, High, "Bytes written to the device below the mount (/proc/diskstats).";
    DiskBusyPercent = "disk.busy_percent", Disk, Percent, High, "Time in which the device had requests in flight (/proc/diskstats io_ticks).";
    DiskAwait = "disk.await", Disk, Seconds, High, "Mean time of a request from queueing to completion since the last sample; 0 where there was none (/proc/diskstats).";
    DiskReadOnly = "disk.read_only", Disk, Flag, High, "1 where a file system that was mounted writable is read-only now.";
    DiskPressureSomeAvg10 = "disk.pressure.some.avg10", Node, Percent, High, "Share of the last 10 s in which some task waited for I/O (/proc/pressure/io).";
    DiskPressureSomeAvg60 = "disk.pressure.some.avg60", Node, Percent, High, "Share of the last 60 s in which some task waited for I/O (/proc/pressure/io).";
    DiskPressureFullAvg10 = "disk.pressure.full.avg10", Node, Percent, High, "Share of the last 10 s in which all tasks waited for I/O (/proc/pressure/io).";
    DiskPressureFullAvg60 = "disk.pressure.full.avg60", Node, Percent, High, "Share of the last 60 s in which all tasks waited for I/O (/proc/pressure/io).";
    NetworkReceiveRate = "network.receive_rate", Network, BytesPerSecond, High, "Bytes received (/proc/net/dev).";
    NetworkTransmitRate = "network.transmit_rate", Network, BytesPerSecond, High, "Bytes sent (/proc/net/dev).";
    NetworkErrorsRate = "network.errors_rate", Network, PerSecond, High, "Receive and transmit errors (/proc/net/dev).";
    NetworkDropsRate = "network.drops_rate", Network, PerSecond, High, "Packets dropped on receive and transmit (/proc/net/dev).";
    NetworkLinkUsedPercent = "network.link_used_percent", Network, Percent, High, "The busier direction, of the link's speed; unknown where the driver names no speed (/sys/class/net/*/speed).";
    NetworkRetransmitPercent = "network.retransmit_percent", Node, Percent, High, "TCP segments sent again, of those sent, since the last sample (/proc/net/snmp).";
    NetworkSoftnetDropsRate = "network.softnet_drops_rate", Node, PerSecond, High, "Packets that the kernel dropped because its receive queue was full (/proc/net/softnet_stat).";
    ConnectionsEstablished = "connections.established", Node, Count, High, "TCP connections in ESTABLISHED or CLOSE_WAIT, IPv4 and IPv6 (/proc/net/snmp CurrEstab).";
    ConnectionsTimeWait = "connections.time_wait", Node, Count, High, "TCP connections in TIME_WAIT (/proc/net/sockstat tw).";
    ConnectionsOrphan = "connections.orphan", Node, Count, High, "TCP connections that no process holds any more (/proc/net/sockstat orphan).";
    ConnectionsListenOverflowRate = "connections.listen_overflow_rate", Node, PerSecond, High, "Times an accept queue was full (/proc/net/netstat ListenOverflows).";
    ConnectionsListenDropsRate = "connections.listen_drops_rate", Node, PerSecond, High, "Connection requests dropped for any reason (/proc/net/netstat ListenDrops).";
    ConnectionsUsedPercent = "connections.used_percent", Node, Percent, High, "Connection-tracking table in use; not applicable where nf_conntrack is not loaded (/proc/sys/net/netfilter).";
    PortEstablished = "connections.established", Port, Count, High, "Established TCP connections to a listening port (sock_diag; of the ports that rules name).";
    PortBacklogPercent = "connections.backlog_percent", Port, Percent, High, "Accept queue of a listening port, of its limit (sock_diag, at a slower pace).";
    PortListenDropsRate = "connections.listen_drops_rate", Port, PerSecond, High, "Connection requests dropped at a listening port, between the last two reads (sock_diag SK_MEMINFO_DROPS, at a slower pace).";
    AppNumber = "app.number", App, Count, High, "What an application reports of itself over its control socket, by its own name: app[\"api\"].inflight. Its name says the unit; this one is every other.";
    AppBytes = "app.bytes", App, Bytes, High, "The same where its name ends in _bytes: app[\"api\"].cache_bytes.";
    AppPercent = "app.percent", App, Percent, High, "The same where its name ends in _percent.";
    AppSeconds = "app.seconds", App, Seconds, High, "The same where its name ends in _seconds.";
    AppPerSecond = "app.per_second", App, PerSecond, High, "The same where its name ends in _per_second.";
    FilesUsedPercent = "files.used_percent", Node, Percent, High, "Open file handles, of the node's limit (/proc/sys/fs/file-nr).";
    ProcessesCount = "processes.count", Node, Count, High, "Processes on the node (entries of /proc, at a slower pace).";
    ProcessesUsedPercent = "processes.used_percent", Node, Percent, High, "Tasks, of the smaller of the kernel's pid_max and threads-max (/proc/loadavg).";
    Threads = "threads", Node, Count, High, "Tasks on the node, threads included (/proc/loadavg).";
    GuardianCpuPercent = "guardian.cpu_percent", Node, Percent, High, "CPU time of node-guardian itself, of one core, since the last sample.";
    GuardianResidentBytes = "guardian.resident_bytes", Node, Bytes, High, "Resident memory of node-guardian itself (/proc/self/statm).";
    GuardianTickSeconds = "guardian.tick_seconds", Node, Seconds, High, "Time from the wake-up to the end of the last tick: sampling and deciding.";
}

const COUNT: usize = DESCRIPTIONS.len();

/// Position of each metric among those of its own family, so that a sample stores each family densely.
static COLUMNS: [u8; COUNT] = columns();

const fn columns() -> [u8; COUNT] {
    let mut columns = [0u8; COUNT];
    let mut at = 0;
    while at < COUNT {
        let mut before = 0;
        let mut column = 0;
        while before < at {
            if DESCRIPTIONS[before].family as u8 == DESCRIPTIONS[at].family as u8 {
                column += 1;
            }
            before += 1;
        }
        columns[at] = column;
        at += 1;
    }
    columns
}

impl Metric {
    #[must_use]
    pub fn describe(self) -> &'static Description {
        &DESCRIPTIONS[self as usize]
    }

    /// The name as conditions write it, without a selector.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.describe().name
    }

    #[must_use]
    pub fn unit(self) -> Unit {
        self.describe().unit
    }

    #[must_use]
    pub fn family(self) -> Family {
        self.describe().family
    }

    /// Whether there is an end at which nothing goes on: memory, space, and the kernel's tables. A busy processor, disk or
    /// network only makes others wait.
    #[must_use]
    pub(crate) fn runs_out(self) -> bool {
        let name = self.name();
        let waits = ["cpu.", "network."].iter().any(|first| name.starts_with(first)) || name.contains("pressure");
        !waits
            && ["used_percent", "available_percent", "used_bytes", "available_bytes"]
                .iter()
                .any(|end| name.ends_with(end))
    }

    /// What is short where this metric is bad. Open files are mostly sockets; tasks and an application's own numbers
    /// stand for no resource.
    #[must_use]
    pub(crate) fn resource(self) -> Option<Resource> {
        let name = self.name();
        match name.split('.').next() {
            Some("files") => Some(Resource::Connections),
            Some(first) => Resource::ALL.into_iter().find(|resource| resource.name() == first),
            None => None,
        }
    }

    #[must_use]
    pub(crate) fn column(self) -> usize {
        COLUMNS[self as usize] as usize
    }

    /// As it is written: `disk[mount].used_percent` for what has instances.
    #[must_use]
    pub fn written(self) -> String {
        match self.family().instance() {
            None => self.name().to_owned(),
            Some(instance) => self.name().replacen('.', &format!("[{instance}]."), 1),
        }
    }

    /// How many metrics a family has: the width of its row in a sample.
    #[must_use]
    pub(crate) fn width(family: Family) -> usize {
        DESCRIPTIONS.iter().filter(|d| d.family == family).count()
    }

    /// The metric that a number of an application's is, by the unit at the end of its name.
    #[must_use]
    pub(crate) fn of_app(number: &str) -> Metric {
        match number.rsplit('_').next() {
            Some("bytes") => Metric::AppBytes,
            Some("percent") => Metric::AppPercent,
            Some("second") if number.ends_with("per_second") => Metric::AppPerSecond,
            Some("seconds") => Metric::AppSeconds,
            Some(_) | None => Metric::AppNumber,
        }
    }

    /// The metric of that name; `selected` says that the name carried a selector. `connections.established` is one
    /// metric for the node and another for a port.
    #[must_use]
    pub(crate) fn named(name: &str, selected: Selected) -> Option<Metric> {
        let mut candidates = DESCRIPTIONS.iter().filter(|d| d.name == name);
        let fits = |d: &&Description| (d.family != Family::Node) == (selected == Selected::Yes);
        candidates.clone().find(fits).or_else(|| candidates.next()).map(|d| d.metric)
    }
}

/// Whether a name in a condition was written with a selector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Selected {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_own_place() {
        for (index, metric) in Metric::ALL.iter().enumerate() {
            assert_eq!(*metric as usize, index);
            assert_eq!(metric.describe().metric, *metric);
            assert!(metric.column() < Metric::width(metric.family()));
        }
    }

    #[test]
    fn only_what_has_an_end_runs_out() {
        for metric in [Metric::MemoryAvailablePercent, Metric::DiskUsedPercent, Metric::FilesUsedPercent] {
            assert!(metric.runs_out(), "{metric:?}");
        }
        for metric in [Metric::CpuUsedPercent, Metric::CpuPressureSomeAvg10, Metric::DiskAwait] {
            assert!(!metric.runs_out(), "{metric:?}");
        }
    }

    #[test]
    fn a_metric_is_of_one_resource_or_of_none() {
        for (metric, resource) in [
            (Metric::CpuPressureSomeAvg10, Some(Resource::Cpu)),
            (Metric::MemorySwapUsedPercent, Some(Resource::Memory)),
            (Metric::DiskAwait, Some(Resource::Disk)),
            (Metric::NetworkDropsRate, Some(Resource::Network)),
            (Metric::PortBacklogPercent, Some(Resource::Connections)),
            (Metric::FilesUsedPercent, Some(Resource::Connections)),
            (Metric::AppNumber, None),
            (Metric::Threads, None),
            (Metric::GuardianCpuPercent, None),
        ] {
            assert_eq!(metric.resource(), resource, "{metric:?}");
        }
    }

    #[test]
    fn a_number_of_an_applications_has_the_unit_that_its_name_says() {
        for (number, metric) in [
            ("inflight", Metric::AppNumber),
            ("seconds_ago", Metric::AppNumber),
            ("second", Metric::AppNumber),
            ("cache_bytes", Metric::AppBytes),
            ("hit_percent", Metric::AppPercent),
            ("p99_seconds", Metric::AppSeconds),
            ("shed_per_second", Metric::AppPerSecond),
        ] {
            assert_eq!(Metric::of_app(number), metric, "{number}");
        }
    }

    #[test]
    fn a_selector_chooses_between_metrics_of_one_name() {
        assert_eq!(Metric::named("connections.established", Selected::No), Some(Metric::ConnectionsEstablished));
        assert_eq!(Metric::named("connections.established", Selected::Yes), Some(Metric::PortEstablished));
        assert_eq!(Metric::named("disk.used_percent", Selected::No), Some(Metric::DiskUsedPercent));
        assert_eq!(Metric::named("disk.usedpercent", Selected::No), None);
    }
}
