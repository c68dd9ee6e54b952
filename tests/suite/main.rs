//! The integration tests, one binary: each module is an area, its data lies beside it.

mod faults;
mod haproxy;
mod policy;
mod redis;
mod support;
