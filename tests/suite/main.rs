//! Everything that is seen from outside: against real files, processes and servers.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod again;
mod edges;
mod journal;
