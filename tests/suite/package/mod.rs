//! What ships beside the binary: unit files, manual pages, completions. What can be checked of it without a boot.

mod manual;
mod pages;
mod units;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(path: &str) -> PathBuf {
    root().join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(file(path)).unwrap()
}
