//! What a sidecar judges by: the pod where the node's tree of cgroups is in sight, else the node.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use node_guardian::config::settings::{Sampling, Scope as Judging};
use node_guardian::host::facts::Judged;
use node_guardian::host::kept::Scope;
use node_guardian::host::sampler::Sampler;
use node_guardian::policy::metric::Metric;
use node_guardian::policy::sample::Sample;
use tempfile::TempDir;

use super::fixtures::{copy_over, fixtures};
use super::{at, sampling};

const POD: &str = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7c_1.slice";

/// A sidecar that is alone in its container; beside it the node's tree, where its pod has the files of a container that
/// holds 300 MiB of 512 MiB, 90 MiB of them page cache and 10 MiB slab.
fn sidecar() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["proc", "sys"] {
        copy_over(&fixtures().join("container-alone").join(part), &folder.path().join(part));
    }
    fs::write(folder.path().join("proc/self/environ"), "A=1\0KUBERNETES_SERVICE_HOST=10.96.0.1\0").unwrap();
    let pod = folder.path().join("host").join(POD);
    copy_over(&fixtures().join("container-limited/sys/fs/cgroup"), &pod);
    let own = folder.path().join("sys/fs/cgroup");
    fs::rename(&own, pod.join("cri-containerd-5f.scope")).unwrap();
    symlink(pod.join("cri-containerd-5f.scope"), own).unwrap();
    folder
}

fn settings(folder: &Path) -> Sampling {
    sampling(folder.join("proc"), folder.join("sys"))
}

fn read(settings: &Sampling) -> (Sampler, Sample) {
    let (mut sampler, mut sample) = (Sampler::open(settings), Sample::default());
    sampler.sample(at(1), Scope::Full, &mut sample);
    (sampler, sample)
}

#[test]
fn alone_it_judges_by_the_node() {
    let folder = sidecar();
    let (sampler, sample) = read(&settings(folder.path()));
    assert_eq!(sampler.place().judged, Judged::Node);
    assert_eq!(sampler.place().container.as_deref(), Some("Kubernetes"));
    assert_eq!(sample.get(Metric::MemoryAvailablePercent), Some(50.0));
    assert_eq!(sampler.blind_spots().iter().find(|spot| spot.what.contains("limit")), None);
}

#[test]
fn limits_that_nothing_can_be_compared_with_are_said_to_be_useless() {
    let folder = sidecar();
    let told = Sampling { memory_limit: Some(1 << 29), cpu_limit: Some(1.5), ..settings(folder.path()) };
    let (sampler, _) = read(&told);
    let spot = sampler.blind_spots().iter().find(|spot| spot.what == "memory_limit and cpu_limit").cloned();
    assert!(spot.is_some_and(|spot| spot.why.contains("`cgroup_root`")));
    assert_eq!(sampler.place().allowed().memory_bytes, None);
}

#[test]
fn with_the_nodes_tree_it_judges_by_its_pod() {
    let folder = sidecar();
    let cgroup_root = Some(folder.path().join("host"));
    let (mut sampler, mut sample) = read(&Sampling { cgroup_root, ..settings(folder.path()) });
    assert_eq!(sampler.place().judged, Judged::Pod);
    let allowed = sampler.place().allowed();
    assert_eq!((allowed.memory_bytes, allowed.cpus, allowed.tasks), (Some(512 << 20), Some(1.5), Some(100)));
    assert_eq!(sample.get(Metric::MemoryAvailableBytes), Some(f64::from(312 << 20)));
    assert_eq!(sample.get(Metric::MemoryPressureFullAvg10), Some(12.5));
    let pod = folder.path().join("host").join(POD);
    fs::write(pod.join("memory.max"), format!("{}\n", 1 << 30)).unwrap();
    fs::write(pod.join("memory.current"), format!("{}\n", 400 << 20)).unwrap();
    sampler.sample(at(2), Scope::Memory, &mut sample);
    assert_eq!(sample.get(Metric::MemoryAvailableBytes), Some(f64::from(212 << 20)), "limits are read with the rest");
    sampler.sample(at(3), Scope::Full, &mut sample);
    assert_eq!(sample.get(Metric::MemoryAvailableBytes), Some(f64::from((1024 - 300) << 20)));
}

#[test]
fn the_limit_that_kubernetes_tells_counts_where_it_is_the_tighter_one() {
    let folder = sidecar();
    let cgroup_root = Some(folder.path().join("host"));
    let told = Sampling { memory_limit: Some(400 << 20), cpu_limit: Some(0.5), cgroup_root, ..settings(folder.path()) };
    let (sampler, sample) = read(&told);
    assert_eq!(sample.get(Metric::MemoryAvailablePercent), Some(50.0));
    assert_eq!((sampler.place().allowed().memory_bytes, sampler.place().allowed().cpus), (Some(400 << 20), Some(0.5)));
    let looser = Sampling { memory_limit: Some(1 << 40), ..told };
    assert_eq!(read(&looser).1.get(Metric::MemoryAvailableBytes), Some(f64::from(312 << 20)));
}

#[test]
fn the_operator_has_the_last_word() {
    let folder = sidecar();
    let cgroup_root = Some(folder.path().join("host"));
    let node = Sampling { scope: Judging::Node, cgroup_root, ..settings(folder.path()) };
    assert_eq!(read(&node).0.place().judged, Judged::Node);
    let own = Sampling { scope: Judging::Container, ..settings(folder.path()) };
    let (sampler, sample) = read(&own);
    assert_eq!(sampler.place().judged, Judged::Container);
    assert_eq!(sampler.place().allowed().memory_bytes, Some(32 << 20));
    assert_eq!(sample.get(Metric::MemoryAvailableBytes), Some(f64::from(32 << 20)), "all of it is page cache here");
}

/// The least of what the node has and what the limit leaves.
#[test]
fn a_node_that_is_full_leaves_a_container_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["proc", "sys"] {
        copy_over(&fixtures().join("container-limited").join(part), &folder.path().join(part));
    }
    let meminfo = folder.path().join("proc/meminfo");
    let text = fs::read_to_string(&meminfo).unwrap().replace("MemAvailable:    4000000", "MemAvailable:      52428");
    fs::write(&meminfo, text).unwrap();
    let (_, sample) = read(&settings(folder.path()));
    assert_eq!(sample.get(Metric::MemoryAvailablePercent).map(f64::round), Some(10.0));
}
