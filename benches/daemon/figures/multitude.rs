//! What guarding costs on a node that has one thing by the thousand, some of which come and go each second: mounts,
//! interfaces, listening ports. In namespaces of its own, so it needs root, and nothing of it is seen outside.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use super::CALM;
use crate::Figures;
use crate::daemon::Daemon;
use crate::process::Process;
use crate::table::{Row, Unit};

const MOUNTS: usize = 2_000;
const INTERFACES: usize = 1_000;
const PORTS: u16 = 20_000;
const FIRST_PORT: u16 = 2_000;
const LISTENING_WITHIN: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(5);
const WINDOW: Duration = Duration::from_secs(20);
const CHURN: Duration = Duration::from_secs(1);

pub fn measure() -> Figures {
    if !Uid::effective().is_root() {
        return Err("namespaces are made here: run it as root".to_owned());
    }
    // Only this thread and what it starts are elsewhere.
    thread::spawn(apart).join().map_err(|_| "the thread in its own namespaces panicked".to_owned())?
}

fn apart() -> Figures {
    let told = |errno: nix::Error| format!("no namespaces: {errno}");
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).map_err(told)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(told)?;
    ip("link set lo up\n")?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), none).map_err(told)?;

    let bare = cpu_percent(|_| Ok(()))?;
    let row = |what: String, percent: f64| {
        Row::new(format!("CPU with {what}"), percent, Unit::Percent)
            .at_most(0.5, 0.2)
            .next_to(format!("{bare:.3} % without"))
    };
    let mut rows = Vec::new();

    let place = |name: &str| folder.path().join(name);
    (0..MOUNTS).try_for_each(|at| mount_at(&place(&at.to_string())))?;
    let mounts = cpu_percent(|_| mount_at(&place("more")).and_then(|()| unmount(&place("more"))))?;
    rows.push(row(format!("{MOUNTS} mounts, one more and one less a second"), mounts));
    (0..MOUNTS).try_for_each(|at| unmount(&place(&at.to_string())))?;

    ip(&(0..INTERFACES).map(|at| format!("link add many{at} type bridge\n")).collect::<String>())?;
    let interfaces = cpu_percent(|at| ip(&format!("link del many{at}\nlink add many{at} type bridge\n")))?;
    rows.push(row(format!("{INTERFACES} interfaces, one made anew each second"), interfaces));
    ip(&(0..INTERFACES).map(|at| format!("link del many{at}\n")).collect::<String>())?;

    let halves = [0, PORTS / 2].map(|from| listeners(FIRST_PORT + from, PORTS / 2));
    let _listening = halves.into_iter().collect::<Result<Vec<_>, _>>()?;
    let churned = FIRST_PORT + PORTS;
    let listen = |port: u16| TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"));
    let ports = cpu_percent(|at| listen(churned + at as u16 % 100).map(drop))?;
    rows.push(row(format!("{PORTS} listening ports, one more and one less a second"), ports));
    Ok(rows)
}

/// No process may hold all of them: most systems allow one about as many files.
fn listeners(first: u16, count: u16) -> Result<Process, String> {
    let ready = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let file = ready.path().join("ready");
    let program = "import pathlib, socket, sys, time
first, count, ready = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
held = [socket.create_server(('127.0.0.1', first + at)) for at in range(count)]
pathlib.Path(ready).touch()
time.sleep(3600)";
    let mut command = Command::new("python3");
    command.args(["-c", program, &first.to_string(), &count.to_string()]).arg(&file);
    let mut process = Process::quietly(&mut command)?;
    let until = Instant::now() + LISTENING_WITHIN;
    while !file.exists() {
        if process.has_ended() || Instant::now() > until {
            return Err(format!(
                "python3 does not listen on {count} ports: `ulimit -n` must be at least {}",
                count + 100
            ));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// Of a daemon that starts with what is there, while this happens each second.
fn cpu_percent(churn: impl Fn(usize) -> Result<(), String> + Sync) -> Result<f64, String> {
    let daemon = Daemon::start(&format!("{CALM}[sampling]\ninterval = \"1s\"\n"))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let churning = scope.spawn(|| {
            (0..).take_while(|_| !is_over.load(Ordering::Relaxed)).try_for_each(|at| {
                churn(at)?;
                thread::sleep(CHURN);
                Ok(())
            })
        });
        thread::sleep(SETTLE);
        let (began, before) = (Instant::now(), daemon.process.cpu_seconds());
        thread::sleep(WINDOW);
        let percent = 100.0 * (daemon.process.cpu_seconds() - before) / began.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        let churned: Result<(), String> = churning.join().map_err(|_| "what comes and goes panicked".to_owned())?;
        churned.map(|()| percent)
    })
}

fn mount_at(place: &Path) -> Result<(), String> {
    let failed = |why: String| format!("cannot mount {}: {why}", place.display());
    fs::create_dir_all(place).map_err(|error| failed(error.to_string()))?;
    let size = Some("size=64k");
    mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), size).map_err(|errno| failed(errno.to_string()))
}

fn unmount(place: &Path) -> Result<(), String> {
    umount2(place, MntFlags::MNT_DETACH).map_err(|errno| format!("cannot unmount {}: {errno}", place.display()))
}

/// Commands of ip(8), one a line.
fn ip(batch: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().map_err(|error| format!("no temporary file: {error}"))?;
    fs::write(file.path(), batch).map_err(|error| format!("no batch: {error}"))?;
    let done = Command::new("ip").arg("-batch").arg(file.path()).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(format!("ip -batch: {said}")) }
}
