//! Configurations: to settings, complaints and what `check` says.

#![no_main]

node_guardian_fuzz::target!("config");
