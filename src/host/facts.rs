//! What the node is and has, and what of it counts here.

use serde::Serialize;

#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Facts {
    pub host: String,
    pub kernel: String,
    pub os: String,
    pub boot_unix_seconds: u64,
    /// Those of the node, whatever we may use of them.
    pub cpus: usize,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    /// Who runs the container that the guardian is in.
    pub container: Option<String>,
    /// Whose memory, CPU, pressure and tasks are judged.
    pub judged: Judged,
    pub judged_why: &'static str,
    /// Both for people, with the limits.
    pub standing: String,
    /// What those may use at most; `null` is the node's own end.
    pub allowed: Allowed,
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

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judged {
    #[default]
    Node,
    Container,
    Pod,
}

/// What may be used at most, as the files say now.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Allowed {
    pub memory_bytes: Option<u64>,
    pub cpus: Option<f64>,
    pub tasks: Option<u64>,
}
