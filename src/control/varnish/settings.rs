//! `[control.varnish.NAME]`

use std::path::PathBuf;

use super::target::Varnish;
use crate::control::address::Address;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::secret::warn_open_secret;
use crate::document::section::{Fault, Findings, Read, Section};
use crate::document::value;

impl Written for Varnish {
    const KEYS: &'static [&'static str] = &["address", "secret_file", "restart_to_free", "listener", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        if !section.has("address") {
            let help = "add address = \"localhost:6082\" (varnishd: `-T localhost:6082`)";
            findings.absence(section.key, format!("{title} has no `address`"), help);
        }
        let address = section.get("address", findings, command_line).map(Address::Tcp);
        let secret_file = section.get("secret_file", findings, value::path);
        if let Some(file) = &secret_file {
            warn_open_secret(section.place("secret_file"), file, findings);
        }
        Some(Varnish {
            address: address.unwrap_or_else(|| Address::Unix(PathBuf::new())),
            listener: section.get("listener", findings, value::user),
            secret_file,
            restart_to_free: section.get("restart_to_free", findings, value::boolean).unwrap_or(false),
        })
    }
}

fn command_line(key: &str, node: &Node) -> Read<String> {
    const HELP: &str = "write host:port, such as localhost:6082; Varnish's command line has no unix socket";
    let told = |faults: Vec<Fault>| faults.into_iter().map(|fault| Fault { help: HELP.to_owned(), ..fault }).collect();
    value::address(key, node).map_err(told)
}
