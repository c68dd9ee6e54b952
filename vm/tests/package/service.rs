//! As systemd's service: the watchdog, reloads good and bad, starts with everything against them.

use super::support::{Node, PACKAGE, RULES, THROTTLED};

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
fn a_typo_leaves_neither_a_throttle_behind_nor_the_node_unguarded() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    node.must("systemctl mask --runtime node-guardian && systemctl kill -s KILL node-guardian");
    node.until("! systemctl is-active --quiet node-guardian");
    assert_eq!(node.limits(), THROTTLED, "killed, it could undo nothing");
    node.empty_memory();
    node.configure(&RULES.replace("memory.available_percent < 45%", "memory.availabel_percent < 45%"));
    node.must("systemctl unmask --runtime node-guardian && systemctl start node-guardian");
    node.until_as_before();
    let status = node.run("node-guardian status");
    assert!(status.text.lines().nth(1).unwrap_or_default().contains("the last good one"), "{}", status.text);
    assert!(status.text.contains("config.toml:"), "{}", status.text);
    assert!(node.must("curl -s localhost:9977/metrics").contains("node_guardian_config_last_load_ok 0"));
    assert!(node.told().contains("memory.available_percent"), "{}", node.told());
    node.fill_memory();
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();

    assert!(!node.run("systemctl reload node-guardian").succeeded(), "the typo is still there");
    node.configure(RULES);
    node.must("systemctl reload node-guardian");
    node.until("curl -s localhost:9977/metrics | grep -q '^node_guardian_config_last_load_ok 1'");
}

#[test]
fn a_port_that_is_taken_keeps_nobody_from_undoing() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    node.must("systemctl mask --runtime node-guardian && systemctl kill -s KILL node-guardian");
    node.until("! systemctl is-active --quiet node-guardian");
    node.empty_memory();
    node.must("systemd-run --unit taker socat TCP-LISTEN:9977,bind=127.0.0.1,fork EXEC:cat");
    node.until("ss -ltn | grep -q 127.0.0.1:9977");
    node.must("systemctl unmask --runtime node-guardian && systemctl start node-guardian");
    node.until_as_before();
    let status = node.run("node-guardian status").text;
    assert!(status.contains("who asks at 127.0.0.1:9977") && status.contains("is taken"), "{status}");
    node.must("systemctl stop taker");
    node.until("curl -s localhost:9977/livez | grep -q ok");
}

#[test]
fn a_first_configuration_that_is_wrong_starts_gently_and_says_where() {
    let mut node = Node::installed();
    node.must("systemctl stop node-guardian && rm -f /var/lib/node-guardian/last-good-*");
    node.configure("levle = \"standard\"\n");
    node.must("systemctl start node-guardian");
    let status = node.status();
    assert_eq!((status["configuration"]["by"].as_str(), status["level"].as_str()), (Some("built_in"), Some("minimal")));
    let told = node.told();
    assert!(told.contains("config.toml:1:1") && told.contains("level"), "{told}");
    let upgrade = node.run(&format!("apt-get install -y --reinstall {PACKAGE} 2>&1"));
    assert!(upgrade.succeeded() && upgrade.text.contains("config.toml:1:1"), "{}", upgrade.text);
    node.configure("");
    node.must("systemctl reload node-guardian");
    node.until("node-guardian status");
}
