//! The executable as a user runs it, with real servers: what it does to them and undoes, what it tells, how it ends.

mod ask;
mod crash;
mod disk;

mod drill;
mod footprint;
mod guard;
mod manager;
mod marks;
mod overridden;
mod reload;
mod servers;
mod sidecar;
mod stop;
mod unprivileged;
mod webhook;
