//! As systemd's service: the watchdog, reloads good and bad, a start that cannot be.

use super::support::{Node, RULES};

#[test]
fn one_that_hangs_is_killed_and_what_it_held_is_put_back() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    let before = node.main_pid();
    node.must(&format!("kill -STOP {before}"));
    node.empty_memory();
    node.until("journalctl -b -u node-guardian -o cat | grep -qi watchdog");
    node.until("systemctl is-active --quiet node-guardian");
    assert_ne!(node.main_pid(), before);
    node.until_as_before();
}

#[test]
fn a_good_reload_takes_effect_without_letting_go() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    let before = node.main_pid();
    node.configure(&format!("{RULES}\n[rule.mine]\nwhen = \"processes.count > 100000\"\n"));
    node.must("systemctl reload node-guardian");
    node.until("node-guardian explain mine");
    assert_eq!(node.main_pid(), before);
    assert!(!node.told().contains("lifted"), "a reload let go of what did not change:\n{}", node.told());
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();
}

#[test]
fn a_bad_reload_fails_with_the_line_and_changes_nothing() {
    let mut node = Node::guarding();
    let before = node.main_pid();
    node.configure(&RULES.replace("memory.available_percent < 45%", "memory.availabel_percent < 45%"));
    let failed = node.run("systemctl reload node-guardian");
    assert!(!failed.succeeded(), "the manager was told that all is well");
    node.until("journalctl -b -u node-guardian -o cat | grep -q 'config.toml:'");
    assert!(node.told().contains("memory.available_percent"), "{}", node.told());
    assert_eq!(node.must("systemctl is-active node-guardian"), "active");
    assert_eq!(node.main_pid(), before);
    node.fill_memory();
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();
}

#[test]
fn a_bad_configuration_does_not_start_and_says_where() {
    let mut node = Node::installed();
    node.configure("levle = \"standard\"\n");
    assert!(!node.run("systemctl restart node-guardian").succeeded());
    let told = node.told();
    assert!(told.contains("config.toml:1:1") && told.contains("level"), "{told}");
    node.configure("");
    node.must("systemctl reset-failed node-guardian; systemctl start node-guardian");
}
