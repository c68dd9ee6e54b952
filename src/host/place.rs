//! Whose readings count: the node's, our container's, or our pod's. Decided once, at start, because a process that changes
//! its mind about what 90 % means cannot be understood.
//!
//! A container that holds nothing but us says nothing about those whom we guard, so it does not count: a sidecar that is
//! shown no more than itself judges by the node.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::container;
use super::cpu;
use super::cpuset::CpuSet;
use super::facts::{Allowed, Judged};
use super::fuse::Fuse;
use super::group::{Group, cpus_allowed, memory_allowed, pinned, tasks_allowed};
use super::hierarchy::{Lineage, Version, found_again, lineage};
use super::kept::{Kept, Reader, Shape};
use super::scan::{fields, lines, number};
use crate::config::settings::{Sampling, Scope};
use crate::policy::moment::Moment;
use crate::policy::unit::Unit;

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Place {
    /// Who runs the container that we are in.
    pub container: Option<String>,
    pub judged: Judged,
    /// One sentence.
    pub why: &'static str,
    pub memory: Option<Group>,
    pub cpu: Option<Group>,
    /// Where version 1 counts CPU time; the same as `cpu` in version 2.
    pub cpu_time: Option<Group>,
    pub tasks: Option<Group>,
    /// Lists the CPUs that may be used, where that is not all of them.
    pub cpuset: Option<PathBuf>,
    /// What the operator says that the limits are, where no file does.
    pub told_memory_bytes: Option<u64>,
    pub told_cpus: Option<f64>,
}

