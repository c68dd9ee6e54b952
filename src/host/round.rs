//! What the slow thread does in turn, each thing at its own pace. It may block, allocate and take its time; all that it
//! owes the sampler is in `Shared`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::blind::Blind;
use super::facts::Judged;
use super::found::{Mount, Speed};
use super::fuse::Fuse;
use super::idle;
use super::idle_tasks;
use super::inventory::take_inventory;
use super::listeners::Listeners;
use super::mounts;
use super::network;
use super::post::Post;
use super::scan::number;
use super::space;
use super::thrift::thread_time;
use super::watched::{Asker, MOST, Watched};

/// 0.1 ms per 300 processes.
const PROCESSES_EVERY: Duration = Duration::from_secs(5);
const SPEEDS_EVERY: Duration = Duration::from_secs(10);
/// The kernel tells of changed mounts, but not of a file system that turned read-only.
const VEILED_EVERY: Duration = Duration::from_secs(5);
/// A data set of a pool is seen to have come near its own quota so late at most.
const POOLS_EVERY: Duration = Duration::from_secs(60);
/// Following mounts may take one part in so many of a core: 6 ms, with 2,000 mounts that change each second, are then due
/// every 6 s.
const MOUNTS_SHARE: u32 = 1000;
/// At most; see [`MOUNTS_SHARE`].
const MOUNTS_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// What is seldom done may take one part in so many of a core, however many interfaces there are.
const RARE_SHARE: u32 = 2000;
/// A unit of the idle class is counted like any other until it is found.
const GROUPS_EVERY: Duration = Duration::from_secs(10);
/// The same of a process, while CPUs are busy; 3 ms for 300 of them.
const TASKS_EVERY: Duration = Duration::from_secs(2);
/// And one part in so many of a core at most.
const TASKS_SHARE: u32 = 500;
const INVENTORY_EVERY: Duration = Duration::from_secs(60);

/// How blind spots of a mount begin.
const DISK: &str = "disk[";
/// What is said of all file systems at once.
const DISKS: &str = "disks";

/// Nobody waits for the slow thread: it looks at its tasks this often.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// When something is to be done next.
struct Due(Instant);

impl Due {
    /// Whether it is time; if so, the next time is `every` from now.
    fn take(&mut self, now: Instant, every: Duration) -> bool {
        let due = now >= self.0;
        if due {
            self.0 = now + every;
        }
        due
    }
}

pub(crate) struct Worker {
    pub post: Arc<Post>,
    office: u64,
    blind: Blind,
    mountinfo: Option<File>,
    /// The table was another one when it was last looked at, and has not been read since.
    moved: bool,
    mounts: Vec<Arc<Mount>>,
    ports: Listeners,
    swept: Instant,
    table: Due,
    veiled: Due,
    pools: Due,
    processes: Due,
    speeds: Due,
    inventory: Due,
    groups: Due,
    tasks: Due,
}

impl Worker {
    #[must_use]
    pub fn new(post: Arc<Post>, office: u64) -> Self {
        let now = Instant::now();
        let [table, veiled, pools, processes, speeds, inventory, groups, tasks] = [(); 8].map(|()| Due(now));
        let never = now.checked_sub(LONGEST_WAIT).unwrap_or(now);
        let mounts = post.shared.mounts.get().to_vec();
        let ports = Listeners::new(now, &post.shared);
        Self {
            post,
            office,
            blind: Blind::default(),
            mountinfo: None,
            moved: true,
            mounts,
            ports,
            swept: never,
            table,
            veiled,
            pools,
            processes,
            speeds,
            inventory,
            groups,
            tasks,
        }
    }

    /// Does what is due and says how long nothing more is.
    pub(crate) fn round(&mut self) -> Duration {
        let now = Instant::now();
        if now >= self.sweep_due() {
            self.swept = now;
            if self.follow_mounts().is_none() || self.sweep().is_none() {
                return Duration::ZERO;
            }
        }
        if self.processes.take(now, PROCESSES_EVERY) {
            self.count_processes();
        }
        if self.speeds.0 <= now {
            let speeds = || self.post.shared.speeds.offer(read_speeds(&self.post.sampling.sys_root));
            self.speeds = Due(now + (time_of(speeds) * RARE_SHARE).max(SPEEDS_EVERY));
        }
        if self.groups.0 <= now {
            let find = || self.find_idle_groups();
            self.groups = Due(now + (time_of(find) * RARE_SHARE).max(GROUPS_EVERY));
        }
        if self.tasks.0 <= now && self.post.shared.is_busy.load(Ordering::Relaxed) {
            let find = || self.find_idle_tasks();
            self.tasks = Due(now + (time_of(find) * TASKS_SHARE).max(TASKS_EVERY));
        }
        let asked_ms = self.post.now_ms();
        if self.ports.round(now, &self.post.shared, &mut self.blind) {
            self.post.shared.ports_read_ms.store(asked_ms, Ordering::Relaxed);
        }
        // Before the inventory: whoever has that has all of the first round.
        self.post.shared.blind.offer(self.blind.spots().to_vec());
        if self.inventory.0 <= now {
            let Some(cost) = self.take_inventory() else { return Duration::ZERO };
            self.inventory = Due(now + (cost * RARE_SHARE).max(INVENTORY_EVERY));
        }
        let next = self.sweep_due().min(self.ports.due(&self.post.shared));
        next.saturating_duration_since(Instant::now()).min(LONGEST_WAIT)
    }

