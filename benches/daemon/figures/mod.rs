//! One file a part of the table.

pub mod cpu;
pub mod crowded;
pub mod detection;
pub mod disk;
pub mod hanging;
pub mod http;
pub mod inside;
pub mod lateness;
pub mod memory;
pub mod multitude;
pub mod probes;
pub mod reaction;
pub mod runaway;
pub mod start;

/// What other programs of this machine do must not quicken the pace that is measured.
const CALM: &str = "
[rule.cpu-emergency]
enabled = false
[rule.cpu-high]
enabled = false
[rule.cpu-pressure]
enabled = false
[rule.load-high]
enabled = false
[rule.memory-pressure]
enabled = false
[rule.disk-pressure]
enabled = false
";
