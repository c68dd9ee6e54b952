//! What the node is and has: the inventory, by sysinfo, at a slow pace and never on the hot path.

use serde::Serialize;

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Facts {
    pub host: String,
    pub kernel: String,
    pub os: String,
    pub boot_unix_seconds: u64,
    pub cpus: usize,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Disk {
    pub mount: String,
    pub device: String,
    pub file_system: String,
    pub size_bytes: u64,
}

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Interface {
    pub name: String,
    /// Bits per second, where the driver says.
    pub speed_bits: Option<u64>,
}
