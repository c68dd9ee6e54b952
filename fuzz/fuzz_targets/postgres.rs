//! PostgreSQL: messages and rows, in pieces.

#![no_main]

node_guardian_fuzz::target!("postgres");
