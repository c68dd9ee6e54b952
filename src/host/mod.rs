//! The kernel's files to a `Sample`. Reads, parses, derives; never decides. Roots of /proc and /sys are arguments.

pub mod facts;
