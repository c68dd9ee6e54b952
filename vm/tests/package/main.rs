//! The package on a real boot: systemd, cgroup v2, journald, Debian's HAProxy, Redis and others. `make vm-test` runs it.

mod cgroup;
mod guarding;
mod install;
mod operators;
mod outage;
mod service;
mod support;
mod through;
mod town;
