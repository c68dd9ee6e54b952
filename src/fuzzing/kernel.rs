//! What the kernel's files and its netlink sockets say: the first byte of an input chooses which of them the rest is. A
//! container's runtime or FUSE (lxcfs) may stand in for the kernel, so they are strangers too.

use std::hint::black_box;
use std::path::Path;

use crate::host::{
    arc, cgroup, cpu, diag, disk, group, guardian, hierarchy, limits, memory, mounts, network, paging, pressure,
    process, sockets, usage,
};

/// Of the netlink request that is answered.
const SEQUENCE: u32 = 1;

type Reader = fn(&[u8]);

const READERS: [Reader; 24] = [
    |text| reads(arc::parse(text)),
    |text| reads(cgroup::parse(text)),
    |text| reads(cpu::parse(text)),
    |text| reads(cpu::parse_load(text)),
    |text| reads(guardian::parse(text)),
    |text| reads(group::parse_limit(text)),
    |text| reads(group::parse_cpu_max(text)),
    |text| reads(group::parse_quota(text)),
    |text| reads(usage::parse_usage(text)),
    |text| reads(limits::parse_reclaimable(text)),
    |text| reads(limits::parse_kills(text)),
    |text| reads(memory::parse(text)),
    |text| reads(paging::parse(text)),
    |text| reads(pressure::parse(text)),
    |text| reads(process::parse_files(text)),
    |text| reads(sockets::parse_sockstat(text)),
    |text| reads(sockets::parse_snmp(text)),
    |text| reads(sockets::parse_netstat(text)),
    |text| reads(sockets::parse_softnet(text)),
    mount_table,
    disk_counters,
    network_counters,
    own_group,
    socket_dump,
];

fn reads<T>(read: Option<T>) {
    drop(black_box(read));
}

pub fn texts(input: &[u8]) {
    let Some((which, text)) = input.split_first() else { return };
    READERS[usize::from(*which) % READERS.len()](text);
}

fn mount_table(text: &[u8]) {
    let entries = mounts::parse(text);
    let chosen: usize = mounts::choose(&entries).iter().map(Vec::len).sum();
    assert!(chosen <= entries.len(), "more are watched than there are");
}

fn disk_counters(text: &[u8]) {
    let mut rows = 0;
    disk::parse(text, |_, _| rows += 1);
    assert!(rows <= text.len());
}

fn network_counters(text: &[u8]) {
    let mut names = 0;
    network::parse(text, |name, _| names += name.len());
    assert!(names <= text.len());
}

fn own_group(text: &[u8]) {
    let mounted = Path::new("/nonexistent/node-guardian/cgroup");
    for controller in ["memory", "cpu", "pids"] {
        let found = hierarchy::lineage(text, mounted, controller);
        assert!(found.is_none_or(|found| found.folders.iter().all(|folder| folder.starts_with(mounted))));
    }
}

fn socket_dump(bytes: &[u8]) {
    let mut sockets = 0;
    diag::parse(bytes, SEQUENCE, |_| sockets += 1).ok();
    assert!(sockets <= bytes.len() / 72);
}
