//! Single values: from what is written to what is meant, each with the range in which it makes sense.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::User;

use super::node::{Node, Value};
use super::origin::printable;
use super::section::{Fault, Read, proposal, refuse};
use crate::policy::unit::{Quantity, Suffix, Unit};

/// The kernel's limit on the path of a unix socket, its closing zero included (`sun_path`, unix(7)).
const LONGEST_SOCKET: usize = 108;

pub fn text<'n>(key: &str, node: &'n Node, example: &str) -> Read<&'n str> {
    match &node.value {
        Value::Text(text) => Ok(text),
        other => refuse(format!("`{key}` is a string, not {}", other.described()), format!("such as \"{example}\"")),
    }
}

pub fn boolean(key: &str, node: &Node) -> Read<bool> {
    match &node.value {
        Value::Boolean(boolean) => Ok(*boolean),
        Value::Text(text) if text == "true" || text == "false" => {
            refuse(format!("`{key}` is a string here"), format!("write {key} = {text}, without quotes"))
        }
        other => refuse(format!("`{key}` is true or false, not {}", other.described()), format!("write {key} = true")),
    }
}

pub fn integer(key: &str, node: &Node, range: RangeInclusive<i32>) -> Read<i32> {
    let span = format!("use a whole number from {} to {}", range.start(), range.end());
    match &node.value {
        Value::Integer(number) => {
            let number = number.and_then(|number| i32::try_from(number).ok()).filter(|number| range.contains(number));
            number.map_or_else(|| refuse(format!("`{key}` is out of range"), span), Ok)
        }
        other => refuse(format!("`{key}` is a whole number, not {}", other.described()), span),
    }
}

pub fn duration(key: &str, node: &Node, range: RangeInclusive<Duration>) -> Read<Duration> {
    let (least, most) = (Show(*range.start()), Show(*range.end()));
    let written = match &node.value {
        Value::Text(text) => text,
        Value::Integer(Some(number)) => {
            return refuse(
                format!("`{key}` is a duration with its unit"),
                format!("write \"{number}s\" for seconds, \"{number}ms\" for milliseconds"),
            );
        }
        other => {
            let help = format!("write it in quotes with a unit: {key} = \"{least}\"");
            return refuse(format!("`{key}` is a duration, not {}", other.described()), help);
        }
    };
    let Some(duration) = Quantity::parse(written).and_then(Quantity::duration) else {
        let help = "write it with a unit: 250ms, 10s, 5m or 1h";
        return refuse(format!("`{}` is not a duration", printable(written)), help);
    };
    if range.contains(&duration) {
        return Ok(duration);
    }
    refuse(format!("`{key}` cannot be {}", Show(duration)), format!("use a duration from {least} to {most}"))
}

/// A share that is neither nothing nor all of it.
pub fn percent(key: &str, node: &Node) -> Read<f64> {
    match quantity(key, node, "50%")? {
        Quantity { value, suffix: Suffix::Percent } if value > 0.0 && value < 100.0 => Ok(value),
        Quantity { suffix: Suffix::Percent, .. } => {
            refuse(format!("`{key}` is between 0% and 100%, both excluded"), "such as \"50%\"")
        }
        _ => refuse(format!("`{key}` is a percentage here"), "such as \"50%\""),
    }
}

pub fn quantity(key: &str, node: &Node, example: &str) -> Read<Quantity> {
    let written = text(key, node, example)?;
    match Quantity::parse(written) {
        Some(quantity) => Ok(quantity),
        None => {
            let message = format!("`{}` is not a number with a unit", printable(written));
            refuse(message, format!("such as \"{example}\""))
        }
    }
}

