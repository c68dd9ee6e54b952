//! HAProxy: its answers to a survey, and what the journal makes of that.

#![no_main]

node_guardian_fuzz::target!("haproxy");
