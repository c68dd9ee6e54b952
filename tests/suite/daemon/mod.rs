//! The executable as a user runs it, with real servers: what it does to them and undoes, what it tells, how it ends.

mod ask;
mod crash;
mod disk;
mod drill;
mod fallback;
mod footprint;
mod frozen;
mod guard;
mod handed_over;
mod hung;
mod journal;
mod kept;
mod manager;
mod marks;
mod orders;
mod overridden;
mod ports;
mod reload;
mod servers;
mod sidecar;
mod stand_down;
mod stop;
mod theirs;
mod unprivileged;
mod unread;
mod webhook;