    /// It reads what may be served by a program that hangs.
    fn take_inventory(&self) -> Option<Duration> {
        let Post { shared, sampling, place, .. } = &*self.post;
        let root = &sampling.proc_root;
        if self.post.is_hung(root) {
            return Some(Duration::ZERO);
        }
        let before = thread_time();
        let facts =
            self.post.risk(self.office, root, || take_inventory(root, place, &self.mounts, &shared.speeds.get()))?;
        shared.facts.offer(facts);
        Some(thread_time().saturating_sub(before))
    }

    /// In a container that is judged by itself, the node's groups say nothing.
    fn find_idle_groups(&self) {
        let Post { shared, sampling, place, .. } = &*self.post;
        if place.judged != Judged::Node {
            return;
        }
        let known = shared.idle_groups.get();
        shared.idle_groups.offer(idle::find(&sampling.sys_root.join("fs/cgroup"), &known));
    }

    fn find_idle_tasks(&self) {
        let Post { shared, sampling, place, .. } = &*self.post;
        if place.judged == Judged::Node {
            let (known, groups) = (shared.idle_tasks.get(), shared.idle_groups.get());
            shared.idle_tasks.offer(idle_tasks::find(&sampling.proc_root, &known, &groups));
        }
    }

    fn sweep_due(&self) -> Instant {
        self.swept + self.post.shared.space_every.get()
    }

    /// Reads the mount table again where the kernel says that it changed, and as often as its length allows.
    fn follow_mounts(&mut self) -> Option<()> {
        let now = Instant::now();
        // Told once for each change: remembered until the table is read.
        self.moved |= self.mountinfo.as_ref().is_none_or(has_changed) || self.is_to_be_looked_at(now);
        if !self.moved || now < self.table.0 {
            return Some(());
        }
        self.moved = false;
        let before = thread_time();
        let followed = self.read_mounts();
        let cost = thread_time().saturating_sub(before);
        self.table = Due(now + (cost * MOUNTS_SHARE).min(MOUNTS_AT_LEAST_EVERY));
        followed
    }

    /// What the kernel does not tell of.
    fn is_to_be_looked_at(&mut self, now: Instant) -> bool {
        let veiled = self.mounts.iter().any(|mount| mount.is_veiled()) && self.veiled.take(now, VEILED_EVERY);
        let pools = self.mounts.iter().any(|mount| mount.is_of_pool()) && self.pools.take(now, POOLS_EVERY);
        veiled || pools
    }

    fn read_mounts(&mut self) -> Option<()> {
        let path = self.post.sampling.proc_root.join("self/mountinfo");
        let entries = match read_mountinfo(&path, &mut self.mountinfo) {
            Ok(text) => mounts::parse(&text),
            Err(error) => {
                self.blind.note(&path.to_string_lossy(), &format!("{error}: no disk can be found to watch"));
                return Some(());
            }
        };
        self.blind.clear(&path.to_string_lossy());
        self.post.shared.fuse.offer(Fuse::of(&entries, &self.post.sampling));
        let asker = Asker { post: &self.post, office: self.office };
        let watched = match &self.post.sampling.mounts {
            Some(points) => asker.named(points, &entries),
            None => asker.choose(&entries)?,
        };
        self.tell_of(&watched);
        self.watch(watched.mounts);
        Some(())
    }

    fn watch(&mut self, mut chosen: Vec<Mount>) {
        chosen.sort_by(|a, b| a.point.cmp(&b.point));
        let keep = |mount: Mount| match self.mounts.iter().find(|known| ***known == mount) {
            Some(known) => {
                let writable = mount.file_system_writable.load(Ordering::Relaxed);
                known.file_system_writable.store(writable, Ordering::Relaxed);
                Arc::clone(known)
            }
            None => Arc::new(mount),
        };
        self.mounts = chosen.into_iter().map(keep).collect();
        self.post.shared.mounts.offer(self.mounts.clone());
        let watched = &self.mounts;
        self.blind.retain(|what| !what.starts_with(DISK) || watched.iter().any(|mount| what == spot(mount)));
    }

    /// A node whose disks are not seen is no node whose disks are fine.
    fn tell_of(&mut self, watched: &Watched) {
        let none = watched.mounts.is_empty() && self.post.sampling.mounts.is_none();
        match (none, watched.left_out) {
            (true, _) => self.blind.note(DISKS, "no local file system is visible: name some in [sampling] mounts"),
            (false, 0) => self.blind.clear(DISKS),
            (false, more) => {
                let why = format!("{more} more than {MOST} are mounted: name those that matter in [sampling] mounts");
                self.blind.note(DISKS, &why);
            }
        }
    }

