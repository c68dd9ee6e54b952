//! The integration tests, one binary: each module is an area, its data lies beside it.

mod http;
mod policy;
