//! The executable as a user runs it, with real servers: what it does to them and undoes, what it tells, how it ends.

mod ask;
mod crash;
mod drift;
mod guard;
mod stop;
