//! Varnish: its command line's answers, in pieces.

#![no_main]

node_guardian_fuzz::target!("varnish");
