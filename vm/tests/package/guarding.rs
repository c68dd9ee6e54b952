//! The whole way from inside the unit's sandbox: a rule fires, real servers are changed, and all of it comes back.

use super::support::{CALM, Node, RULES, THROTTLED};

#[test]
fn it_acts_inside_its_sandbox_and_undoes_exactly() {
    let mut node = Node::guarding();
    assert_eq!(node.limits(), CALM);
    node.fill_memory();
    node.until_throttled();
    assert_eq!(node.run("node-guardian status").status, 1, "an emergency");
    assert_eq!(node.must("curl -s -o /dev/null -w '%{http_code}' localhost:9977/readyz"), "503");
    node.empty_memory();
    node.until_as_before();
    node.until("node-guardian status");

    // The fields that an operator searches the journal by.
    let acted = node.must("journalctl -b -u node-guardian -o json --no-pager | jq -c 'select(.VERB == \"throttle\") | [.SYSLOG_IDENTIFIER, .RULE, .CONTROL, .OUTCOME]' | sort -u");
    assert!(acted.contains(r#"["node-guardian","short-of-memory","edge","applied"]"#), "{acted}");
    let refused = node.told();
    for part in ["Operation not permitted", "Permission denied", "refused (", "cannot be opened"] {
        assert!(!refused.contains(part), "the sandbox is in the way ({part}):\n{refused}");
    }
    assert_eq!(node.must("journalctl -b --no-pager | grep -c 'type=1326' || true"), "0");
}

/// The slice and the limits are in force, and it stays far below them.
#[test]
fn it_is_protected_and_bounded() {
    let mut node = Node::guarding();
    let cgroup = node.must("systemctl show --value -p ControlGroup node-guardian");
    assert!(!cgroup.starts_with("/system.slice/"), "{cgroup}: in the slice that it acts on");
    let at = format!("/sys/fs/cgroup{cgroup}");
    let protected: u64 = node.must(&format!("cat {at}/memory.min")).parse().unwrap();
    let above: u64 = node.must(&format!("cat {at}/../memory.min")).parse().unwrap();
    assert!(protected > 0 && above >= protected, "{protected} of {above}");
    let used: u64 = node.must(&format!("cat {at}/memory.current")).parse().unwrap();
    assert!(used <= protected, "{used} bytes used, {protected} protected");
    let pid = node.main_pid();
    assert!(node.must(&format!("cat /proc/{pid}/oom_score_adj")).parse::<i32>().unwrap() <= -900);
    let locked = node.must(&format!("awk '/VmLck/ {{ print $2 }}' /proc/{pid}/status"));
    assert!(locked.parse::<u64>().unwrap() > 1000, "{locked} kB locked");
    assert!(node.must(&format!("chrt -ap {pid}")).contains("SCHED_RR"), "no thread is scheduled in real time");
    // What the guest does not have; nothing else is kept from it by its own unit.
    let blind = node.must("node-guardian status --json | jq -r '.blind_spots[].what'; true");
    let absent = |what: &&str| !what.contains("swap") && !what.contains("nf_conntrack");
    assert_eq!(blind.lines().filter(absent).collect::<Vec<_>>(), Vec::<&str>::new(), "blind in its own unit");
}

/// Woken by the kernel at the moment of pressure, not at the next tick: at a calm pace of a minute, nothing else would.
#[test]
fn pressure_wakes_it() {
    let mut node = Node::guarding();
    let slow = RULES.replace("[emergency]", "[sampling]\ninterval = \"60s\"\n\n[emergency]");
    node.configure(&slow);
    node.must("systemctl reload node-guardian");
    node.until("journalctl -b -u node-guardian -o cat | grep -q 'configuration reloaded'");
    let before = node.ticks();
    node.run("systemd-run --wait -q -p MemoryMax=40M -p MemorySwapMax=0 -p OOMPolicy=continue stress-ng --vm 2 --vm-bytes 80M --timeout 6s");
    let after = node.ticks();
    assert!(after > before + 1, "{before} ticks before the pressure, {after} after");
}

#[test]
fn a_stop_puts_everything_back_before_it_is_over() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    node.must("systemctl stop node-guardian");
    assert_eq!(node.limits(), CALM);
    assert_eq!(node.must("systemctl show --value -p Result node-guardian"), "success");
}

#[test]
fn a_kill_is_made_good_by_the_restart() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    let before = node.main_pid();
    node.must("systemctl kill -s KILL --kill-who=main node-guardian");
    assert_eq!(node.limits(), THROTTLED, "what is left behind is what was in force");
    node.empty_memory();
    node.until("systemctl is-active --quiet node-guardian");
    assert_ne!(node.main_pid(), before);
    node.until_as_before();
}

/// Takes every name that guardians mark the two servers with, but for the last few.
const SQUAT: &str = "
import os, socket, time
held = []
for server in ('/run/haproxy/admin.sock', '/run/redis/redis-server.sock'):
    found = os.stat(server)
    for slot in range(28):
        name = socket.socket(socket.AF_UNIX)
        name.bind('\\0node-guardian/%d:%d/%d' % (found.st_dev, found.st_ino, slot))
        name.listen()
        held.append(name)
print('squats', flush=True)
time.sleep(10000)
";

/// The marks of targets, seen from a root outside of the sandbox; and a stranger's count for nobody.
#[test]
fn who_comes_second_only_watches_and_a_stranger_keeps_nobody_away() {
    let mut node = Node::guarding();
    node.write("/srv/squat.py", SQUAT);
    node.must("systemd-run -q --unit squat --uid nobody python3 /srv/squat.py");
    node.until("journalctl -b -u squat -o cat | grep -qx squats");
    node.fill_memory();
    node.until_throttled();

    node.must("mkdir /run/two");
    let own = "state_directory = '/run/two'\n[http]\nlisten = '127.0.0.1:9988'\nsocket = '/run/two/admin.sock'\n";
    node.write("/run/two.toml", &format!("{own}{}", RULES.replace("25%", "10%").replace("32MiB", "16MiB")));
    node.must("systemd-run -q --unit two node-guardian run --config /run/two.toml");
    node.until("journalctl -b -u two -o cat | grep -q 'rule short-of-memory has no further step'");
    let pid = node.main_pid();
    let told = node.must("journalctl -b -u two -o cat");
    for control in ["cache", "edge"] {
        let refused = format!("control {control}: refused; pid {pid} (uid ");
        assert!(told.contains(&refused), "{control}: {told}");
    }
    assert_eq!(node.limits(), THROTTLED, "two have changed it");
    node.must("systemctl stop two squat");
    node.empty_memory();
    node.until_as_before();
}
