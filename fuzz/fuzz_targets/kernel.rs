//! Texts and netlink answers of the kernel.

#![no_main]

node_guardian_fuzz::target!("kernel");
