//! HAProxy, a shop and a Redis, as units beside each other; the attack as a job in a slice of its own; and whoever comes from
//! outside in a slice that belongs to the apparatus.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{client, shell};
use crate::Outcome;
use crate::play::shop;
use crate::scenario::{ATTACK, Scenario};

const PROGRAM: &str = "/opt/town/protection";
const JOB: &str = "/sys/fs/cgroup/batch.slice/job.service/cgroup.kill";
const CROWD: &str = "/sys/fs/cgroup/bench.slice/crowd.service/cgroup.kill";

/// `Restart=` where the attack is one that comes back, as many units are set to.
fn job(scenario: &Scenario) -> String {
    let restart = if scenario.name == "runaway" { "Restart=always\nRestartSec=1\n" } else { "" };
    let seconds = ATTACK + 5;
    format!(
        "[Service]\nExecStart=/opt/town/job attack {} {seconds}\nSlice=batch.slice\nTasksMax=2000\n{restart}",
        scenario.name
    )
}

fn crowd(users: u32, path: &str) -> String {
    let seconds = ATTACK + 1;
    format!(
        "[Service]\nExecStart=/opt/town/crowd crowd {users} {path} {seconds}\nSlice=bench.slice\nOOMScoreAdjust=-1000\nLimitNOFILE=65536\nTasksMax=2000\n"
    )
}

const SHOP: &str = "[Unit]\nAfter=redis-server.service\n[Service]\nExecStart=/opt/town/shop shop\nUser=www-data\nSupplementaryGroups=redis\nStateDirectory=shop\nLimitNOFILE=65536\nRestart=always\nRestartSec=1\n";

/// What is there before anybody attacks; the same for all.
pub fn build() -> Outcome {
    install()?;
    write("/etc/haproxy/haproxy.cfg", include_str!("../config/haproxy.cfg"))?;
    write("/etc/redis/redis.conf", include_str!("../config/redis.conf"))?;
    write("/etc/systemd/system/shop.service", SHOP)?;
    // A Debian node gives its slices no weights unless somebody asks; the guest's agent did.
    shell::must(
        "systemctl set-property --runtime agent.slice CPUWeight=; systemctl set-property --runtime guest-agent.service CPUWeight=; true",
    )?;
    // The thread that makes huge pages takes half of an emulated processor for seconds.
    write("/sys/kernel/mm/transparent_hugepage/enabled", "madvise")?;
    shell::must("systemctl start redis-server shop haproxy")?;
    shop::stock()?;
    await_answer()
}

/// Until several checkouts in a row are answered soon: emulation has to translate what it has not run since it was resumed.
pub fn await_calm() -> Outcome {
    const IN_A_ROW: u32 = 12;
    const SOON: Duration = Duration::from_millis(100);
    let patience = Instant::now() + Duration::from_secs(60);
    let mut calm = 0;
    while calm < IN_A_ROW {
        let asked = Instant::now();
        calm = if client::answers() && asked.elapsed() < SOON { calm + 1 } else { 0 };
        if asked > patience {
            return Err("the town does not become calm".to_owned());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn await_answer() -> Outcome {
    let patience = Instant::now() + Duration::from_secs(60);
    while !client::answers() {
        if Instant::now() > patience {
            return Err(format!("the town does not answer: {}", shell::run("curl -si 127.0.0.1:8080/checkout")?.1));
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

pub fn arm(scenario: &Scenario) -> Outcome {
    await_answer()?;
    write("/etc/systemd/system/job.service", &job(scenario))?;
    if let Some((users, path)) = scenario.crowd {
        write("/etc/systemd/system/crowd.service", &crowd(users, path))?;
    }
    Ok(())
}

/// The same program under the names that an administrator would know its parts by.
fn install() -> Outcome {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let put = || -> std::io::Result<()> {
        fs::create_dir_all("/opt/town")?;
        fs::create_dir_all("/run/town")?;
        fs::copy(here, PROGRAM)?;
        fs::set_permissions(PROGRAM, Permissions::from_mode(0o755))?;
        for name in ["shop", "crowd", "job"] {
            symlink(PROGRAM, format!("/opt/town/{name}"))?;
        }
        Ok(())
    };
    put().map_err(|error| format!("/opt/town: {error}"))
}

pub fn write(path: &str, text: &str) -> Outcome {
    let put = || -> std::io::Result<()> {
        if let Some(folder) = Path::new(path).parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    };
    put().map_err(|error| format!("{path}: {error}"))
}

pub fn attack(scenario: &Scenario) -> Outcome {
    let unit = if scenario.crowd.is_some() { "crowd" } else { "job" };
    shell::must(&format!("systemctl start --no-block {unit}")).map(drop)
}

/// Past the service manager, which may be as starved as everybody else.
pub fn end_attack(scenario: &Scenario) {
    let file = if scenario.crowd.is_some() { CROWD } else { JOB };
    if let Err(error) = fs::write(file, "1") {
        eprintln!("the attack is over already: {error}");
    }
    // A job that is started again would come back; and somebody frees the disk.
    if let Err(why) = shell::run("systemctl stop --no-block job; rm -rf /var/tmp/job") {
        eprintln!("{why}");
    }
}
