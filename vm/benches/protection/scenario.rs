//! The attacks: what each needs of the guest, and who comes from outside.

/// Seconds of calm before, of attack, and of watching afterwards.
pub const WARM_UP: u64 = 1;
pub const ATTACK: u64 = 10;
pub const AFTERMATH: u64 = 5;

pub struct Scenario {
    pub name: &'static str,
    pub about: &'static str,
    pub swap_mib: u32,
    pub disk_iops: Option<u32>,
    /// Clients from outside, who are no process of the node that a guard could end: how many, and what they ask for.
    pub crowd: Option<(u32, &'static str)>,
}

const fn plain(name: &'static str, about: &'static str) -> Scenario {
    Scenario { name, about, swap_mib: 0, disk_iops: None, crowd: None }
}

const fn swapping(name: &'static str, about: &'static str) -> Scenario {
    Scenario { name, about, swap_mib: 512, disk_iops: Some(400), crowd: None }
}

const fn outside(name: &'static str, about: &'static str, users: u32, path: &'static str) -> Scenario {
    Scenario { name, about, swap_mib: 0, disk_iops: None, crowd: Some((users, path)) }
}

pub const ALL: [Scenario; 11] = [
    plain("runaway", "one process takes memory as fast as it can, and is started again a second after its end"),
    plain("leak", "one process takes 120 MiB/s, no swap"),
    swapping("leak-swap", "one process takes 120 MiB/s, 512 MiB of swap on a disk of 400 operations/s"),
    plain("swarm", "14 workers of one service leak 6 MiB/s each up to 90 MiB, no swap; ended ones are replaced"),
    swapping("swarm-swap", "the same with 512 MiB of swap on a disk of 400 operations/s"),
    plain("cpu", "a job computes with 16 threads"),
    plain("fork", "a job forks up to 300 processes that fork on, each child gone at once"),
    plain("disk", "a job fills the disk within seconds and holds its files open"),
    Scenario {
        name: "io",
        about: "a job with 32 writers past the page cache and 4 that sync, on a disk of 400 operations/s",
        swap_mib: 0,
        disk_iops: Some(400),
        crowd: None,
    },
    outside(
        "flood",
        "360 connections from 40 addresses, within 4 s, ask for pages that take 4 s, and come again 3 s after any answer",
        360,
        "/page",
    ),
    outside(
        "surge",
        "90 users, within 6 s, ask for reports that hold 8 MiB for 8 s; they wait a second when told",
        90,
        "/report",
    ),
];

pub fn find(name: &str) -> Result<&'static Scenario, String> {
    let known = || ALL.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    ALL.iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| format!("no scenario {name:?}; there are {}", known()))
}
