//! JVM: its answers over the attach socket, in pieces.

#![no_main]

node_guardian_fuzz::target!("jvm");
