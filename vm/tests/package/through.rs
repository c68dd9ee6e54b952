//! Through what runs on the node, from inside the unit's sandbox: each service is set up by its page of docs/controls alone,
//! is changed when memory runs short, and gets back what it had, also after a guardian that was killed or hung.

use std::time::Duration;

use super::support::{Node, THROTTLED};
use super::town::{self, READY, drop_in, town};

/// `served refused`, of 300 requests over one connection.
const REQUESTS: &str = "python3 - <<'END'
import http.client
told = {200: 0, 503: 0}
connection = http.client.HTTPConnection('127.0.0.1', 8000)
for _ in range(300):
    connection.request('GET', '/')
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200 or answer.headers['Retry-After'] == '5'
    told[answer.status] += 1
print(told[200], told[503])
END";

const CACHE_PAGES: &str = "python3 - <<'END'
import http.client
connection = http.client.HTTPConnection('127.0.0.1', 8000)
for page in range(60):
    connection.request('GET', f'/cached/{page}')
    connection.getresponse().read()
END";

/// 48 MiB in items of 100 KB, and the server's word that it has the last one.
const FILL_MEMCACHED: &str = "python3 - <<'END'
import socket
server = socket.socket(socket.AF_UNIX)
server.connect('/run/memcached/memcached.sock')
for item in range(490):
    server.sendall(b'set item%d 0 0 100000 noreply\\r\\n' % item + b'x' * 100000 + b'\\r\\n')
server.sendall(b'version\\r\\n')
assert server.recv(100).startswith(b'VERSION')
END";

const SHEDDING: &str = "test -e /run/node-guardian/nginx/shed-25";
const LIMIT: &str = "printf 'stats\\r\\nquit\\r\\n' | socat - UNIX:/run/memcached/memcached.sock | tr -d '\\r' | awk '$2 == \"limit_maxbytes\" { print $3 }'";
/// Workers of the application, the state of the reports, niceness and I/O class of the batch job.
const HELD: &str = "m() { systemctl show --value -p MainPID $1; }; \
    echo $(pgrep -cP $(m gunicorn)) $(ps -o stat= -p $(m reports) | cut -c1) $(ps -o ni= -p $(m batch)) $(ionice -p $(m batch) | cut -d: -f1)";

const CALM: &str = "4 S 0 none";

/// Bytes, as the kernel counts them.
fn resident(node: &mut Node, unit: &str) -> u64 {
    let command = format!("awk '/VmRSS/ {{ print $2 }}' /proc/$(systemctl show --value -p MainPID {unit})/status");
    node.must(&command).parse::<u64>().unwrap() << 10
}

fn refused(node: &mut Node) -> u64 {
    let told = node.must(REQUESTS);
    let (served, refused) = told.split_once(' ').unwrap();
    let (served, refused): (u64, u64) = (served.parse().unwrap(), refused.parse().unwrap());
    assert_eq!(served + refused, 300);
    refused
}

fn until_is(node: &mut Node, command: &str, wanted: &str) {
    // A guardian that was killed waits 45 s before it believes the number of a gunicorn's workers.
    let patience = Duration::from_secs(150);
    node.until_within(patience, &format!("is=$({command}); echo \"$is\"; [ \"$is\" = '{wanted}' ]"));
}

/// Normal, nothing in force or owed, and the sandbox was never in the way.
fn until_calm(node: &mut Node) {
    let calm = "node-guardian status --json | jq -e '.mode == \"normal\" and (.in_force | length == 0)'";
    node.until_within(Duration::from_secs(150), calm);
    let told = node.told();
    for part in ["Operation not permitted", "Permission denied", "Read-only file system", "CAP_"] {
        assert!(!told.contains(part), "the sandbox is in the way ({part}):\n{told}");
    }
}

/// Waits until the journal says that this step was taken, and never otherwise.
fn until_applied(node: &mut Node, verb: &str, control: &str) {
    let lines = format!("select(.VERB == \"{verb}\" and .CONTROL == \"{control}\") | .OUTCOME // empty");
    until_is(
        node,
        &format!("journalctl -b -u node-guardian -o json --no-pager | jq -r '{lines}' | sort -u"),
        "applied",
    );
}

#[test]
fn nginx_sheds_and_its_flags_go_with_the_guardian() {
    let mut node = town();
    assert_eq!(refused(&mut node), 0);
    // So that there is time to look while it is gone.
    drop_in(&mut node, "node-guardian", "late", "[Service]\nRestartSec=30s\n");
    node.fill_memory();
    for end in [
        "systemctl kill -s KILL --kill-who=main node-guardian",
        "kill -STOP $(systemctl show --value -p MainPID node-guardian)",
    ] {
        node.until(SHEDDING);
        let share = refused(&mut node);
        assert!((45..=105).contains(&share), "{share} of 300 refused");
        node.must(end);
        node.until(&format!("! {SHEDDING}"));
        assert_eq!(refused(&mut node), 0, "after `{end}`");
        assert_eq!(
            node.must("systemctl show --value -p SubState node-guardian"),
            "auto-restart",
            "it was back too soon"
        );
    }
    node.until(SHEDDING);
    node.empty_memory();
    node.until(&format!("! {SHEDDING}"));
    assert_eq!(refused(&mut node), 0);
    until_calm(&mut node);
}

