//! As systemd's service: the watchdog, reloads good and bad, starts with everything against them.

use super::support::{Node, PACKAGE, RULES, THROTTLED};

/// Of the parts of its code that are not locked: how many, and how many KiB of them are mapped. What is locked and what is
/// not are mappings of their own.
fn cold_code(node: &mut Node) -> (u64, u64) {
    let script = "/^[0-9a-f]+-/ { code = /r-xp.*node-guardian/ } code && /^Rss:/ { mapped = $2 } \
                  code && /^VmFlags:/ && !/ lo/ { parts++; sum += mapped } END { print parts + 0, sum + 0 }";
    let pid = node.main_pid();
    let said = node.must(&format!("awk '{script}' /proc/{pid}/smaps"));
    let (parts, mapped) = said.split_once(' ').expect("two numbers");
    (parts.parse().expect("a number"), mapped.parse().expect("a number"))
}

#[test]
fn code_of_kinds_that_nobody_configured_stays_out_of_memory() {
    let mut node = Node::guarding();
    let edge = "[control.haproxy.edge]\nsocket = \"/run/haproxy/admin.sock\"\n";
    let cache = "[control.redis.cache]\nsocket = \"/run/redis/redis-server.sock\"\n";
    let absent = "[control.memcached.mine]\nsocket = \"/run/nobody.sock\"\n";
    let mut stays_out = |what: &str, controls: &[&str], configuration: &str| {
        // What acts is no matter here.
        node.configure(&format!("dry_run = true\n{configuration}"));
        node.must("systemctl restart node-guardian");
        // A reload keeps and lets go like a start.
        for way in ["a start", "a reload"] {
            for control in controls {
                node.until(&format!("node-guardian status | grep -qF '{control}: '"));
            }
            // What a start or a reload leaves behind is let go of a second after it.
            std::thread::sleep(std::time::Duration::from_secs(3));
            let (parts, mapped) = cold_code(&mut node);
            assert!(parts > 1, "the build did not lay its code out: {parts} parts");
            assert_eq!(mapped, 0, "KiB of cold code after {way} with {what}");
            node.must("systemctl reload node-guardian");
        }
    };
    stays_out("HAProxy", &["edge (haproxy)"], edge);
    stays_out("Redis", &["cache (redis)"], cache);
    stays_out("both", &["edge (haproxy)", "cache (redis)"], &format!("{edge}{cache}"));
    stays_out("one that is absent", &["mine (memcached)"], absent);
}

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
