//! HTTP requests: any bytes over TCP and the admin socket.

#![no_main]

node_guardian_fuzz::target!("request");
