//! The kernel's files to a `Sample`. Reads, parses, derives; never decides. Roots of /proc and /sys are arguments.
//!
//! A source has one file: what it keeps open, a pure parser of bytes, a pure derivation from two readings. In reading
//! order: [`place`] settles whose readings count; [`sampler`] asks the sources in turn; [`kept`] is how they read; [`scan`] and
//! [`counter`] are what parsers and derivations are made of; [`slow`] is the one thread for everything that may take its time,
//! and hands over through [`shared`].

pub(crate) mod apart;
pub mod arc;
pub(crate) mod blind;
pub mod cgroup;
pub(crate) mod container;
pub(crate) mod counter;
pub mod cpu;
pub(crate) mod cpuset;
pub mod diag;
pub mod disk;
pub mod facts;
pub(crate) mod found;
pub(crate) mod fuse;
pub mod group;
pub mod guardian;
pub(crate) mod hierarchy;
pub(crate) mod idle;
pub(crate) mod idle_tasks;
pub mod inventory;
pub mod kept;
pub mod limits;
pub mod listeners;
pub mod memory;
pub mod mounts;
pub mod network;
pub mod paging;
pub mod place;
pub mod post;
pub mod pressure;
pub mod process;
pub(crate) mod processes;
pub mod read;
pub mod round;
pub mod sampler;
pub(crate) mod scan;
pub(crate) mod shared;
pub(crate) mod slot;
pub(crate) mod slow;
pub mod sockets;
pub mod space;
pub(crate) mod thrift;
pub(crate) mod trigger;
pub(crate) mod unread;
pub mod usage;
pub(crate) mod wanted;
pub(crate) mod watched;
