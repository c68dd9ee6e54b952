//! The integration tests, one binary: each module is an area, its data lies beside it.

mod again;
mod app;
mod bookkeeping;
mod cli;
mod config;
mod crash;
mod daemon;
mod edges;
mod faults;
mod haproxy;
mod haproxy_ways;
mod host;
mod http;
mod journal;
mod kubernetes;
mod leases;
mod memcached;
mod nginx;
mod package;
mod policy;
mod redis;
mod redis_relief;
mod scenarios;
mod support;
mod tidy;
mod webhook;
