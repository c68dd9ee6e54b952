//! `[control.app.NAME]`

use std::net::SocketAddr;
use std::path::PathBuf;

use super::target::App;
use crate::control::address::Address;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::origin::printable;
use crate::document::secret::warn_open_secret;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;

impl Written for App {
    const KEYS: &'static [&'static str] = &["socket", "url", "user", "token_file", "tiers", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let socket = section.get("socket", findings, value::socket).map(Address::Unix);
        let url = section.get("url", findings, url).map(Address::Tcp);
        match (section.has("socket"), section.has("url")) {
            (true, true) => {
                let message = "an app is reached by `socket` or by `url`, not by both";
                findings.error(section.place("url"), message, "remove one of them");
            }
            (false, false) => {
                let help = "add socket = \"/run/api/ng-control.sock\", or url = \"http://127.0.0.1:8080\"";
                findings.absence(section.key, format!("{title} has neither `socket` nor `url`"), help);
            }
            (true, false) => {
                refuse_beside("token_file", "socket", "the app checks the guardian's user", section, findings)
            }
            (false, true) => {}
        }
        let app = App {
            address: socket.or(url).unwrap_or_else(|| Address::Unix(PathBuf::new())),
            uid: section.get("user", findings, value::user),
            token_file: section.get("token_file", findings, value::path),
            tiers: section.get("tiers", findings, |key, node| value::list(key, node, tier)).unwrap_or_default(),
        };
        if let Some(file) = &app.token_file {
            warn_open_secret(section.place("token_file"), file, findings);
        }
        Some(app)
    }
}

fn refuse_beside(key: &str, with: &str, why: &str, section: Section<'_>, findings: &mut Findings<'_>) {
    if section.has(key) {
        findings.error(section.place(key), format!("`{key}` has no effect with `{with}`: {why}"), "remove it");
    }
}

/// `http://127.0.0.1:8080`, as `host:port`. Nothing here is encrypted, and only this node is ours to relieve.
fn url(key: &str, node: &Node) -> Read<String> {
    const HELP: &str = "such as \"http://127.0.0.1:8080\"; the path, /ng/v1/…, is added";
    let written = value::text(key, node, "http://127.0.0.1:8080")?;
    let host = written.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
    match host.and_then(|host| host.parse::<SocketAddr>().ok()) {
        Some(address) if address.ip().is_loopback() && address.port() > 0 => Ok(address.to_string()),
        Some(_) => refuse(format!("`{}` is not on this node", printable(written)), HELP),
        None => refuse(format!("`{}` is not an http:// address with an IP and a port", printable(written)), HELP),
    }
}

fn tier(key: &str, node: &Node) -> Read<String> {
    let name = value::text(key, node, "pages")?;
    if name.is_empty() || name.len() > 64 {
        return refuse("a tier has a name of 1 to 64 bytes", "`hello` of the app lists its tiers");
    }
    Ok(name.to_owned())
}
