//! `[control.webhook.NAME]`

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

use super::target::{USUAL, Webhook};
use crate::control::address::Address;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::origin::printable;
use crate::document::secret::warn_open_secret;
use crate::document::section::{Findings, Read, Section, proposal, refuse};
use crate::document::value;
use crate::events;

const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(30);
const EXAMPLE: &str = "http://127.0.0.1:8080/hook";

/// Where to, as the URL says it.
struct Way {
    address: String,
    host: String,
    path: String,
}

impl Written for Webhook {
    const KEYS: &'static [&'static str] = &["url", "socket", "path", "events", "token_file", "listener", "timeout"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        let way = section.get("url", findings, url);
        let socket = section.get("socket", findings, value::socket);
        let path = section.get("path", findings, path);
        complain(title, section, findings);
        let (address, host, path) = match (way, socket) {
            (Some(Way { address, host, path }), _) => (Address::Tcp(address), host, path),
            (None, socket) => (
                Address::Unix(socket.unwrap_or_else(PathBuf::new)),
                "localhost".to_owned(),
                path.unwrap_or_else(|| "/".to_owned()),
            ),
        };
        let timeout = |key: &str, node: &Node| value::duration(key, node, TIMEOUTS);
        let events = |key: &str, node: &Node| value::list(key, node, event);
        let webhook = Webhook {
            address,
            host,
            path,
            events: section.get("events", findings, events).unwrap_or_else(|| USUAL.map(str::to_owned).into()),
            listener: section.get("listener", findings, value::user),
            token_file: section.get("token_file", findings, value::path),
            timeout: section.get("timeout", findings, timeout).unwrap_or(TIMEOUT),
        };
        if let Some(file) = &webhook.token_file {
            let place = section.place("token_file");
            warn_open_secret(place, file, findings);
            if matches!(&webhook.address, Address::Tcp(address) if !is_loopback(address)) {
                let message = "this token crosses the network as plain text";
                findings.warning(place, message, "post to a relay on this node, and let that speak https");
            }
        }
        Some(webhook)
    }
}

fn complain(title: &str, section: Section<'_>, findings: &mut Findings<'_>) {
    match (section.has("url"), section.has("socket")) {
        (true, true) => {
            let message = "a webhook is reached by `url` or by `socket`, not by both";
            findings.error(section.place("socket"), message, "remove one of them");
        }
        (false, false) => {
            let help = format!("add url = \"{EXAMPLE}\", or socket and path");
            findings.absence(section.key, format!("{title} has neither `url` nor `socket`"), help);
        }
        (true, false) if section.has("path") => {
            findings.error(section.place("path"), "`path` goes with `socket`", "write it at the end of `url`");
        }
        (true, false) | (false, true) => {}
    }
}

fn url(key: &str, node: &Node) -> Read<Way> {
    let written = value::text(key, node, EXAMPLE)?;
    let wrong = || refuse(format!("`{}` is not an address to post to", printable(written)), help());
    let Ok(uri) = written.parse::<Uri>() else { return wrong() };
    let Some(authority) = uri.authority() else { return wrong() };
    if authority.as_str().contains('@') {
        let message = "this URL holds a secret, and secrets are never in the file";
        return refuse(message, "name a `token_file`: it goes along as a bearer");
    }
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            let help = "post to a relay on this node, such as nginx, that speaks https to the outside; \
                        docs/controls/webhook.md shows how";
            return refuse("node-guardian speaks no TLS, which would cost every node its memory", help);
        }
        Some(_) | None => return wrong(),
    }
    let port = match (authority.port_u16(), authority.as_str().strip_prefix(authority.host())) {
        (Some(port), _) if port > 0 => port,
        (None, Some("")) => 80,
        _ => return wrong(),
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Way {
        address: format!("{}:{port}", authority.host()),
        host: authority.as_str().to_owned(),
        path: path.to_owned(),
    })
}

fn help() -> String {
    format!("write http://HOST:PORT/PATH, such as {EXAMPLE}")
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn path(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "/hook")?;
    let whole = format!("http://localhost{written}");
    if written.starts_with('/') && whole.parse::<Uri>().is_ok() && !written.contains('#') {
        return Ok(written.to_owned());
    }
    refuse(format!("`{}` is not the path of a URL", printable(written)), "start it with /, such as path = \"/hook\"")
}

fn event(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "mode")?;
    if events::NAMES.contains(&written) {
        return Ok(written.to_owned());
    }
    refuse(format!("no event is called `{}`", printable(written)), proposal(written, &events::NAMES))
}
