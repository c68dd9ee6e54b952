//! Who may ask, and who may change: people with an account on the node, in and out of the group.

use super::support::{CALM, Node, THROTTLED};

#[test]
fn anybody_may_ask_and_the_group_may_change() {
    let mut node = Node::installed();
    node.must("useradd -m stranger && useradd -m oncall && gpasswd -a oncall node-guardian");
    let asked = "node-guardian status --url http://127.0.0.1:9977";
    assert!(node.must(&format!("runuser -u stranger -- {asked}")).contains("NORMAL"));
    let refused = node.run("runuser -u stranger -- node-guardian undo");
    assert!(!refused.succeeded(), "{}", refused.text);
    assert!(refused.text.contains("group node-guardian"), "what to do is not said: {}", refused.text);
    node.must("runuser -u oncall -- node-guardian undo");
    // Its files are nobody else's.
    assert!(!node.run("runuser -u oncall -- ls /var/lib/node-guardian").succeeded());
    assert!(!node.run("runuser -u oncall -- touch /etc/node-guardian/config.toml").succeeded());
}

#[test]
fn the_group_undoes_pauses_and_resumes_and_the_trail_says_who() {
    let mut node = Node::guarding();
    node.must("useradd -m stranger && useradd -m oncall && gpasswd -a oncall node-guardian");
    node.fill_memory();
    node.until_throttled();
    for command in ["undo", "pause", "resume"] {
        let refused = node.run(&format!("runuser -u stranger -- node-guardian {command}"));
        assert!(!refused.succeeded() && refused.text.contains("group node-guardian"), "{command}: {}", refused.text);
    }
    assert_eq!(node.limits(), THROTTLED, "a stranger's hand");
    let mut oncall = |command: &str| node.must(&format!("runuser -u oncall -- node-guardian {command}"));
    oncall("undo");
    oncall("resume");
    node.until_throttled();
    node.must("runuser -u oncall -- node-guardian pause --for 10m");
    node.until_as_before();
    let who = format!("uid {} (oncall)", node.must("id -u oncall"));
    let told = node.must("curl -s 'localhost:9977/events?limit=1000' | jq -r '.events[] | select(.fields.by) | .text'");
    for part in ["asked to undo it", "the rules control", "paused for 10"] {
        assert!(told.lines().any(|line| line.contains(part) && line.contains(&who)), "{part}: {told}");
    }
    // A restart is no resume.
    node.must("systemctl restart node-guardian");
    assert!(node.run("node-guardian status").text.contains(&format!("paused by {who}")));
    assert_eq!(node.limits(), CALM);
    node.must("runuser -u oncall -- node-guardian resume");
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();
}
