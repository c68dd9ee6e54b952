//! `[control.nginx.NAME]`

use std::path::{Component, Path, PathBuf};

use super::target::{Nginx, Page};
use crate::control::address::Address;
use crate::control::place::Written;
use crate::document::node::{Entry, Node};
use crate::document::origin::printable;
use crate::document::section::{Findings, Read, Section, refuse};
use crate::document::value;

const PAGE: &str = "http://127.0.0.1:8080/nginx_status";

impl Written for Nginx {
    const KEYS: &'static [&'static str] = &["flags", "caches", "stub_status", "ports"];

    fn read(title: &str, entry: &Entry, findings: &mut Findings<'_>) -> Option<Self> {
        let section = Section::open(title, &entry.key, &entry.node, Self::KEYS, findings)?;
        if !section.has("flags") && !section.has("caches") {
            let help =
                "add flags = \"/run/node-guardian/nginx\" to shed, or caches = [\"/var/cache/nginx/app\"] to prune";
            findings.absence(section.key, format!("{title} has neither `flags` nor `caches`"), help);
        }
        let flags = section.get("flags", findings, value::path);
        if flags.as_deref().is_some_and(|flags| !is_in_memory(flags)) {
            let message = "flags here survive the guardian and a reboot: nginx sheds until the guardian runs again";
            let help = "use a directory in /run/node-guardian, which systemd removes with the guardian";
            findings.warning(section.place("flags"), message, help);
        }
        let caches = |key: &str, node: &Node| value::list(key, node, cache);
        Some(Nginx {
            flags,
            caches: section.get("caches", findings, caches).unwrap_or_default(),
            stub_status: section.get("stub_status", findings, page),
        })
    }
}

fn is_in_memory(path: &Path) -> bool {
    ["/run", "/dev/shm"].iter().any(|root| path.starts_with(root))
}

/// The root, or what is right below it, is more than a cache.
fn cache(key: &str, node: &Node) -> Read<PathBuf> {
    let path = value::path(key, node)?;
    let plain = path.components().all(|part| part != Component::ParentDir);
    if plain && path.components().count() > 2 {
        return Ok(path);
    }
    let message = format!("`{}` is not the directory of a cache", printable(&path.display().to_string()));
    refuse(message, "write it as proxy_cache_path does, such as /var/cache/nginx/app")
}

/// As nginx itself writes addresses: `http://HOST:PORT/PATH`, `http://unix:/SOCKET:/PATH`.
fn page(key: &str, node: &Node) -> Read<Page> {
    let written = value::text(key, node, PAGE)?;
    let help = format!("such as \"{PAGE}\", or \"http://unix:/run/nginx-status.sock:/nginx_status\"");
    let wrong = || refuse(format!("`{}` is not the address of a stub_status", printable(written)), help.clone());
    let Some(rest) = written.strip_prefix("http://") else { return wrong() };
    if written.len() > 1024 || written.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return wrong();
    }
    if let Some(unix) = rest.strip_prefix("unix:") {
        let Some((socket, path)) = unix.split_once(':') else { return wrong() };
        if !socket.starts_with('/') || socket.len() > 107 || !path.starts_with('/') {
            return wrong();
        }
        return Ok(Page { address: Address::Unix(socket.into()), path: path.to_owned() });
    }
    let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
    let host = if value::is_address(host) { host.to_owned() } else { format!("{host}:80") };
    if !value::is_address(&host) {
        return wrong();
    }
    Ok(Page { address: Address::Tcp(host), path: format!("/{path}") })
}
