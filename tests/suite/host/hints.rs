//! What an autoscaler is told where few of a node's CPUs are ours: from the kernel's files to the hint.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use node_guardian::config::settings::Settings;
use node_guardian::host::kept::Scope;
use node_guardian::host::sampler::Sampler;
use node_guardian::policy::guardian::{Decisions, Guardian, Input};
use node_guardian::policy::mitigation::ActionId;
use node_guardian::policy::plan::Plan;
use node_guardian::policy::sample::Sample;
use node_guardian::policy::view::{State, View};

use super::fixtures::{copy_over, fixtures};
use super::{at, sampling};

const CPUS: u64 = 64;
/// The rule is to wait for this long, in place of a quarter of an hour, and is watched for a little longer.
const HOLD: Duration = Duration::from_secs(60);
const SECONDS: u64 = 100;
const SCALE_DOWN: &str = "scale-down";

/// Ticks of each of 64 CPUs after so many seconds, where two of them are this busy and nobody has the others.
fn stat(seconds: u64, ours: std::ops::Range<u64>, busy_percent: u64) -> String {
    let busy = |cpu| if ours.contains(&cpu) { seconds * busy_percent } else { 0 };
    let line =
        |name: &str, busy: u64, cpus: u64| format!("{name} {busy} 0 0 {} 0 0 0 0 0 0\n", cpus * seconds * 100 - busy);
    let mut text = line("cpu ", (0..CPUS).map(busy).sum(), CPUS);
    for cpu in 0..CPUS {
        text += &line(&format!("cpu{cpu}"), busy(cpu), 1);
    }
    text
}

/// Whether the built-in rules ever said that there are CPUs to spare.
fn says_down(root: &Path, busy_percent: u64) -> bool {
    let usage = root.join("sys/fs/cgroup/cpu.stat");
    let write = |seconds: u64| {
        fs::write(root.join("proc/stat"), stat(seconds, 2..4, busy_percent)).unwrap();
        let mut text = String::new();
        writeln!(text, "usage_usec {}", seconds * busy_percent * 20_000).unwrap();
        fs::write(&usage, text).unwrap();
    };
    write(1);
    let mut policy = Settings::default().policy;
    let rule = policy.rules.iter().position(|rule| &*rule.name == SCALE_DOWN).unwrap();
    policy.rules[rule].hold_for = HOLD;
    let plan = Arc::new(Plan::new(policy));
    let (mut sampler, mut sample) = (Sampler::open(&sampling(root.join("proc"), root.join("sys"))), Sample::default());
    let (mut out, mut view) = (Decisions::default(), View::default());
    let mut guardian = Guardian::new(at(1), plan, Vec::new(), ActionId(1), &mut out);
    (1..SECONDS).any(|second| {
        write(second);
        sampler.sample(at(second), Scope::Full, &mut sample);
        guardian.step(at(second), Input::Sampled(&sample), &mut out);
        guardian.show(&mut view);
        view.rules[rule].state == State::Firing
    })
}

/// A container that is pinned to two CPUs of 64, and has next to nothing in its memory.
fn pinned() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["proc", "sys"] {
        copy_over(&fixtures().join("container-pinned").join(part), &folder.path().join(part));
    }
    fs::write(folder.path().join("sys/fs/cgroup/memory.current"), "104857600\n").unwrap();
    let meminfo = folder.path().join("proc/meminfo");
    let text = fs::read_to_string(&meminfo).unwrap().replace("4000000 kB", "7200000 kB");
    fs::write(meminfo, text).unwrap();
    folder
}

#[test]
fn two_busy_cpus_of_64_that_are_all_one_may_use_are_not_to_spare() {
    let by_cgroup = pinned();
    assert!(says_down(by_cgroup.path(), 5), "else it says nothing about busy ones");
    assert!(!says_down(by_cgroup.path(), 97));
}

#[test]
fn the_same_where_no_cgroup_says_so_as_in_lxc() {
    let by_status = pinned();
    let cgroup = by_status.path().join("sys/fs/cgroup");
    for file in ["cpuset.cpus.effective", "cpu.max"] {
        fs::remove_file(cgroup.join(file)).unwrap();
    }
    fs::write(by_status.path().join("proc/self/status"), "Name:\tx\nCpus_allowed_list:\t2-3\n").unwrap();
    assert!(says_down(by_status.path(), 5));
    assert!(!says_down(by_status.path(), 97));
}
