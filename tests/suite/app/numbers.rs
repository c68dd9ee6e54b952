//! Numbers that an application reports feed rules, and are unknown once they are old.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::app::{App, Language};
use crate::support::node::{Daemon, Node};

const RULE: &str = "[rule.busy]\nwhen = \"app['api'].inflight > 2 and app['api'].pages_bytes < 1GiB\"\n\
                    severity = \"emergency\"\nclear_for = \"100ms\"\ncooldown = \"60s\"\n\
                    steps = [{ throttle = \"api\", to = \"40%\", settle = \"100ms\" }]\n";

#[test]
fn a_number_of_an_application_fires_a_rule_and_an_old_one_is_unknown() {
    let mut app = App::with(Language::Rust, "--work 5 --limit 20");
    let socket = app.path("ng.sock");
    let node = Node::new(&format!("[control.app.api]\nsocket = \"{}\"\n{RULE}", socket.display()));
    let mut daemon = node.start();
    daemon.until("the number is known", |daemon| is_known(daemon).then_some(()));
    assert_eq!(app.effective(), 0);
    let visitors: Vec<_> = (0..4)
        .map(|page| {
            let mut stream = TcpStream::connect(("127.0.0.1", app.port())).unwrap();
            write!(stream, "GET /{page} HTTP/1.0\r\n\r\n").unwrap();
            stream
        })
        .collect();
    daemon.until_in_force(&["throttle api to 40%"]);
    let fired = daemon.told("rule_fired").join("\n");
    assert!(fired.contains("app[\"api\"].inflight 4 > 2"), "{fired}");
    for mut visitor in visitors {
        visitor.read_to_string(&mut String::new()).unwrap();
    }
    daemon.until_calm();
    app.process().kill();
    daemon.until("the number is old", |daemon| (!is_known(daemon)).then_some(()));
}

fn is_known(daemon: &Daemon) -> bool {
    daemon.get("/metrics").body.contains("node_guardian_app_number{number=\"api.inflight\"}")
}
