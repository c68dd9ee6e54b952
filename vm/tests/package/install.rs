//! Installed, upgraded, removed, purged: as apt does it, and what is left afterwards.

use std::time::Duration;

use super::support::{CALM, Node, PACKAGE, THROTTLED, check_takes_here};

/// Everything that a package could leave behind, but for the logs and lists of the package system itself.
const EVERYTHING: &str = "cd / && find etc usr opt srv var run -xdev \\( -path var/lib/dpkg -o -path var/log -o -path var/cache -o -path run/systemd \
     -o -path var/lib/systemd/deb-systemd-helper-masked -o -path run/udev -o -path var/lib/apt -o -path run/log \\) -prune -o -print | sort; \
     getent passwd | sort; getent group | sort";

#[test]
fn installing_it_starts_it_at_the_safe_level() {
    let mut node = Node::installed();
    assert_eq!(node.must("systemctl is-active node-guardian"), "active");
    assert_eq!(node.must("systemctl is-enabled node-guardian"), "enabled");
    let status = node.status();
    assert_eq!(status["level"], "standard");
    assert_eq!(status["mode"], "normal");
    assert_eq!(status["in_force"].as_array().map(Vec::len), Some(0), "{status:#}");
    assert_eq!(node.must("curl -s -o /dev/null -w '%{http_code}' localhost:9977/readyz"), "200");
    let user = node.must("ps -o user= -p $(systemctl show --value -p MainPID node-guardian)");
    assert_eq!(user, "node-guardian", "it runs as {user}");
    // What the configuration and the messages refer to.
    node.must("ls /usr/share/doc/node-guardian/controls/nginx.md*");
}

/// From the start of its process to `READY=1`, as systemd saw it, in terms of this machine: the guest's processor is
/// slower by as much as `check` takes longer there.
#[test]
fn it_is_ready_soon_after_a_real_boot() {
    let mut node = Node::installed();
    node.guest().reboot().unwrap();
    node.until("systemctl is-active --quiet node-guardian");
    let taken = node.must(
        "systemctl show node-guardian -p ExecMainStartTimestampMonotonic -p ActiveEnterTimestampMonotonic --value | sort -n \
         | awk 'NR == 1 { start = $1 } { end = $1 } END { print end - start }'",
    );
    let taken = Duration::from_micros(taken.parse().unwrap());
    let (there, here) = (node.check_takes(), check_takes_here());
    let own = taken.mul_f64(here.as_secs_f64() / there.as_secs_f64());
    println!(
        "boot: ready after {own:?} of its own time ({taken:?} in the guest, where `check` takes {there:?}, here {here:?})"
    );
    assert!(own <= Duration::from_millis(100), "{own:?}");
}

#[test]
fn the_unit_is_clean_and_shut_in() {
    let mut node = Node::installed();
    assert_eq!(node.must("systemd-analyze verify --man=no node-guardian.service 2>&1"), "");
    // Fails above 2.0: a pipe would hide it.
    let exposure = node.must("systemd-analyze security node-guardian.service --no-pager --threshold=20");
    println!("{}", exposure.lines().last().unwrap_or_default());
}

#[test]
fn an_upgrade_keeps_what_the_operator_wrote_and_puts_back_what_was_in_force() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    let before = node.main_pid();
    node.must(
        "cd /root && dpkg-deb -R node-guardian.deb tree && sed -i 's/^Version: .*/Version: 99.0/' tree/DEBIAN/control && \
         dpkg-deb -Znone -b tree newer.deb && apt-get install -y /root/newer.deb </dev/null",
    );
    assert_ne!(node.main_pid(), before, "the new version does not run");
    assert!(node.must("cat /etc/node-guardian/config.toml").contains("[rule.short-of-memory]"));
    node.until_throttled();
    node.empty_memory();
    node.until_as_before();
}

#[test]
fn removing_it_releases_everything_and_keeps_the_configuration() {
    let mut node = Node::guarding();
    node.fill_memory();
    node.until_throttled();
    assert_eq!(node.limits(), THROTTLED);
    node.must("apt-get remove -y node-guardian");
    assert_eq!(node.limits(), CALM);
    assert!(!node.run("systemctl is-active node-guardian").succeeded());
    assert!(node.must("cat /etc/node-guardian/config.toml").contains("[rule.short-of-memory]"));
    node.install(PACKAGE);
    node.until_throttled();
}

#[test]
fn purging_it_leaves_no_trace() {
    let mut node = Node::bare();
    node.must("systemctl start redis-server haproxy; systemd-tmpfiles --create; sync");
    node.must(&format!("({EVERYTHING}) >/root/before"));
    node.install(PACKAGE);
    node.must("node-guardian status; usermod -aG haproxy node-guardian; systemctl restart node-guardian; systemctl stop node-guardian");
    node.must("mkdir -p /etc/node-guardian/conf.d /etc/systemd/system/node-guardian.service.d");
    node.must("rmdir /etc/systemd/system/node-guardian.service.d; echo 'level = \"minimal\"' >/etc/node-guardian/conf.d/10-mine.toml");
    node.must("apt-get purge -y node-guardian");
    node.must(&format!("({EVERYTHING}) >/root/after"));
    let left = node.run("diff /root/before /root/after").text;
    assert_eq!(left, "", "left behind, or taken along");
    assert!(!node.run("systemctl cat node-guardian").succeeded());
}
