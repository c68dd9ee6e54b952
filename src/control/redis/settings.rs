//! `[control.redis.NAME]`

use std::path::PathBuf;

use super::target::Redis;
use crate::control::address::Address;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::secret::warn_open_secret;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;

impl Written for Redis {
    const KEYS: &'static [&'static str] = &[
        "socket",
        "address",
        "username",
        "password_file",
        "cache_only",
        "flush_pattern",
        "client_buffers",
        "listener",
        "ports",
    ];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let socket = section.get("socket", findings, value::socket).map(Address::Unix);
        let address = section.get("address", findings, value::address).map(Address::Tcp);
        match (section.has("socket"), section.has("address")) {
            (true, true) => {
                let message = "a Redis is reached by `socket` or by `address`, not by both";
                findings.error(section.place("address"), message, "remove one of them");
            }
            (false, false) => {
                let help = "add socket = \"/run/redis/redis-server.sock\", or address = \"127.0.0.1:6379\"";
                findings.absence(section.key, format!("{title} has neither `socket` nor `address`"), help);
            }
            (true, false) | (false, true) => {}
        }
        let redis = Redis {
            address: socket.or(address).unwrap_or_else(|| Address::Unix(PathBuf::new())),
            listener: section.get("listener", findings, value::user),
            username: section.get("username", findings, username),
            password_file: section.get("password_file", findings, value::path),
            cache_only: section.get("cache_only", findings, value::boolean).unwrap_or(false),
            flush_pattern: section.get("flush_pattern", findings, pattern),
            client_buffers: section.get("client_buffers", findings, value::size),
        };
        if redis.username.is_some() && !section.has("password_file") {
            let message = "`username` needs `password_file`";
            findings.error(section.place("username"), message, "name the file that holds the password");
        }
        if let Some(file) = &redis.password_file {
            warn_open_secret(section.place("password_file"), file, findings);
        }
        Some(redis)
    }
}

fn username(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "guardian")?;
    if written.is_empty() || written.chars().any(char::is_whitespace) {
        return refuse("a Redis user name is neither empty nor has spaces", "such as username = \"guardian\"");
    }
    Ok(written.to_owned())
}

fn pattern(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "cache:*")?;
    if written.is_empty() || written.chars().all(|c| c == '*') {
        let help = "name a prefix, such as \"cache:*\"; where everything may go, declare cache_only = true";
        return refuse("this pattern matches every key", help);
    }
    Ok(written.to_owned())
}
