//! A cgroup that systemd delegates, set up by the lines of docs/controls/cgroup.md alone, from inside the unit's sandbox: the
//! limits of memory and CPU, which need controllers, and the way back after a guardian that was killed.

use std::time::Duration;

use super::support::{Node, PACKAGE};
use super::town::{QUIET, RULE, block, drop_in};

const PAGE: &str = include_str!("../../../docs/controls/cgroup.md");

/// 120 MiB of files that were read, and a program of a few.
const NIGHT: &str = "[Service]
ExecStart=/bin/sh -c 'head -c 120M /dev/zero >/var/tmp/night && sync && cat /var/tmp/night >/dev/null && exec sleep infinity'
";

const CONTROLS: &str = r#"
[control.cgroup.night]
path = "system.slice/night.service"
floor = "16MiB"
sacrificial = true
[control.cgroup.own]
path = "guardian.slice"
"#;

const STEPS: &str = r#"
steps = [
  { shrink = "night", to = "50%", settle = "200ms" },
  { throttle = "night", to = "25%", settle = "200ms" },
  { freeze = "night", settle = "200ms" },
]
"#;

const FOLDER: &str = "/sys/fs/cgroup/system.slice/night.service";

fn set_up() -> Node {
    let mut node = Node::bare();
    node.install(PACKAGE);
    node.write("/etc/systemd/system/night.service", NIGHT);
    drop_in(&mut node, "night", "guardian", &block(PAGE, "ini", 1));
    drop_in(&mut node, "node-guardian", "cgroup", &block(PAGE, "ini", 0));
    node.must("systemctl start night");
    node.until(&format!("[ $(cat {FOLDER}/memory.current) -gt 110000000 ] && pgrep -x sleep"));
    node.configure(&[QUIET, CONTROLS, RULE, STEPS].concat());
    node.must("systemctl restart node-guardian");
    node.until_ready(&["night (cgroup)"]);
    node
}

fn held(node: &mut Node) -> String {
    node.must(&format!("cd {FOLDER}; echo $(cat memory.high cpu.max cgroup.freeze)"))
}

fn until_held(node: &mut Node, wanted: &str) {
    let command =
        format!("cd {FOLDER}; is=$(echo $(cat memory.high cpu.max cgroup.freeze)); echo $is; [ \"$is\" = '{wanted}' ]");
    node.until_within(Duration::from_secs(90), &command);
}

#[test]
fn memory_and_cpu_of_a_cgroup_are_limited_and_come_back() {
    let mut node = set_up();
    const CALM: &str = "max max 100000 0";
    assert_eq!(held(&mut node), CALM);
    node.until("node-guardian status --all | grep -F 'the guardian itself runs in cgroup guardian.slice'");
    let before: u64 = node.must(&format!("cat {FOLDER}/memory.current")).parse().unwrap();
    node.fill_memory();
    node.until_within(Duration::from_secs(90), &format!("grep -q 'frozen 1' {FOLDER}/cgroup.events"));
    let limited = held(&mut node);
    let (high, rest) = limited.split_once(' ').unwrap();
    // Of two CPUs.
    assert_eq!(rest, "50000 100000 1");
    let high: u64 = high.parse().unwrap();
    assert!(high.abs_diff(before / 2) < 4 << 20, "{high} of {before}");
    let after: u64 = node.must(&format!("cat {FOLDER}/memory.current")).parse().unwrap();
    assert!(after <= high + (1 << 20), "{after} is in use, above {high}");

    node.must("systemctl kill -s KILL --kill-who=main node-guardian");
    assert_eq!(held(&mut node), limited, "what is left behind is what was in force");
    node.empty_memory();
    until_held(&mut node, CALM);
    node.until("node-guardian status --json | jq -e '.mode == \"normal\" and (.in_force | length == 0)'");
    assert_eq!(node.must("systemctl show --value -p ActiveState night"), "active");
}

/// Without the page's lines the guardian's user may write nothing there, and says which line is missing before it acts.
#[test]
fn what_is_missing_is_told_before_anything_is_done() {
    let mut node = set_up();
    node.must("rm /etc/systemd/system/node-guardian.service.d/cgroup.conf && systemctl daemon-reload");
    node.must("systemctl restart node-guardian");
    node.until("node-guardian status --all | grep -F 'set ProtectControlGroups=no for the guardian'");
    drop_in(&mut node, "node-guardian", "cgroup", &block(PAGE, "ini", 0));
    node.must(&format!("chgrp root {FOLDER}/cpu.max && systemctl restart node-guardian"));
    let told = "journalctl -b -u node-guardian -o cat --no-pager";
    node.until(&format!("{told} | grep -F 'may shrink and freeze; cannot throttle: may not write'"));
    node.fill_memory();
    node.until_within(Duration::from_secs(90), &format!("grep -q 'frozen 1' {FOLDER}/cgroup.events"));
    assert!(held(&mut node).ends_with("max 100000 1"), "frozen, and its CPU untouched");
    node.empty_memory();
    until_held(&mut node, "max max 100000 0");
}
