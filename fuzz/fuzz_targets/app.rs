//! ng-control/1: what an application replies, over its socket and over HTTP.

#![no_main]

node_guardian_fuzz::target!("app");
