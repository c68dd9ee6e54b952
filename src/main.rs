//! Reads the command line; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use node_guardian::cli::Cli;
use node_guardian::privilege::wiping::Wiping;

#[cfg(layout)]
use node_guardian::privilege::layout::Group;

#[cfg(layout)]
include!(concat!(env!("OUT_DIR"), "/layout.rs"));

#[global_allocator]
static WIPING: Wiping = Wiping;

fn main() -> ExitCode {
    #[cfg(layout)]
    node_guardian::privilege::layout::declare(groups());
    Cli::parse().execute()
}
