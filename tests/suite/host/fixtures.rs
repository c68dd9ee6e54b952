//! Trees of /proc and /sys as several kernels write them. A tree is sampled, the files in `next` are written over it, and
//! a second later it is sampled again; the outcome is `expected.txt`, line by line (`UPDATE_EXPECTED=1` writes it anew).

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use node_guardian::host::kept::Scope;
use node_guardian::host::post::Probe;
use node_guardian::host::sampler::Sampler;
use node_guardian::host::space::Space;
use node_guardian::policy::metric::{Family, Metric};
use node_guardian::policy::sample::Sample;

use super::{at, sample_until, sampling};

const GIB: u64 = 1 << 30;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// As the file systems of the trees would answer.
fn answer(point: &Path) -> Result<Space, Errno> {
    let space = Space { size_bytes: 100 * GIB, free_bytes: 30 * GIB, available_bytes: 25 * GIB, ..Space::default() };
    match point.to_str() {
        Some("/") => Ok(Space { inodes: 1000, inodes_free: 900, ..space }),
        Some("/srv/two words") => Ok(Space { read_only: true, ..space }),
        // An image that is full by nature, and mounted read-only.
        Some("/img") => Ok(Space { free_bytes: 0, available_bytes: 0, read_only: true, ..space }),
        Some("/etc/hosts" | "/etc/resolv.conf") => Ok(Space { is_file: true, ..space }),
        Some("/closed") => Err(Errno::EACCES),
        _ => Ok(space),
    }
}

pub fn copy_over(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_over(&entry.path(), &target);
        } else {
            // Written in place: the sampler holds the file open.
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// Every metric that comes from the tree, and what could not be seen.
fn describe(sampler: &Sampler, sample: &Sample, root: &Path) -> String {
    let mut text = String::new();
    // What is missing is not listed, so that a new metric changes what has it, and no other.
    let mut tell = |metric: Metric, name: String, value: Option<f64>| {
        if let Some(value) = value {
            writeln!(text, "{name} {}", metric.unit().show(value)).unwrap();
        }
    };
    for metric in Metric::ALL.iter().copied().filter(|metric| !metric.name().starts_with("guardian.")) {
        let family = metric.family();
        if family == Family::Node {
            tell(metric, metric.name().to_owned(), sample.get(metric));
        }
        for (row, name) in sample.instances(family).iter().enumerate() {
            let (_, rest) = metric.name().split_once('.').unwrap();
            tell(metric, format!("{}[{name:?}].{rest}", family.prefix()), sample.instance(metric, row));
        }
    }
    let root = root.to_str().unwrap();
    let mut spots: Vec<_> = sampler
        .blind_spots()
        .iter()
        .map(|spot| format!("blind {}: {}", spot.what.replace(root, ""), spot.why))
        .collect();
    spots.sort();
    for spot in spots {
        writeln!(text, "{spot}").unwrap();
    }
    text
}

fn sampled(kernel: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let tree = fixtures().join(kernel);
    for part in ["proc", "sys"] {
        if tree.join(part).exists() {
            copy_over(&tree.join(part), &folder.path().join(part));
        }
    }
    let settings = sampling(folder.path().join("proc"), folder.path().join("sys"));
    let probe = Probe { ask: Arc::new(answer), ..Probe::default() };
    let mut sampler = Sampler::open_with(&settings, probe);
    sample_until(&mut sampler, at(1), "inventory", |sampler, _| !sampler.facts().kernel.is_empty());
    let mut sample = Sample::default();
    sampler.sample(at(2), Scope::Full, &mut sample);
    copy_over(&tree.join("next"), folder.path());
    sampler.sample(at(3), Scope::Full, &mut sample);
    describe(&sampler, &sample, folder.path())
}

fn as_expected(kernel: &str) {
    let found = sampled(kernel);
    let file = fixtures().join(kernel).join("expected.txt");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, &found).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{kernel} gives\n{found}\nwhere expected.txt has\n{expected}");
}

#[test]
fn linux_3_2_names_no_available_memory_and_14_columns_of_disk() {
    as_expected("kernel-3.2");
}

#[test]
fn linux_4_19_in_a_limited_version_1_cgroup() {
    as_expected("kernel-4.19");
}

#[test]
fn linux_5_10_without_pressure_loses_a_cpu_an_interface_and_its_counters() {
    as_expected("kernel-5.10-noPSI");
}

#[test]
fn linux_6_has_everything() {
    as_expected("kernel-6.x");
}

#[test]
fn a_container_sees_a_part_of_proc() {
    as_expected("container");
}

#[test]
fn a_container_with_limits_is_judged_by_them() {
    as_expected("container-limited");
}

#[test]
fn a_limited_container_of_version_1() {
    as_expected("container-v1");
}

#[test]
fn two_busy_cpus_of_64_are_all_there_are_to_a_container_that_is_pinned_to_them() {
    as_expected("container-pinned");
}

#[test]
fn a_service_in_a_container_is_judged_by_the_limit_above_it() {
    as_expected("container-nested");
}

#[test]
fn without_limits_the_nodes_end_comes_first() {
    as_expected("container-unlimited");
}

#[test]
fn a_container_of_its_own_says_nothing_about_others() {
    as_expected("container-alone");
}

#[test]
fn a_services_own_limits_are_not_the_nodes() {
    as_expected("node-service");
}
