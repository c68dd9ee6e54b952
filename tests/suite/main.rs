//! The integration tests, one binary: each module is an area, its data lies beside it.

mod cli;
mod config;
mod daemon;
mod faults;
mod haproxy;
mod host;
mod http;
mod policy;
mod redis;
mod scenarios;
mod support;