#[test]
fn nginx_gives_up_half_of_its_cache() {
    let mut node = town();
    node.must(CACHE_PAGES);
    let files = "find /var/cache/nginx/app -type f | wc -l";
    assert_eq!(node.must(files), "60");
    town::prune(&mut node);
    node.fill_memory();
    until_is(&mut node, files, "30");
    until_applied(&mut node, "prune", "front");
    node.empty_memory();
    until_calm(&mut node);
}

#[test]
fn memcached_shrinks_and_gets_its_limit_back_to_the_byte() {
    let mut node = town();
    node.must(FILL_MEMCACHED);
    assert_eq!(node.must(LIMIT), "67108864");
    let before = resident(&mut node, "memcached");
    node.fill_memory();
    until_is(&mut node, LIMIT, "33554432");
    until_applied(&mut node, "shrink", "items");
    let after = resident(&mut node, "memcached");
    assert!(after + (10 << 20) < before, "resident {before} before, {after} after");
    node.empty_memory();
    until_is(&mut node, LIMIT, "67108864");
    until_calm(&mut node);
}

#[test]
fn processes_are_given_back_by_the_start_after_a_kill() {
    let mut node = town();
    // A guest that was resumed has a clock that jumped, at which gunicorn ends its workers and starts others.
    until_is(&mut node, HELD, CALM);
    node.fill_memory();
    until_is(&mut node, HELD, "2 T 3 idle");
    node.must("curl -sf --unix-socket /run/gunicorn/app.sock http://app/");
    node.must("systemctl kill -s KILL --kill-who=main node-guardian");
    assert_eq!(node.must(HELD), "2 T 3 idle", "what is left behind is what was in force");
    node.empty_memory();
    until_is(&mut node, HELD, CALM);
    node.must("curl -sf --unix-socket /run/gunicorn/app.sock http://app/");
    until_calm(&mut node);
}

#[test]
fn who_listens_for_pressure_gives_memory_back() {
    let mut node = town();
    let before = resident(&mut node, "pages");
    let journald = node.must("systemctl show --value -p MainPID systemd-journald");
    // It takes the signal from systemd 254 on, and would be ended by it before.
    let takes_it = node.run("grep -aq 'Under memory pressure' /lib/systemd/systemd-journald").succeeded();
    node.fill_memory();
    node.until("journalctl -b -u told -o cat | grep -qx 'told 0x300'");
    node.empty_memory();
    until_calm(&mut node);
    let after = resident(&mut node, "pages");
    assert!(after + (35 << 20) < before, "resident {before} before, {after} after");
    until_applied(&mut node, "release", "pages");
    assert_eq!(node.must("systemctl show --value -p MainPID systemd-journald"), journald, "journald was ended");
    let wanted = if takes_it { "ready" } else { "refused" };
    node.must(&format!("node-guardian status | grep -F 'journald (pressure): {wanted}'"));
    assert_eq!(
        takes_it,
        node.run("journalctl -b -o cat | grep -q 'Under memory pressure, flushing caches'").succeeded()
    );
}

#[test]
fn a_drill_brings_everything_back() {
    let mut node = town();
    node.must(FILL_MEMCACHED);
    until_is(&mut node, HELD, CALM);
    let before = node.must(&format!("{HELD}; {LIMIT}; redis-cli config get maxmemory"));
    let told = node.must("node-guardian drill --yes --wait 200s");
    println!("{told}");
    for part in [
        "shed front",
        "shed edge",
        "throttle edge",
        "drain edge",
        "shrink items",
        "throttle app",
        "freeze reports",
        "throttle batch",
    ] {
        let line = told.lines().find(|line| line.contains(part));
        assert!(line.is_some_and(|line| line.starts_with("restored")), "{part}: {told}");
    }
    assert_eq!(node.must(&format!("{HELD}; {LIMIT}; redis-cli config get maxmemory")), before);
    node.until_ready(&READY);
    until_calm(&mut node);
}

/// It forgets with its life what it was told; the emergency does not.
#[test]
fn services_that_restart_meanwhile_are_throttled_again() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    let who = "echo 'show info' | socat - /run/haproxy/admin.sock | awk '$1 == \"Pid:\" { print $2 }'";
    for command in ["systemctl restart haproxy", "systemctl reload haproxy", "systemctl restart redis-server"] {
        let before = node.must(&format!("{who}; systemctl show --value -p MainPID redis-server"));
        node.must(command);
        node.until(&format!(
            "now=$({who}; systemctl show --value -p MainPID redis-server); [ \"$now\" != '{before}' ]"
        ));
        node.until_throttled();
        assert_eq!(node.limits(), THROTTLED, "after `{command}`");
    }
    node.empty_memory();
    node.until_as_before();
    until_calm(&mut node);
}
