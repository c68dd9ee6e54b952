//! In a container of LXC, whose /proc is lxcfs: what it shows is what counts; what it cuts, holds up or takes away is told, and
//! never taken for calm.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::super::support::node::{Daemon, EXECUTABLE, Node, short_of_memory};
use super::super::support::{Process, eventually};

const LIMIT: u64 = 256 << 20;

/// As liblxc does it: namespaces of its own, the files of lxcfs over those of the kernel, `container=` in the environment.
const ENTER: &str = r#"
for file in meminfo stat loadavg diskstats swaps uptime cpuinfo; do
    mount --bind "$1/proc/$file" "/proc/$file" || exit 1
done
for limit in memory.limit_in_bytes memory.max; do
    test ! -e "$2/$limit" || { echo 268435456 >"$2/$limit" && echo 0 >"$2/cgroup.procs"; }
done
export container=lxc
executable=$3
: >"$4/entered"
until test -e "$4/begin"; do sleep 0.1; done
shift 4
exec "$executable" "$@"
"#;

struct Lxcfs {
    process: Process,
    folder: tempfile::TempDir,
    group: PathBuf,
}

impl Lxcfs {
    /// `None` where there is no FUSE, or no right to mount it.
    fn start() -> Option<Self> {
        let may = Path::new("/dev/fuse").exists() && nix::unistd::geteuid().is_root();
        let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists()).filter(|_| may)?;
        let group = root.join(format!("node-guardian-lxc-{}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("mounted")).unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let process = Process::start("lxcfs", "lxcfs", &["-f", "-p", &path("pid"), &path("mounted")]);
        let lxcfs = Self { process, folder, group };
        eventually("lxcfs", || lxcfs.shown().join("proc/meminfo").exists().then_some(()));
        Some(lxcfs)
    }

    fn shown(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn run(&self, node: &Node) -> Daemon {
        let mut daemon = self.enter(node);
        begin(node);
        daemon
            .until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
        daemon
    }

    /// In the container, and to start there once it may begin.
    fn enter(&self, node: &Node) -> Daemon {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--mount", "--mount-proc", "--kill-child", "sh", "-c", ENTER, "sh"]);
        command.args([&self.shown(), &self.group]).arg(EXECUTABLE).arg(node.path(""));
        let daemon = node.launch(command);
        eventually("a container", || node.path("entered").exists().then_some(()));
        daemon
    }
}

fn begin(node: &Node) {
    std::fs::write(node.path("begin"), "").unwrap();
}

/// That reads this machine.
fn node_of_lxc() -> Node {
    let full = "[rule.full]\nwhen = \"memory.available_bytes < 1KiB\"\nseverity = \"info\"\n";
    let node = Node::new(&(short_of_memory("") + full));
    for root in ["proc", "sys"] {
        node.edit(&format!("{root}_root = \"{}\"\n", node.path(root).display()), "");
    }
    node
}

impl Drop for Lxcfs {
    fn drop(&mut self) {
        self.process.kill();
        Command::new("umount").args(["-l".as_ref(), self.shown().as_os_str()]).status().ok();
        // The daemon was told to end before this.
        eventually("an empty cgroup", || std::fs::remove_dir(&self.group).ok());
    }
}

fn reading(daemon: &Daemon, metric: &str) -> Option<f64> {
    let status = daemon.status();
    let line = status["headroom"].as_array()?.iter().find(|line| line["metric"] == metric)?.clone();
    line["value"].as_f64()
}

/// Of the paths that cannot be seen.
fn unseen(daemon: &Daemon) -> String {
    let status = daemon.status();
    let spots = status["blind_spots"].as_array().unwrap().iter();
    spots.map(|spot| format!("{}: {}\n", spot["what"], spot["why"])).collect()
}

fn is_silent(daemon: &Daemon) -> bool {
    ["meminfo", "stat", "loadavg"].iter().all(|file| {
        let spots = unseen(daemon).replace('"', "");
        spots.lines().any(|spot| spot.starts_with(&format!("/proc/{file}: a program serves it over FUSE")))
    })
}

/// For longer than a loop that hangs is borne with.
fn goes_on(daemon: &mut Daemon) {
    let ticks = |daemon: &Daemon| daemon.status()["tick"].as_u64().unwrap();
    let (before, began) = (ticks(daemon), Instant::now());
    while began.elapsed() < Duration::from_secs(12) {
        assert_eq!(daemon.get("/livez").status, 200);
        std::thread::sleep(Duration::from_millis(500));
    }
    let ticked = ticks(daemon) - before;
    assert!(ticked >= 8, "{ticked} ticks in 12 s");
    // Its own thread for what is slow is not held up either.
    let status = daemon.status();
    let disks = status["blind_spots"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|spot| spot["what"].as_str().unwrap().starts_with("disk"));
    assert_eq!(disks.count(), 0, "{status}");
}

#[test]
fn what_lxcfs_shows_counts_and_what_it_does_not_is_told() {
    let Some(mut lxcfs) = Lxcfs::start() else { return };
    let node = node_of_lxc();
    let mut daemon = lxcfs.run(&node);
    let available = daemon.until("memory", |daemon| reading(daemon, "memory.available_bytes"));
    assert!(available > 1e6 && available <= LIMIT as f64, "the node has more than {available}");
    daemon.until("CPU time", |daemon| reading(daemon, "cpu.used_percent"));
    let later = node_of_lxc();
    let mut second = lxcfs.enter(&later);
    // It hangs: what it serves is unknown and named, and everything else goes on.
    lxcfs.process.signal(Signal::SIGSTOP);
    daemon.until("it is told what does not answer", |daemon| is_silent(daemon).then_some(()));
    goes_on(&mut daemon);
    assert_eq!(reading(&daemon, "memory.available_bytes"), None);
    assert_eq!(daemon.status()["rules"][0]["state"], "unknown");
    // Who starts meanwhile starts.
    begin(&later);
    second.until("it is told at once", |daemon| {
        daemon.try_get("/status")?;
        is_silent(daemon).then_some(())
    });
    goes_on(&mut second);
    lxcfs.process.signal(Signal::SIGCONT);
    for daemon in [&mut daemon, &mut second] {
        daemon.until("memory again", |daemon| reading(daemon, "memory.available_bytes"));
        daemon.until("nothing is amiss", |daemon| (!is_silent(daemon)).then_some(()));
    }
    drop(second);
    // It ends: what it showed cannot be had any more, until the container is started anew.
    lxcfs.process.kill();
    daemon.until("it is told what cannot be seen", |daemon| {
        let unseen = unseen(daemon);
        (unseen.contains("/proc/meminfo") && unseen.contains("/proc/stat")).then_some(())
    });
    daemon.until("no rule about it is quiet", |daemon| {
        let status = daemon.status();
        let mut rules = status["rules"].as_array()?.iter();
        rules.all(|rule| rule["state"] == "unknown").then_some(())
    });
    assert_eq!(reading(&daemon, "memory.available_bytes"), None);
}
