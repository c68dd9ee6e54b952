//! The integration tests, one binary: each module is an area, its data lies beside it.

mod cli;
mod config;
mod http;
mod policy;
mod scenarios;
