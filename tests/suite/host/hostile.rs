//! Parsers on anything: arbitrary bytes, and real content that is cut off, overwritten and repeated. None may panic, and
//! no number that is not finite may come of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use node_guardian::host::memory::Kernel;
use node_guardian::host::{
    arc, cgroup, cpu, diag, disk, group, guardian, limits, memory, mounts, network, paging, pressure, process, sockets,
    usage,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// All parsers on both, as a reading after another one.
fn digest(before: &[u8], now: &[u8]) {
    let mut numbers = Vec::new();
    if let (Some(before), Some(now)) = (cpu::parse(before), cpu::parse(now)) {
        for ticks in [0.0, 100.0, f64::MAX] {
            let shares = cpu::derive(&before, &now, ticks);
            numbers.extend([shares.used, shares.nice, shares.iowait, shares.steal]);
        }
    }
    let load = cpu::parse_load(now);
    numbers.extend([load.map(|load| load.one_minute), load.and_then(|load| cpu::waiting(load, u32::MAX))]);
    if let Some(raw) = memory::parse(now) {
        for low_watermark in [0, 1 << 26, u64::MAX] {
            let derived = memory::derive(&raw, Kernel { low_watermark, arc: arc::parse(before).unwrap_or(0) });
            numbers.extend([derived.available_percent, derived.available_bytes, derived.used_percent]);
            numbers.extend([derived.swap_used_percent, derived.dirty_bytes]);
        }
    }
    if let Some(raw) = pressure::parse(now) {
        numbers.extend([Some(raw.some.avg10), Some(raw.some.avg60), raw.full.map(|full| full.avg10)]);
    }
    if let (Some(before), Some(now)) = (cgroup::parse(before), cgroup::parse(now)) {
        numbers.push(cgroup::derive(&before, &now));
    }
    numbers.push(group::parse_cpu_max(now).flatten());
    if let (Some(Some(used)), Some(spare)) = (group::parse_limit(before), limits::parse_reclaimable(now)) {
        numbers.push(Some(limits::available(1e9, used, spare)));
    }
    std::hint::black_box((group::parse_quota(now), usage::parse_usage(now), limits::parse_kills(now)));
    digest_disks(before, now, &mut numbers);
    digest_interfaces(before, now, &mut numbers);
    std::hint::black_box((paging::parse(now), process::parse_files(now), guardian::parse(now)));
    std::hint::black_box((sockets::parse_sockstat(now), sockets::parse_snmp(now)));
    std::hint::black_box((sockets::parse_netstat(now), sockets::parse_softnet(now)));
    std::hint::black_box((diag::parse(now, 1, |_| ()).ok(), mounts::choose(&mounts::parse(now))));
    for number in numbers.into_iter().flatten() {
        assert!(number.is_finite() && number >= 0.0, "{number}");
    }
}

fn digest_disks(before: &[u8], now: &[u8], numbers: &mut Vec<Option<f64>>) {
    let mut raws = [Vec::new(), Vec::new()];
    for (bytes, raws) in [before, now].into_iter().zip(&mut raws) {
        disk::parse(bytes, |_, raw| raws.push(raw));
    }
    for (before, now) in raws[0].iter().zip(&raws[1]) {
        let rates = disk::derive(before, now, SECOND).unwrap_or_default();
        numbers.extend([rates.read, rates.write, rates.busy_percent, rates.wait_seconds]);
    }
}

fn digest_interfaces(before: &[u8], now: &[u8], numbers: &mut Vec<Option<f64>>) {
    let mut raws = [Vec::new(), Vec::new()];
    for (bytes, raws) in [before, now].into_iter().zip(&mut raws) {
        network::parse(bytes, |_, raw| raws.push(raw));
    }
    for (before, now) in raws[0].iter().zip(&raws[1]) {
        let rates = network::derive(before, now, SECOND, None).unwrap_or_default();
        numbers.extend([rates.received_bytes, rates.transmitted_bytes, rates.errors, rates.drops]);
    }
}

/// Every file of the fixture trees.
fn real() -> Vec<Vec<u8>> {
    fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() { collect(&entry.path(), files) } else { files.push(entry.path()) }
        }
    }
    let mut files = Vec::new();
    for tree in ["kernel-3.2", "kernel-4.19", "kernel-6.x", "container", "container-nested", "container-v1"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(tree), &mut files);
    }
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A file with bytes overwritten, numbers blown up, and its end cut off.
fn mangled() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let file = prop::sample::select(real());
    let scratches = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
    let blown = prop::collection::vec((any::<prop::sample::Index>(), "[0-9]{1,40}|-1|nan|inf|1e999|\\.| |\n"), 0..4);
    (file, scratches, blown, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(file, scratches, blown, end, cut)| {
            let mut bytes = file.clone();
            for (place, byte) in scratches.iter().filter(|_| !file.is_empty()) {
                bytes[place.index(file.len())] = *byte;
            }
            for (place, text) in &blown {
                let place = place.index(bytes.len() + 1);
                bytes.splice(place..place, text.bytes());
            }
            if cut {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            (file, bytes)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes(before in prop::collection::vec(any::<u8>(), 0..400), now in prop::collection::vec(any::<u8>(), 0..400)) {
        digest(&before, &now);
    }

    /// Netlink messages whose header says anything.
    #[test]
    fn socket_answers(messages in prop::collection::vec((0u32..200, 0u16..22, prop::collection::vec(any::<u8>(), 0..120)), 0..5)) {
        let mut datagram = Vec::new();
        for (length, kind, body) in messages {
            datagram.extend(length.to_ne_bytes());
            datagram.extend(kind.to_ne_bytes());
            datagram.extend([0, 0]);
            datagram.extend(1u32.to_ne_bytes());
            datagram.extend(body);
        }
        std::hint::black_box(diag::parse(&datagram, 1, |_| ()).ok());
    }

    #[test]
    fn mangled_files((before, now) in mangled()) {
        digest(&before, &now);
        digest(&now, &before);
        digest(&now, &now);
    }
}
