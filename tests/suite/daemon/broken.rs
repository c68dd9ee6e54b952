//! A control that cannot be used is seen before it is needed: in the first lines of `status`, with why.

use super::super::support::haproxy::Haproxy;
use super::super::support::node::{Daemon, Node};
use super::super::support::redis::Redis;

/// What the page begins with, each notice on a line of its own.
fn first_lines(node: &Node) -> (i32, Vec<String>) {
    let said = node.ask(&["status"]);
    let mut lines: Vec<String> = Vec::new();
    for line in said.out.lines().skip(1).take_while(|line| !line.starts_with("version ")) {
        match (line.strip_prefix("! "), lines.last_mut()) {
            (Some(first), _) => lines.push(first.to_owned()),
            (None, Some(last)) => *last += &format!(" {}", line.trim_start()),
            (None, None) => panic!("no notice before it: {line:?} in\n{}", said.out),
        }
    }
    (said.code, lines)
}

fn until_first_lines(daemon: &mut Daemon, node: &Node, wanted: &[&[&str]]) {
    daemon.until(&format!("{wanted:?} at the top of status"), |_| {
        let (code, lines) = first_lines(node);
        let is_said = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        let expected = if wanted.is_empty() { 0 } else { 3 };
        let all = wanted.iter().all(|parts| is_said(parts));
        (all && lines.len() == wanted.len() && code == expected).then_some(())
    });
}

#[test]
fn a_stopped_server_and_a_wrong_secret_stand_in_the_first_lines_of_status() {
    let (mut edge, cache) = (Haproxy::start(), Redis::start());
    let section = cache.section("cache", "redis.sock");
    let node = Node::new(&(edge.section("edge", "admin.sock") + &section));
    let mut daemon = node.start();
    daemon.until_control("edge", "usable");
    daemon.until_control("cache", "usable");
    until_first_lines(&mut daemon, &node, &[]);
    let secret = cache.path("wrong");
    std::fs::write(&secret, "not-it").unwrap();
    let right = section.lines().find_map(|line| line.strip_prefix("password_file = ")).unwrap().trim_matches('"');
    node.edit(right, secret.to_str().unwrap());
    let wrong = ["control cache (redis) is refused", "password"];
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    until_first_lines(&mut daemon, &node, &[&wrong]);
    edge.end();
    until_first_lines(&mut daemon, &node, &[&wrong, &["control edge (haproxy) is unreachable", "admin.sock"]]);
    edge.restart();
    until_first_lines(&mut daemon, &node, &[&wrong]);
    assert_eq!(daemon.stop(), 0);
}
