//! Debian's own commands, for what is set up and asked outside the measured time.

use std::process::Command;

use crate::Outcome;

pub fn run(command: &str) -> Outcome<(bool, String)> {
    let output = Command::new("bash").args(["-c", command]).output().map_err(|error| format!("{command}: {error}"))?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Ok((output.status.success(), text))
}

pub fn must(command: &str) -> Outcome<String> {
    match run(command)? {
        (true, text) => Ok(text),
        (false, text) => Err(format!("`{command}` failed: {}", text.trim())),
    }
}
