//! The ports that a Varnish stands before: where it listens, by `debug.listen_address`, and where its backends are, by the
//! VCL that is in use. What is not told is unknown; nothing here is ever guessed.

use std::net::{IpAddr, SocketAddr};

use super::session::{OK, Session};
use crate::control::ours::is_ours;
use crate::policy::ports::Ports;

/// Modules of Varnish itself that make no backend of their own. What another makes is not in the VCL.
const MAKE_NONE: [&str; 9] = ["std", "directors", "cookie", "header", "purge", "blob", "unix", "proxy", "vtc"];
/// What a backend without a port is asked at.
const USUAL: u16 = 80;

pub async fn ask(session: &mut Session) -> Ports {
    if !session.is_here() {
        return Ports::default();
    }
    let own = whole(session, "debug.listen_address").await.and_then(|told| listening(&told));
    let list = whole(session, "vcl.list").await;
    let behind = match list.as_deref().and_then(active) {
        Some(name) => whole(session, &format!("vcl.show -v {name}")).await.and_then(|vcl| behind(&vcl)),
        None => None,
    };
    Ports::new(own, behind)
}

/// An answer that is longer than `cli_limit` is cut, and tells nothing.
async fn whole(session: &mut Session, command: &str) -> Option<String> {
    let reply = session.ask(command).await.ok()?;
    (reply.status == OK).then_some(reply.text)
}

/// `a0 127.0.0.1 6081`, or for a unix socket its path and `-`.
fn listening(told: &str) -> Option<Vec<u16>> {
    let mut ports = Vec::new();
    for line in told.lines().filter(|line| !line.trim().is_empty()) {
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            [_, path, "-"] if path.starts_with(['/', '@']) => {}
            [_, _, port] => ports.push(port.parse().ok()?),
            _ => return None,
        }
    }
    // It listens somewhere.
    (!told.trim().is_empty()).then_some(ports)
}

/// The name of the VCL in use. `None` also where it may pass requests to another, by a label.
fn active(list: &str) -> Option<&str> {
    let rows = || list.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    if rows().any(|row| row.iter().skip(1).any(|cell| cell.contains("label"))) {
        return None;
    }
    let name = list.lines().find(|line| line.starts_with("active "))?.split_ascii_whitespace().nth(4)?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).then_some(name)
}

/// The ports of this node on which its backends are. `None` where a backend may be anywhere.
fn behind(vcl: &str) -> Option<Vec<u16>> {
    let tokens = tokens(vcl)?;
    let mut ports = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth = depth.checked_sub(1)?,
            Token::Word("import") if depth == 0 => match tokens.get(at)? {
                Token::Word(module) if MAKE_NONE.contains(module) => {}
                _ => return None,
            },
            Token::Word("backend") if depth == 0 => {
                let (port, length) = backend(&tokens[at..])?;
                ports.extend(port);
                at += length;
            }
            _ => {}
        }
    }
    // The answer ended in the middle.
    (depth == 0 && !tokens.is_empty()).then_some(ports)
}

/// After `backend`: its port where it is on this node, and how many tokens it takes.
fn backend(tokens: &[Token<'_>]) -> Option<(Option<u16>, usize)> {
    let Token::Word(_) = tokens.first()? else { return None };
    let open = match tokens.get(1)? {
        Token::Word("none") => return Some((None, 2)),
        Token::Mark('{') => 2,
        _ => return None,
    };
    let (mut host, mut port, mut is_unix, mut depth) = (None, None, false, 1_usize);
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => depth -= 1,
            Token::Word(".path") if depth == 1 => is_unix = true,
            Token::Word(field @ (".host" | ".port")) if depth == 1 => {
                let [Token::Mark('='), Token::Text(text), Token::Mark(';')] = tokens.get(at + 1..at + 4)? else {
                    return None;
                };
                *(if *field == ".host" { &mut host } else { &mut port }) = Some(*text);
            }
            // Through another backend, which is in the VCL as well.
            _ => {}
        }
        if depth == 0 {
            let found = if is_unix { None } else { here(host?, port)? };
            return Some((found, at + 1));
        }
    }
    None
}

