//! The server as clients see it: a board with a made-up node behind it, a real port and a real socket in front.

mod abuse;
mod access;
mod answers;
mod crowd;
pub mod house;
mod prometheus;
