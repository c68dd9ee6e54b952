//! The journal: whatever its two files hold, to what is in force.

#![no_main]

node_guardian_fuzz::target!("journal");
