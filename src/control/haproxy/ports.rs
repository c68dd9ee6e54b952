//! The ports that an HAProxy stands before: where its frontends listen, by `show fd`, and where its servers are, by `show
//! servers state`. Frontends listen where they do for all of a process's life, and `show fd` lists every connection: it is
//! asked once a life. What is not told is unknown; nothing here is ever guessed.

use std::net::IpAddr;

use super::rows::{self, Rows};
use super::socket::{Beginning, Session};
use super::target;
use crate::control::ours::is_ours;
use crate::policy::ports::Ports;

/// Where its frontends listen, in the life in which that was asked.
#[derive(Default)]
pub struct Fronts(Option<(String, Option<Vec<u16>>)>);

/// The last questions of a conversation. What stands behind is asked of all backends: a frontend that refuses spares each of
/// them, whichever this control may turn.
pub async fn ask(mut session: Session, fronts: &mut Fronts, target: &target::Haproxy, epoch: &str) -> Ports {
    let state = session.table("show servers state", rows::addresses()).await;
    let behind = state.ok().flatten().and_then(|rows| behind(&rows));
    fronts.0 = fronts.0.take().filter(|(life, _)| life == epoch);
    if fronts.0.is_none() {
        // No answer is none: then it is asked again.
        let seen = session.beginning("show fd").await.ok();
        fronts.0 = seen.map(|seen| (epoch.to_owned(), listening(&seen, &target.frontends)));
    }
    Ports::new(fronts.0.as_ref().and_then(|(_, own)| own.clone()), behind)
}

/// The ports of these frontends, or of all. `None` where it does not tell its listeners, or not all of them.
fn listening(seen: &Beginning, frontends: &[String]) -> Option<Vec<u16>> {
    let is_meant = |frontend: &str| frontends.is_empty() || frontends.iter().any(|name| name == frontend);
    let mut ports = Vec::new();
    let mut ends_in_listeners = None;
    for line in seen.lines() {
        let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        ends_in_listeners = Some(field("l.st").is_some());
        let (Some(_), Some(frontend)) = (field("l.st"), field("fe")) else { continue };
        match field("fam")? {
            "ipv4" | "ipv6" if is_meant(frontend) => ports.push(field("lport")?.parse().ok()?),
            _ => {}
        }
    }
    // Its own socket is one of its listeners, and all of them come before the first connection.
    let is_told = seen.lines().any(|line| line.contains(" l.st=")) && !(seen.is_cut && ends_in_listeners == Some(true));
    is_told.then_some(ports)
}

/// The ports of this node on which its servers are. `None` where a server's port is not told: it
/// may be that of the client's connection.
fn behind(rows: &Rows<2>) -> Option<Vec<u16>> {
    let mut ports = Vec::new();
    for [address, port] in rows.iter() {
        // A unix socket, or a name that nobody has resolved.
        if address == "-" {
            continue;
        }
        let (address, port): (IpAddr, u16) = (address.parse().ok()?, port.parse().ok()?);
        if port == 0 || address.is_unspecified() {
            return None;
        }
        if is_ours(address) {
            ports.push(port);
        }
    }
    Some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FD: &str = "      4 : st=0x100023(cl) iocb=0x56(sock_accept_iocb) l.st=RDY fe=web fam=ipv4 lport=18080\n      \
                      5 : st=0x100121(cl) iocb=0x56(sock_accept_iocb) l.st=RDY fe=GLOBAL fam=unix\n      \
                      6 : st=0x100121(cl) iocb=0x56(sock_accept_iocb) l.st=RDY fe=api fam=ipv6 lport=443\n     \
                      15 : st=0x000121(cl) iocb=0x56(sock_conn_iocb) back=0 fam=ipv4 lport=9 fe=web mux=PASS";

    fn seen(text: &str) -> Beginning {
        Beginning { text: text.to_owned(), is_cut: false }
    }

    #[test]
    fn listeners_are_told_by_their_frontends() {
        assert_eq!(listening(&seen(FD), &[]), Some(vec![18080, 443]));
        assert_eq!(listening(&seen(FD), &["api".to_owned()]), Some(vec![443]));
        let cut = |lines: usize| Beginning {
            text: FD.lines().take(lines).map(|line| format!("{line}\n")).collect(),
            is_cut: true,
        };
        assert_eq!(listening(&cut(4), &[]), Some(vec![18080, 443]), "none comes after a connection");
        assert_eq!(listening(&cut(2), &[]), None, "there may be more of them");
        let untold = ["", "Permission denied", "4 : st=1 iocb=2(listener_accept)", &FD.replace(" lport=443", "")];
        for text in untold {
            assert_eq!(listening(&seen(text), &[]), None, "{text}");
        }
    }

    fn behind(answer: &str) -> Option<Vec<u16>> {
        let mut reader = rows::addresses();
        answer.lines().for_each(|line| reader.line(line));
        super::behind(&reader.rows().ok()?)
    }

    #[test]
    fn servers_of_this_node_are_told_by_their_ports() {
        let state = |rows: &str| format!("1\n# be_id be_name srv_id srv_name srv_addr srv_fqdn srv_port\n{rows}");
        let all = "3 app 1 one 127.0.0.1 - 8081\n3 app 2 six ::1 - 8082\n3 app 3 unix - - 0\n\
                   3 app 4 far 192.0.2.7 - 8083\n4 other 1 o 127.0.0.1 - 8084\n";
        assert_eq!(behind(&state(all)), Some(vec![8081, 8082, 8084]));
        assert_eq!(behind(&state("")), Some(vec![]), "it only answers by itself");
        for any in ["3 app 1 one 127.0.0.1 - 0\n", "3 app 1 one 0.0.0.0 - 80\n", "3 app 1 one\n"] {
            assert_eq!(behind(&state(any)), None, "{any}");
        }
        assert_eq!(behind("Permission denied"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(answer in "(?s).{0,400}", row in "[ -~]{0,80}") {
            let listener = format!("4 : l.st=RDY fe={row}");
            for text in [&answer, &listener] {
                let told = listening(&seen(text), &[]).into_iter().chain(behind(text));
                prop_assert!(told.map(|ports| ports.len()).sum::<usize>() <= text.len());
            }
        }
    }
}