/// Bytes; also a number without a unit, which is how Kubernetes' downward API writes them.
pub fn size(key: &str, node: &Node) -> Read<u64> {
    const EXAMPLE: &str = "512MiB";
    let value = match &node.value {
        Value::Integer(Some(bytes)) => *bytes as f64,
        _ => match quantity(key, node, EXAMPLE)? {
            Quantity { value, suffix: Suffix::Bytes | Suffix::None } => value,
            _ => return refuse(format!("`{key}` is a size here"), format!("such as \"{EXAMPLE}\"")),
        },
    };
    // A page: less than that is a slip of the pen.
    if (4096.0..9e18).contains(&value) {
        return Ok(value as u64);
    }
    refuse(format!("`{key}` is out of range"), format!("such as \"{EXAMPLE}\""))
}

/// A number of CPUs, whole or not, or Kubernetes' thousandths: `1.5`, `"1500m"`.
pub fn cpus(key: &str, node: &Node) -> Read<f64> {
    const HELP: &str = "such as \"1.5\" or \"1500m\"";
    let value = match &node.value {
        Value::Integer(Some(cpus)) => Some(*cpus as f64),
        Value::Text(text) => match text.strip_suffix('m') {
            Some(thousandths) => plain_number(thousandths).map(|thousandths| thousandths / 1000.0),
            None => plain_number(text),
        },
        other => return refuse(format!("`{key}` is a number of CPUs in quotes, not {}", other.described()), HELP),
    };
    match value {
        Some(cpus) if (0.001..=100_000.0).contains(&cpus) => Ok(cpus),
        Some(_) => refuse(format!("`{key}` is out of range"), HELP),
        None => refuse(format!("`{key}` is not a number of CPUs"), HELP),
    }
}

/// Digits with a point or without; no sign, exponent or word.
fn plain_number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| plain)
}

pub fn path(key: &str, node: &Node) -> Read<PathBuf> {
    let written = text(key, node, "/var/lib")?;
    if written.contains('\0') {
        return refuse(format!("`{key}` contains a zero byte"), "use a plain path");
    }
    if !written.starts_with('/') {
        let message = format!("`{}` is not an absolute path", printable(written));
        return refuse(message, "start it with /: the daemon has no working directory to rely on");
    }
    Ok(PathBuf::from(written))
}

pub fn socket(key: &str, node: &Node) -> Read<PathBuf> {
    let path = path(key, node)?;
    if path.as_os_str().len() < LONGEST_SOCKET {
        return Ok(path);
    }
    refuse("the path of a unix socket has at most 107 bytes", "use a shorter one, below /run")
}

/// `None` where the text is empty: TCP is off.
pub fn listen(key: &str, node: &Node) -> Read<Option<SocketAddr>> {
    let written = text(key, node, "127.0.0.1:9977")?;
    if written.is_empty() {
        return Ok(None);
    }
    match written.parse() {
        Ok(address) => Ok(Some(address)),
        Err(_) => {
            let help = "write an IP address and a port: 127.0.0.1:9977 or [::1]:9977; \"\" turns TCP off";
            refuse(format!("`{}` is not an address to listen on", printable(written)), help)
        }
    }
}

/// One of a closed set, by name.
pub fn choice<T: Copy>(key: &str, node: &Node, choices: &[T], name: fn(T) -> &'static str) -> Read<T> {
    let names: Vec<&'static str> = choices.iter().map(|choice| name(*choice)).collect();
    let Value::Text(written) = &node.value else {
        let message = format!("`{key}` is a string, not {}", node.value.described());
        return refuse(message, format!("one of {}, in quotes", names.join(", ")));
    };
    match choices.iter().find(|choice| name(**choice) == written) {
        Some(choice) => Ok(*choice),
        None => refuse(format!("`{}` is not a {key}", printable(written)), proposal(written, &names)),
    }
}

