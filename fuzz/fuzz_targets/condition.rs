//! Conditions: understood and written again alike, or complained about.

#![no_main]

node_guardian_fuzz::target!("condition");
