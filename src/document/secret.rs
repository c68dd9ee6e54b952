//! Secrets are never in the file: it names the files that hold them, and these are looked at.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::origin::{Place, printable};
use super::section::Findings;

/// Complains about a file with a secret that everybody on the node can read, or that is not there.
pub fn warn_open_secret(place: &Place, file: &Path, findings: &mut Findings<'_>) {
    match fs::metadata(file) {
        Ok(metadata) if metadata.mode() & 0o007 != 0 => {
            let shown = printable(&file.display().to_string());
            let message = format!("every user of this node can read the secret in {shown}");
            findings.warning(place, message, format!("chmod o= {shown}"));
        }
        Ok(metadata) if !metadata.is_file() => {
            findings.warning(place, "this is not a regular file, and is never read", "write the secret into a file");
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            findings.warning(place, "this file does not exist", "create it before node-guardian needs it");
        }
        // Whoever checks may have fewer rights than the daemon.
        Ok(_) | Err(_) => {}
    }
}
