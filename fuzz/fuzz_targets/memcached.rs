//! memcached: its answers to a whole conversation, in pieces.

#![no_main]

node_guardian_fuzz::target!("memcached");
