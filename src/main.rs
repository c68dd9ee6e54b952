//! Reads the command line; everything else is in the library.

use std::process::ExitCode;

use clap::Parser;
use node_guardian::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().execute()
}
