//! Webhook: what a receiver answers to an event, in pieces.

#![no_main]

node_guardian_fuzz::target!("webhook");