    /// Asks every file system that is not known to hang.
    fn sweep(&mut self) -> Option<()> {
        for mount in self.mounts.clone() {
            if self.post.is_hung(&mount.point) {
                mount.forget();
                self.blind
                    .note(&spot(&mount), "it does not answer: its space is unknown; see whether its device hangs");
                continue;
            }
            match self.post.ask(self.office, &mount.point)? {
                Ok(space) => {
                    mount.answered_ms.store(self.post.now_ms(), Ordering::Relaxed);
                    space::publish(&mount, &space);
                    self.blind.clear(&spot(&mount));
                }
                Err(error) => {
                    mount.forget();
                    self.blind.note(&spot(&mount), &format!("{}: its space is unknown", error.desc()));
                }
            }
        }
        Some(())
    }

    fn count_processes(&mut self) {
        let (root, shared) = (&self.post.sampling.proc_root, &self.post.shared);
        let limit = |name: &str| read_number(&root.join("sys/kernel").join(name));
        let tasks = [limit("pid_max"), limit("threads-max")].into_iter().flatten().min();
        shared.task_limit.set(tasks.map(|tasks| tasks as f64));
        match tasks {
            Some(_) => self.blind.clear("processes.used_percent"),
            None => self.blind.note("processes.used_percent", "neither pid_max nor threads-max can be read"),
        }
        let conntrack = read_number(&root.join("sys/net/netfilter/nf_conntrack_max"));
        shared.conntrack_limit.set(conntrack.map(|limit| limit as f64));
        let count = count_processes(root);
        shared.processes.set(count.map(|count| count as f64));
        match count {
            Some(_) => self.blind.clear("processes.count"),
            None => {
                self.blind.note("processes.count", "/proc hides the processes of others (hidepid), or cannot be listed")
            }
        }
    }
}

fn spot(mount: &Mount) -> String {
    format!("{DISK}{:?}]", mount.name)
}

/// POLLERR and POLLPRI are set once after each change (proc_pid_mountinfo(5)); never for a plain file.
fn has_changed(mountinfo: &File) -> bool {
    let mut polled = [PollFd::new(mountinfo.as_fd(), PollFlags::POLLPRI)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn read_mountinfo(path: &Path, kept: &mut Option<File>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    *kept = Some(file);
    Ok(text)
}

fn read_number(path: &Path) -> Option<u64> {
    number(std::fs::read(path).ok()?.trim_ascii())
}

/// `None` where the first process is not among them: then others are hidden too.
fn count_processes(proc_root: &Path) -> Option<u64> {
    let (mut count, mut first) = (0, false);
    for entry in std::fs::read_dir(proc_root).ok()? {
        if let Some(pid) = number(entry.ok()?.file_name().as_encoded_bytes()) {
            count += 1;
            first |= pid == 1;
        }
    }
    first.then_some(count)
}

/// In megabits a second; -1, or that as an unsigned number, where there is no link or no notion of its speed.
fn read_speeds(sys_root: &Path) -> Vec<Speed> {
    let Ok(interfaces) = std::fs::read_dir(sys_root.join("class/net")) else { return Vec::new() };
    let interfaces = interfaces.flatten().filter(|entry| network::counts(entry.file_name().as_encoded_bytes()));
    let speed = |interface: &std::fs::DirEntry| {
        let megabits = read_number(&interface.path().join("speed"))?;
        (megabits > 0 && megabits < u64::from(u32::MAX)).then_some(megabits * 1_000_000)
    };
    let mut speeds: Vec<Speed> = interfaces
        .filter_map(|entry| Some(Speed { bits: speed(&entry)?, interface: entry.file_name().into_string().ok()? }))
        .collect();
    speeds.sort_by(|a, b| a.interface.cmp(&b.interface));
    speeds
}

/// In CPU time of this thread.
fn time_of(task: impl FnOnce()) -> Duration {
    let before = thread_time();
    task();
    thread_time().saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_counted_unless_they_are_hidden() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["7", "12", "self", "net"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        assert_eq!(count_processes(folder.path()), None);
        std::fs::create_dir(folder.path().join("1")).unwrap();
        assert_eq!(count_processes(folder.path()), Some(3));
        assert_eq!(count_processes(&folder.path().join("absent")), None);
    }

    #[test]
    fn only_links_with_a_speed_have_one() {
        let folder = tempfile::tempdir().unwrap();
        for (name, speed) in [("eth1", "1000\n"), ("eth0", "25000\n"), ("tun0", "-1\n"), ("br0", "4294967295\n")] {
            std::fs::create_dir_all(folder.path().join("class/net").join(name)).unwrap();
            std::fs::write(folder.path().join("class/net").join(name).join("speed"), speed).unwrap();
        }
        std::fs::create_dir(folder.path().join("class/net/lo")).unwrap();
        let speed = |interface: &str, bits| Speed { interface: interface.into(), bits };
        assert_eq!(read_speeds(folder.path()), [speed("eth0", 25_000_000_000), speed("eth1", 1_000_000_000)]);
    }
}