/// `the pod's limits (memory 512.0MiB, 1.5 CPUs), in a container (Kubernetes): its pod's cgroup is visible`
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.judged {
            Judged::Node => "the node's readings",
            Judged::Container => "the container's limits",
            Judged::Pod => "the pod's limits",
        })?;
        let allowed = self.allowed();
        let memory = allowed.memory_bytes.map(|bytes| format!("memory {}", Unit::Bytes.show(bytes as f64)));
        let cpus = allowed.cpus.map(|cpus| format!("{cpus} CPUs"));
        let limits: Vec<String> = [memory, cpus].into_iter().flatten().collect();
        match (self.judged, limits.is_empty()) {
            (Judged::Node, _) => {}
            (Judged::Container | Judged::Pod, true) => f.write_str(" (none set)")?,
            (Judged::Container | Judged::Pod, false) => write!(f, " ({})", limits.join(", "))?,
        }
        if let Some(container) = &self.container {
            write!(f, ", in a container ({container})")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl Place {
    #[must_use]
    pub(crate) fn find(sampling: &Sampling) -> Self {
        let container = container::detect(&sampling.proc_root);
        let told = Self {
            container,
            told_memory_bytes: sampling.memory_limit,
            told_cpus: sampling.cpu_limit,
            ..Self::default()
        };
        match sampling.scope {
            Scope::Node => Self { why: "scope = \"node\"", ..told },
            Scope::Auto if told.container.is_none() => Self { why: "no container found", ..told },
            Scope::Auto | Scope::Container => told.in_container(sampling),
        }
    }

    fn in_container(self, sampling: &Sampling) -> Self {
        let own = fs::read(sampling.proc_root.join("self/cgroup")).unwrap_or_default();
        let mounted = sampling.sys_root.join("fs/cgroup");
        let family = |controller: &str| {
            let seen = lineage(&own, &mounted, controller)?;
            let larger = sampling.cgroup_root.as_deref().and_then(|root| widen(&own, &seen, root, controller));
            Some(larger.unwrap_or(seen))
        };
        let Some(memory) = family("memory") else {
            return Self { why: "its cgroup cannot be found", ..self };
        };
        let alone = sampling.scope == Scope::Auto && is_alone(&memory.folders);
        let choose = |lineage: &Lineage| candidates(lineage, alone);
        let folders = choose(&memory);
        let Some(nearest) = folders.first() else {
            return Self { why: "it runs nothing but this guardian", ..self };
        };
        let pod = is_pod(nearest);
        let group = |controller: &str, allowed: fn(&Group) -> Option<f64>| {
            let lineage = family(controller)?;
            tightest(lineage.version, choose(&lineage), allowed)
        };
        let cpu = group("cpu", cpus_allowed);
        let cpuset = group("cpuset", |group| pinned(group).map(|(_, cpus)| f64::from(cpus)));
        let cpuset = cpuset.and_then(|group| pinned(&group)).map(|(path, _)| path);
        // Without a file for it, what we may use is what others may: unless the cgroup is ours alone.
        let cpuset = cpuset.or_else(|| (!alone).then(|| sampling.proc_root.join("self/status")));
        Self {
            judged: if pod { Judged::Pod } else { Judged::Container },
            why: match (pod, sampling.scope) {
                (true, _) => "its pod's cgroup is visible",
                (false, Scope::Container) => "scope = \"container\"",
                (false, Scope::Auto | Scope::Node) => "it also runs other processes",
            },
            memory: group("memory", |group| memory_allowed(group).map(|bytes| bytes as f64)),
            cpu_time: cpu.as_ref().and_then(|cpu| match cpu.version {
                Version::Two => Some(cpu.clone()),
                Version::One => group("cpuacct", |_| None),
            }),
            cpu,
            cpuset: cpuset.filter(|path| is_a_part(path, &sampling.proc_root)),
            tasks: group("pids", |group| tasks_allowed(group).map(|tasks| tasks as f64)),
            ..self
        }
    }

    /// Limits that the operator told, without anything to compare with them.
    #[must_use]
    pub(crate) fn is_told_in_vain(&self) -> bool {
        self.judged == Judged::Node && (self.told_memory_bytes.is_some() || self.told_cpus.is_some())
    }

    /// Reads the limits anew; not for the hot path.
    #[must_use]
    pub fn allowed(&self) -> Allowed {
        if self.judged == Judged::Node {
            return Allowed::default();
        }
        let memory = self.memory.as_ref().and_then(memory_allowed);
        let cpus = self.cpu.as_ref().and_then(cpus_allowed);
        let set = self.cpuset.as_ref().and_then(|path| CpuSet::parse(&fs::read(path).ok()?));
        Allowed {
            memory_bytes: [memory, self.told_memory_bytes].into_iter().flatten().min(),
            cpus: [cpus, self.told_cpus, set.map(|set| f64::from(set.count()))].into_iter().flatten().reduce(f64::min),
            tasks: self.tasks.as_ref().and_then(tasks_allowed),
        }
    }
}

/// Whether these CPUs are fewer than are online. Where a container is shown its own CPUs only (lxcfs), they are all there are.
fn is_a_part(cpuset: &Path, proc_root: &Path) -> bool {
    let mut reader = Reader::default();
    reader.beware(Arc::new(Fuse::find(proc_root, proc_root)));
    let mut stat = Kept::new(proc_root.join("stat"), Shape::Whole, "");
    let online = reader.take(&mut stat, Moment::ORIGIN, cpu::parse);
    let usable = fs::read(cpuset).ok().and_then(|text| CpuSet::parse(&text));
    usable.zip(online).is_some_and(|(usable, online)| usable.count() < online.online)
}

fn widen(own: &[u8], seen: &Lineage, root: &Path, controller: &str) -> Option<Lineage> {
    match seen.version {
        Version::One => lineage(own, root, controller),
        Version::Two => found_again(seen.folders.first()?, root),
    }
}

/// Nearest first: up to the pod where one is in sight, without our own cgroup where it is ours alone.
fn candidates(lineage: &Lineage, alone: bool) -> Vec<PathBuf> {
    let folders = &lineage.folders;
    let pod = folders.iter().skip(1).position(|folder| is_pod(folder)).map(|at| at + 1);
    let last = pod.map_or(folders.len(), |pod| pod + 1);
    let first = if alone { pod.unwrap_or(1) } else { 0 };
    folders.get(first..last).unwrap_or_default().to_vec()
}

/// As the kubelet names it, with either of its cgroup drivers: `kubepods-burstable-pod<uid>.slice`, `pod<uid>`.
fn is_pod(folder: &Path) -> bool {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.starts_with("pod") || name.starts_with("kubepods-") && name.contains("-pod")
}

/// Of equally tight ones the farther: it holds more.
fn tightest(version: Version, folders: Vec<PathBuf>, allowed: fn(&Group) -> Option<f64>) -> Option<Group> {
    let groups = folders.into_iter().map(|folder| Group { version, folder });
    let limit = |group: &Group| allowed(group).unwrap_or(f64::INFINITY);
    groups.reduce(|near, far| if limit(&far) <= limit(&near) { far } else { near })
}

/// Whether our cgroup holds this process only. Processes that we cannot name, of another PID namespace, read as 0.
fn is_alone(folders: &[PathBuf]) -> bool {
    let listed = folders.first().and_then(|own| fs::read(own.join("cgroup.procs")).ok());
    let Some(listed) = listed else { return false };
    let mut processes = lines(&listed).filter_map(|line| number(fields(line).next()?));
    processes.next().is_some() && processes.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(folders: &[&str], alone: bool) -> Vec<String> {
        let folders = folders.iter().map(PathBuf::from).collect();
        let chosen = candidates(&Lineage { version: Version::Two, folders }, alone);
        chosen.iter().map(|folder| folder.display().to_string()).collect()
    }

    #[test]
    fn whoever_is_alone_looks_at_what_holds_others_too() {
        assert!(of(&["/c"], true).is_empty());
        assert_eq!(of(&["/c"], false), ["/c"]);
        assert_eq!(of(&["/c/system.slice/ng", "/c/system.slice", "/c"], true), ["/c/system.slice", "/c"]);
        let pod = ["/k/kubepods-pod1.slice/cri-a.scope/container", "/k/kubepods-pod1.slice/cri-a.scope"];
        let pod = [&pod[..], &["/k/kubepods-pod1.slice", "/k/kubepods.slice", "/k"]].concat();
        assert_eq!(of(&pod, true), ["/k/kubepods-pod1.slice"]);
        assert_eq!(of(&pod, false), pod[..3]);
        assert_eq!(of(&["/pod9/x", "/pod9"], true), ["/pod9"]);
    }

    #[test]
    fn names_of_pods() {
        for name in ["kubepods-burstable-pod1_2.slice", "kubepods-pod1.slice", "pod1-2"] {
            assert!(is_pod(&Path::new("/x").join(name)), "{name}");
        }
        for name in ["kubepods.slice", "kubepods-besteffort.slice", "system.slice", "my-podcast.slice", ""] {
            assert!(!is_pod(&Path::new("/x").join(name)), "{name}");
        }
    }

    #[test]
    fn the_tightest_limit_counts_and_of_equal_ones_the_one_that_holds_more() {
        fn allowed(group: &Group) -> Option<f64> {
            group.folder.file_name()?.to_str()?.parse().ok()
        }
        let of = |folders: &[&str]| {
            let folders = folders.iter().map(PathBuf::from).collect();
            tightest(Version::Two, folders, allowed).map(|group| group.folder.display().to_string())
        };
        assert_eq!(of(&["/a/5", "/a/3", "/a/9"]).as_deref(), Some("/a/3"));
        assert_eq!(of(&["/a/5", "/b/5", "/a/max"]).as_deref(), Some("/b/5"));
        assert_eq!(of(&["/a/max", "/a"]).as_deref(), Some("/a"));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn it_says_where_it_stands_in_one_line() {
        let node = Place { why: "no container found", ..Place::default() };
        assert_eq!(node.to_string(), "the node's readings: no container found");
        let pod = Place {
            container: Some("Kubernetes".into()),
            judged: Judged::Pod,
            why: "its pod's cgroup is visible",
            told_memory_bytes: Some(512 << 20),
            told_cpus: Some(1.5),
            ..Place::default()
        };
        let said =
            "the pod's limits (memory 512.0MiB, 1.5 CPUs), in a container (Kubernetes): its pod's cgroup is visible";
        assert_eq!(pod.to_string(), said);
        let unlimited = Place { told_memory_bytes: None, told_cpus: None, ..pod };
        assert!(unlimited.to_string().starts_with("the pod's limits (none set), in a container"));
    }

    #[test]
    fn alone_is_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let alone = |text: &str| {
            fs::write(folder.path().join("cgroup.procs"), text).unwrap();
            is_alone(&[folder.path().to_path_buf()])
        };
        assert!(!is_alone(&[folder.path().to_path_buf()]));
        assert!(alone("1\n"));
        assert!(!alone("1\n7\n") && !alone("0\n7\n") && !alone(""));
    }
}
