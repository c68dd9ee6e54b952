//! The bad nights: a full disk, a clock that jumps, a reboot and a power cut with things in force.

use super::support::Node;

/// To the last block, without writing what fills it.
const FILL_THE_DISK: &str = "for size in 1G 256M 64M 16M 4M 1M 64K 4K; do while fallocate -l $size /var/filler.$size.$((n += 1)) 2>/dev/null; \
     do :; done; done; sync; test $(df --output=avail /var | tail -n 1) -eq 0";

#[test]
fn a_full_disk_stops_neither_the_throttle_nor_its_undo() {
    let mut node = Node::guarding();
    node.must(FILL_THE_DISK);
    node.fill_memory();
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();
    // Nor a crash meanwhile: what is in force was written where room had been kept.
    node.fill_memory();
    node.until_throttled();
    node.must("systemctl kill -s KILL --kill-who=main node-guardian");
    node.empty_memory();
    node.until_as_before();
    node.until("systemctl is-active --quiet node-guardian");
}

#[test]
fn jumps_of_the_clock_are_not_time() {
    let mut node = Node::guarding();
    let pid = node.main_pid();
    node.fill_memory();
    node.until_throttled();
    for jump in ["+400 days", "-800 days", "+400 days"] {
        node.must(&format!("date -s \"$(date -d '{jump}' --rfc-3339=seconds)\""));
        node.until_more_ticks(20);
        let status = node.status();
        assert_eq!(status["mode"], "emergency", "{jump}: {status:#}");
        node.until_throttled();
    }
    node.must("date -s '+1000 days'");
    node.empty_memory();
    node.until_as_before();
    assert_eq!(node.main_pid(), pid, "it was restarted meanwhile:\n{}", node.told());
}

/// The servers start anew with their own values, so there is nothing to undo, and nothing must be owed.
#[test]
fn a_reboot_with_things_in_force_leaves_nothing_owed() {
    let mut node = Node::guarding();
    node.must("systemctl enable haproxy redis-server");
    node.fill_memory();
    node.until_throttled();
    node.guest().reboot().unwrap();
    node.until("systemctl is-active --quiet node-guardian haproxy redis-server");
    nothing_owed(&mut node);
}

#[test]
fn a_power_cut_with_things_in_force_leaves_nothing_owed() {
    let mut node = Node::guarding();
    node.must("systemctl enable haproxy redis-server; sync");
    node.fill_memory();
    node.until_throttled();
    // The plug: what is in force is in the journal, and on the disk.
    node.guest().pull_the_plug().unwrap();
    node.until("systemctl is-active --quiet node-guardian haproxy redis-server");
    nothing_owed(&mut node);
}

fn nothing_owed(node: &mut Node) {
    node.until_as_before();
    node.until("node-guardian status --json | jq -e '.mode == \"normal\" and (.in_force | length == 0)'");
    // While it boots its cores are full, and the rule for those may act once more for some seconds.
    node.until_as_before();
    // And it guards as before.
    node.fill_memory();
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();
}
