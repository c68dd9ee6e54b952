//! Who may ask, and who may change: people with an account on the node, in and out of the group.

use super::support::Node;

#[test]
fn anybody_may_ask_and_the_group_may_change() {
    let mut node = Node::installed();
    node.must("useradd -m stranger && useradd -m oncall && gpasswd -a oncall node-guardian");
    assert!(node.must("runuser -u stranger -- node-guardian status").contains("NORMAL"));
    let refused = node.run("runuser -u stranger -- node-guardian undo");
    assert!(!refused.succeeded(), "{}", refused.text);
    assert!(refused.text.contains("group node-guardian"), "what to do is not said: {}", refused.text);
    node.must("runuser -u oncall -- node-guardian undo");
    // Its files are nobody else's.
    assert!(!node.run("runuser -u oncall -- ls /var/lib/node-guardian").succeeded());
    assert!(!node.run("runuser -u oncall -- touch /etc/node-guardian/config.toml").succeeded());
}
