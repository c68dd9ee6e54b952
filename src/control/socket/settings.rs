//! `[control.socket.NAME]`

use std::path::PathBuf;

use super::target::{Protocol, Socket};
use crate::control::address::Address;
use crate::control::place::Written;
use crate::control::recipe::Request;
use crate::control::recipe::settings::{self as recipe, Dialect, Peers, place_of, several};
use crate::document::node::{Entry, Node};
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;
use crate::policy::mitigation::Verb;

const SPEAKS: [&str; 2] = ["text", "postgres"];

const TEXT: Dialect = Dialect {
    keys: &["send", "hex", "ends_with", "expect", "take", "json", "means", "may_be_empty"],
    example: "{ send = \"flush\\n\", expect = \"OK\" }",
    request,
    tells_errors: false,
};
const POSTGRES: Dialect = Dialect {
    keys: &["send", "expect", "take", "json", "means", "may_be_empty"],
    example: "{ send = \"SELECT …\" }",
    tells_errors: true,
    ..TEXT
};

impl Written for Socket {
    const KEYS: &'static [&'static str] = &[
        "socket",
        "address",
        "speaks",
        "user",
        "database",
        "ends_with",
        "keep_open",
        "password_file",
        "listener",
        "on_connect",
        "epoch",
        "ports",
    ];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::named(title, &entry.key, &entry.node, findings)?;
        let keys: Vec<&'static str> = Self::KEYS.iter().copied().chain(Verb::ALL.map(Verb::name)).collect();
        section.refuse_unknown(title, &keys, findings);
        let address = place_of(title, section, "/run/app/control.sock", findings);
        let protocol = protocol(title, section, findings);
        let dialect = if matches!(protocol, Protocol::Postgres { .. }) { &POSTGRES } else { &TEXT };
        let closes = protocol.closes();
        let on_connect = several(title, "on_connect", section, dialect, findings);
        for key in ["on_connect", "keep_open"] {
            if closes && section.has(key) {
                let message =
                    format!("`{key}` has no effect where the service closes after each answer (ends_with = \"\")");
                findings.error(section.place(key), message, "remove it, or say how an answer ends");
            }
        }
        let is_missing = address.as_ref().is_none_or(|address| matches!(address, Address::Unix(_)));
        let peers = if is_missing { Peers::Seen } else { Peers::Unseen };
        Some(Socket {
            address: address.unwrap_or_else(|| Address::Unix(PathBuf::new())),
            protocol,
            keep_open: section.get("keep_open", findings, value::boolean).unwrap_or(false),
            on_connect,
            listener: section.get("listener", findings, value::user),
            recipe: Box::new(recipe::read(title, section, dialect, peers, findings)),
        })
    }
}

fn protocol(title: &str, section: Section<'_>, findings: &mut Findings<'_>) -> Protocol {
    let speaks = |key: &str, node: &Node| value::choice(key, node, &SPEAKS, |name| name);
    let speaks = section.get("speaks", findings, speaks).unwrap_or("text");
    let name = |key: &str, node: &Node| {
        let written = value::text(key, node, "guardian")?;
        if written.is_empty() || written.len() > 63 || written.contains('\0') {
            return refuse(format!("`{key}` is a name of PostgreSQL: at most 63 bytes"), "such as \"guardian\"");
        }
        Ok(written.to_owned())
    };
    let ends_with = section.get("ends_with", findings, recipe::text).unwrap_or_else(|| "\n".to_owned());
    let user = section.get("user", findings, name);
    let database = section.get("database", findings, name);
    let foreign: &[&str] = if speaks == "postgres" { &["ends_with"] } else { &["user", "database"] };
    for key in foreign.iter().filter(|key| section.has(key)) {
        let message = format!("`{key}` has no effect for a service that speaks {speaks}");
        findings.error(section.place(key), message, "remove it");
    }
    if speaks == "text" {
        return Protocol::Text { ends_with };
    }
    if !section.has("user") {
        findings.absence(section.key, format!("{title} has no `user`"), "name the role that the guardian logs in as");
    }
    Protocol::Postgres { user: user.unwrap_or_default(), database: database.unwrap_or_else(|| "postgres".to_owned()) }
}

fn request(section: Section<'_>, findings: &mut Findings<'_>) -> Option<Request> {
    let text = |key: &str, node: &Node| {
        let written = recipe::text(key, node)?;
        if written.is_empty() { refuse(format!("`{key}` is empty"), "write what is sent") } else { Ok(written) }
    };
    let ends_with = section.get("ends_with", findings, text);
    let send = section.get("send", findings, text);
    let send = send.map(|text| Request::Send { text, ends_with: ends_with.clone() });
    let hex = section.get("hex", findings, hex).map(|bytes| Request::Bytes { bytes, ends_with });
    match (section.has("send"), section.has("hex")) {
        (true, true) => {
            findings.error(section.place("hex"), "a step sends `send` or `hex`, not both", "remove one of them");
        }
        (false, false) => {
            findings.absence(section.key, "this step sends nothing", "add send = \"…\\n\": lines end with \\n");
        }
        (true, false) | (false, true) => {}
    }
    send.or(hex)
}

fn hex(key: &str, node: &Node) -> Read<Vec<u8>> {
    let written = recipe::text(key, node)?;
    let digits: Vec<u8> = written.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| {
        let [high, low] = pair else { return None };
        let (high, low) = (char::from(*high).to_digit(16)?, char::from(*low).to_digit(16)?);
        u8::try_from(high * 16 + low).ok()
    };
    match digits.chunks(2).map(byte).collect::<Option<Vec<u8>>>() {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        Some(_) | None => refuse(format!("`{key}` is bytes of two hexadecimal digits"), "such as \"00 0d 0a\""),
    }
}