/// `None` where that cannot be told; nothing within where it is another node's.
fn here(host: &str, port: Option<&str>) -> Option<Option<u16>> {
    let port = match port {
        None | Some("http") => USUAL,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    let (address, port) = match host.parse::<SocketAddr>() {
        Ok(whole) => (whole.ip(), whole.port()),
        Err(_) if host == "localhost" => (IpAddr::from([127, 0, 0, 1]), port),
        Err(_) => (host.trim_start_matches('[').trim_end_matches(']').parse().ok()?, port),
    };
    Some(is_ours(address).then_some(port))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token<'v> {
    Word(&'v str),
    Text(&'v str),
    Mark(char),
}

/// Without comments. `None` where one, or a string, does not end.
fn tokens(vcl: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = vcl;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("/*") {
            rest = after.split_once("*/")?.1;
        } else if rest.starts_with('#') || rest.starts_with("//") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some((open, close)) =
            [("\"\"\"", "\"\"\""), ("{\"", "\"}"), ("\"", "\"")].into_iter().find(|(open, _)| rest.starts_with(open))
        {
            let (text, after) = rest[open.len()..].split_once(close)?;
            tokens.push(Token::Text(text));
            rest = after;
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            rest = &rest[end..];
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Mark(first));
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(tokens)
}

const fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn listeners_are_told_by_their_ports() {
        assert_eq!(listening("a0 0.0.0.0 80\na1 :: 8443\nb /run/v.sock -\n"), Some(vec![80, 8443]));
        assert_eq!(listening("b @varnish -\n"), Some(vec![]));
        for untold in ["", "Unknown request.", "a0 127.0.0.1 many\n", "a0 127.0.0.1\n"] {
            assert_eq!(listening(untold), None, "{untold}");
        }
    }

    #[test]
    fn the_vcl_in_use_is_known_unless_another_may_be_in_use_too() {
        let one = "available   auto    cold         0    old\nactive      auto    warm         3    boot\n";
        assert_eq!(active(one), Some("boot"));
        assert_eq!(active(&format!("{one}available  label  warm  0  blue -> old\n")), None);
        assert_eq!(active(&one.replace("old", "old (1 label)")), None);
        assert_eq!(
            (active(""), active("available auto cold 0 old\n"), active("active auto warm 0 a;b\n")),
            (None, None, None)
        );
    }

    #[test]
    fn backends_of_this_node_are_told_by_their_ports() {
        let vcl = |backends: &str| {
            format!(
                "// VCL.SHOW 0 30 boot.vcl\nvcl 4.1;\nimport std;\n{backends}\n\
                 sub vcl_recv {{ set req.http.x = {{\"backend x {{ .host = 1\"}}; }} # backend y {{\n"
            )
        };
        let told = |backends: &str| behind(&vcl(backends));
        let all = "backend a { .host = \"127.0.0.1\"; .port = \"8080\"; }\n\
                   backend b { .port = \"8081\"; /* .port = \"1\"; */ .host = \"localhost\"; .probe = { .url = \"/\"; } }\n\
                   backend c { .host = \"[::1]:8082\"; }\nbackend d { .path = \"/run/app.sock\"; }\n\
                   backend e { .host = \"192.0.2.7\"; .port = \"8083\"; }\nbackend f none;\nbackend g { .host = \"127.0.0.2\"; }";
        assert_eq!(told(all), Some(vec![8080, 8081, 8082, 80]));
        assert_eq!(told("backend none_of_ours { .host = \"192.0.2.7\"; }"), Some(vec![]));
        let untold = [
            "import dynamic;",
            "backend a { .host = \"app.internal\"; }",
            "backend a { .port = \"8080\"; }",
            "backend a { .host = \"127.0.0.1\"; .port = \"https\"; }",
            "backend a { .host = \"127.0.0.1\";",
            "/* backend",
        ];
        for backends in untold {
            assert_eq!(told(backends), None, "{backends}");
        }
        assert_eq!(behind(""), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in "(?s).{0,400}", vcl in "(backend|import|[a{}.=;\"#/*\n ]|\\.host|\\.port){0,80}") {
            let told = listening(&answer).into_iter().chain(behind(&answer)).chain(behind(&vcl));
            prop_assert!(told.map(|ports| ports.len()).sum::<usize>() <= answer.len() + vcl.len());
            prop_assert!(active(&answer).is_none_or(|name| answer.contains(name)));
        }
    }
}