/// An array, each element read by itself.
pub fn list<T>(key: &str, node: &Node, read: impl Fn(&str, &Node) -> Read<T>) -> Read<Vec<T>> {
    let Value::Array(nodes) = &node.value else {
        let message = format!("`{key}` is an array, not {}", node.value.described());
        return refuse(message, format!("write it in brackets: {key} = [\"…\"]"));
    };
    let element = format!("{key}[]");
    let mut values = Vec::new();
    let mut faults = Vec::new();
    for node in nodes {
        match read(&element, node) {
            Ok(value) => values.push(value),
            Err(found) => faults.extend(found.into_iter().map(|fault| fault.at(&node.place))),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

/// TCP ports of this node, one at least.
pub fn ports(key: &str, node: &Node) -> Read<Vec<u16>> {
    const HELP: &str = "a port is a whole number from 1 to 65535, without quotes: ports = [80, 443]";
    let nodes = match &node.value {
        Value::Array(nodes) if nodes.is_empty() => {
            let help = "name the ports, or leave it out where they are not known";
            return refuse(format!("`{key}` names no port"), help);
        }
        Value::Array(nodes) => nodes,
        other => return refuse(format!("`{key}` is an array, not {}", other.described()), HELP),
    };
    let (mut ports, mut faults) = (Vec::new(), Vec::new());
    for node in nodes {
        let message = match &node.value {
            Value::Integer(number) => match number.and_then(|number| u16::try_from(number).ok()) {
                Some(port @ 1..) if !ports.contains(&port) => {
                    ports.push(port);
                    continue;
                }
                Some(port @ 1..) => format!("port {port} is named twice"),
                Some(0) | None => "this is not a TCP port".to_owned(),
            },
            other => format!("a port is a number, not {}", other.described()),
        };
        faults.push(Fault::new(message, HELP).at(&node.place));
    }
    if faults.is_empty() { Ok(ports) } else { Err(faults) }
}

/// A name that goes into a command of the target's protocol as it is, so it must not be able to end that command.
pub fn word(key: &str, node: &Node) -> Read<String> {
    let written = text(key, node, "web")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if !written.is_empty() && written.len() <= 128 && written.chars().all(plain) {
        return Ok(written.to_owned());
    }
    let message = format!("`{}` is not the name of a proxy object", printable(written));
    refuse(message, "letters, digits and _ - . : only")
}

/// A duration as configuration writes it.
struct Show(Duration);

impl std::fmt::Display for Show {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs_f64();
        for (unit, factor) in [("d", 86_400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3)] {
            let scaled = seconds / factor;
            if scaled >= 1.0 && (scaled - scaled.round()).abs() < 1e-9 {
                return write!(f, "{}{unit}", scaled.round());
            }
        }
        if self.0.is_zero() { f.write_str("0s") } else { write!(f, "{}", Unit::Seconds.show(seconds)) }
    }
}

/// `host:port`
pub fn address(key: &str, node: &Node) -> Read<String> {
    let written = text(key, node, "127.0.0.1:6379")?;
    if is_address(written) {
        return Ok(written.to_owned());
    }
    let help = "write host:port, such as 127.0.0.1:6379 or [::1]:6379; a path goes into `socket`";
    refuse(format!("`{}` is not an address", printable(written)), help)
}

pub fn is_address(written: &str) -> bool {
    let Some((host, port)) = written.rsplit_once(':') else { return false };
    let bracketed = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
    !host.is_empty()
        && bracketed
        && !host.contains(char::is_whitespace)
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A user by name or number, as a number.
pub fn user(key: &str, node: &Node) -> Read<u32> {
    const HELP: &str = "such as \"api\" or 1000: the user that the service runs as";
    match &node.value {
        Value::Integer(number) => match number.and_then(|number| u32::try_from(number).ok()) {
            Some(number) => Ok(number),
            None => refuse(format!("`{key}` is not the number of a user"), HELP),
        },
        _ => {
            let name = text(key, node, "api")?;
            match User::from_name(name) {
                Ok(Some(user)) => Ok(user.uid.as_raw()),
                Ok(None) | Err(_) => {
                    let help = "create it first, or write its number: user = 1000";
                    refuse(format!("this node has no user `{}`", printable(name)), help)
                }
            }
        }
    }
}
