//! `[control.http.NAME]`

use std::path::PathBuf;

use super::target::Http;
use crate::control::address::Address;
use crate::control::place::Written;
use crate::control::recipe::Request;
use crate::control::recipe::settings::{self as recipe, Dialect, Peers, place_of};
use crate::control::recipe::text::PASSWORD;
use crate::document::node::{Entry, Node, Value};
use crate::document::origin::printable;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;
use crate::policy::mitigation::Verb;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

const HTTP: Dialect = Dialect {
    keys: &[
        "get",
        "post",
        "put",
        "patch",
        "delete",
        "headers",
        "body",
        "status",
        "expect",
        "take",
        "json",
        "means",
        "may_be_empty",
    ],
    example: "{ post = \"/flush\" }",
    request,
    tells_errors: true,
};

impl Written for Http {
    const KEYS: &'static [&'static str] =
        &["socket", "address", "host", "headers", "password_file", "listener", "epoch", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::named(title, &entry.key, &entry.node, findings)?;
        let keys: Vec<&'static str> = Self::KEYS.iter().copied().chain(Verb::ALL.map(Verb::name)).collect();
        section.refuse_unknown(title, &keys, findings);
        let address = place_of(title, section, "/run/app/admin.sock", findings);
        let peers = match &address {
            Some(Address::Tcp(_)) => Peers::Unseen,
            Some(Address::Unix(_)) | None => Peers::Seen,
        };
        Some(Http {
            address: address.unwrap_or_else(|| Address::Unix(PathBuf::new())),
            host: section.get("host", findings, host).unwrap_or_default(),
            headers: section.get("headers", findings, headers).unwrap_or_default(),
            listener: section.get("listener", findings, value::user),
            recipe: Box::new(recipe::read(title, section, &HTTP, peers, findings)),
        })
    }
}

fn request(section: Section<'_>, findings: &mut Findings<'_>) -> Option<Request> {
    let written: Vec<&'static str> = METHODS.into_iter().filter(|method| section.has(method)).collect();
    let [method] = written[..] else {
        let message = if written.is_empty() { "this step asks for nothing" } else { "a step is one request" };
        findings.absence(section.key, message, "such as { get = \"/status\" } or { post = \"/limit?to={value}\" }");
        return None;
    };
    let status = |key: &str, node: &Node| value::integer(key, node, 100..=599);
    Some(Request::Http {
        method: method.to_ascii_uppercase(),
        path: section.get(method, findings, path)?,
        headers: section.get("headers", findings, headers).unwrap_or_default(),
        body: section.get("body", findings, recipe::text).unwrap_or_default(),
        status: section.get("status", findings, status).and_then(|status| u16::try_from(status).ok()),
    })
}

fn path(key: &str, node: &Node) -> Read<String> {
    let written = recipe::text(key, node)?;
    let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '<' | '>' | '#' | '\\');
    if !written.starts_with('/') || !written.chars().all(fits) {
        return refuse(format!("`{}` is not a path", printable(&written)), "such as \"/runtime_modify?key={value}\"");
    }
    Ok(written)
}

fn host(key: &str, node: &Node) -> Read<String> {
    let written = value::text(key, node, "localhost")?;
    header_value(written)?;
    Ok(written.to_owned())
}

fn headers(key: &str, node: &Node) -> Read<Vec<(String, String)>> {
    let Value::Table(table) = &node.value else {
        let message = format!("`{key}` is a table, not {}", node.value.described());
        return refuse(message, "such as headers = { Referer = \"http://localhost/\" }");
    };
    let mut headers = Vec::new();
    for (name, entry) in table {
        let at = |faults: Vec<_>| faults.into_iter().map(|fault: crate::document::section::Fault| fault.at(&entry.key));
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.is_empty() || !name.chars().all(is_name) {
            return refuse(format!("`{}` is not the name of a header", printable(name)), "letters, digits and -");
        }
        let written = value::text(name, &entry.node, "text").map_err(|faults| at(faults).collect::<Vec<_>>())?;
        header_value(written).map_err(|faults| at(faults).collect::<Vec<_>>())?;
        if name.eq_ignore_ascii_case("authorization") && !written.contains(PASSWORD) {
            let help = "write Authorization = \"Bearer {password}\" and name a `password_file`";
            return refuse("secrets are never in the file", help);
        }
        headers.push((name.clone(), written.to_owned()));
    }
    Ok(headers)
}

fn header_value(written: &str) -> Read<()> {
    if !written.is_empty() && written.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        return Ok(());
    }
    refuse(format!("`{}` cannot stand in a header", printable(written)), "plain text on one line")
}
