//! The kernel's files to a `Sample`. Reads, parses, derives; never decides. Roots of /proc and /sys are arguments.
//!
//! A source has one file: what it keeps open, a pure parser of bytes, a pure derivation from two readings. In reading
//! order: [`place`] settles whose readings count; [`sampler`] asks the sources in turn; [`kept`] is how they read; [`scan`] and
//! [`counter`] are what parsers and derivations are made of; [`slow`] is the one thread for everything that may take its time,
//! and hands over through [`shared`].

pub mod apart;
pub mod arc;
pub mod blind;
pub mod cgroup;
pub mod container;
pub mod counter;
pub mod cpu;
pub mod cpuset;
pub mod diag;
pub mod disk;
pub mod facts;
pub mod found;
pub mod fuse;
pub mod group;
pub mod guardian;
pub mod hierarchy;
pub mod idle;
pub mod idle_tasks;
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
pub mod processes;
pub mod read;
pub mod round;
pub mod sampler;
pub mod scan;
pub mod shared;
pub mod slot;
pub mod slow;
pub mod sockets;
pub mod space;
pub mod thrift;
pub mod trigger;
pub mod unread;
pub mod usage;
pub mod wanted;
pub mod watched;
