//! `[control.memcached.NAME]`

use std::path::PathBuf;

use super::target::Memcached;
use crate::control::address::Address;
use crate::control::place::Written;
use crate::document::node::Entry;
use crate::document::section::{Findings, Section};
use crate::document::value;

impl Written for Memcached {
    const KEYS: &'static [&'static str] = &["socket", "address", "cache_only", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let socket = section.get("socket", findings, value::socket).map(Address::Unix);
        let address = section.get("address", findings, value::address).map(Address::Tcp);
        match (section.has("socket"), section.has("address")) {
            (true, true) => {
                let message = "a memcached is reached by `socket` or by `address`, not by both";
                findings.error(section.place("address"), message, "remove one of them");
            }
            (false, false) => {
                let help = "add socket = \"/run/memcached/memcached.sock\", or address = \"127.0.0.1:11211\"";
                findings.absence(section.key, format!("{title} has neither `socket` nor `address`"), help);
            }
            (true, false) | (false, true) => {}
        }
        Some(Memcached {
            address: socket.or(address).unwrap_or_else(|| Address::Unix(PathBuf::new())),
            cache_only: section.get("cache_only", findings, value::boolean).unwrap_or(false),
        })
    }
}
