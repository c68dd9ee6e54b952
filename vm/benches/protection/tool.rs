//! The guards: where each one's settings go, how it is started, and by which of its own lines it is seen to act.

pub struct Tool {
    pub name: &'static str,
    /// Empty for nobody.
    pub unit: &'static str,
    /// Path in the guest, content.
    pub files: &'static [(&'static str, &'static str)],
    /// Run before the unit is started.
    pub prepare: &'static [&'static str],
    /// A line of its journal that has one of these tells of an action.
    pub acts: &'static [&'static str],
    /// Undoes what it did, so it is given time to.
    pub recovers: bool,
}

macro_rules! file {
    ($name:literal) => {
        include_str!(concat!("config/", $name))
    };
}

const BATCH_OOMD: &str = "[Slice]\nManagedOOMMemoryPressure=kill\nManagedOOMSwap=kill\n";
const AVOID: &str = "[Service]\nManagedOOMPreference=avoid\n";

pub const NODE_GUARDIAN: &str = "node-guardian";

pub const ALL: [Tool; 7] = [
    Tool { name: "nothing", unit: "", files: &[], prepare: &[], acts: &[], recovers: false },
    Tool {
        name: "earlyoom",
        unit: "earlyoom.service",
        files: &[("/etc/default/earlyoom", file!("earlyoom"))],
        prepare: &[],
        acts: &["sending SIGTERM", "sending SIGKILL"],
        recovers: false,
    },
    Tool {
        name: "systemd-oomd",
        unit: "systemd-oomd.service",
        files: &[
            ("/etc/systemd/oomd.conf", file!("oomd.conf")),
            ("/etc/systemd/system/batch.slice.d/oomd.conf", BATCH_OOMD),
            ("/etc/systemd/system/system.slice.d/oomd.conf", BATCH_OOMD),
            ("/etc/systemd/system/shop.service.d/oomd.conf", AVOID),
            ("/etc/systemd/system/haproxy.service.d/oomd.conf", AVOID),
            ("/etc/systemd/system/redis-server.service.d/oomd.conf", AVOID),
            ("/etc/systemd/system/systemd-journald.service.d/oomd.conf", AVOID),
            ("/etc/systemd/system/dbus.service.d/oomd.conf", AVOID),
        ],
        prepare: &[],
        acts: &["Killed "],
        recovers: false,
    },
    Tool {
        name: "oomd",
        unit: "oomd.service",
        files: &[
            ("/etc/oomd/oomd.json", file!("oomd.json")),
            ("/etc/default/oomd", "DAEMON_OPTS=\"--config /etc/oomd/oomd.json --interval 1\"\n"),
        ],
        prepare: &[
            "python3 -c 'import os; [os.setxattr(\"/sys/fs/cgroup/system.slice/%s.service\" % s, \"trusted.oomd_avoid\", b\"1\") for s in (\"shop\", \"haproxy\", \"redis-server\", \"dbus\", \"systemd-journald\")]'",
        ],
        acts: &["oomd kill:"],
        recovers: false,
    },
    Tool {
        name: "nohang",
        unit: "nohang.service",
        files: &[("/opt/town/nohang.keys", file!("nohang.conf"))],
        prepare: &[
            "grep -v ^# /opt/town/nohang.keys | cut -d= -f1 | grep _ | grep -v ^@ | while read -r key; do sed -i \"/^$key *=/d\" /etc/nohang/nohang.conf; done",
            "grep -v ^# /opt/town/nohang.keys >>/etc/nohang/nohang.conf",
        ],
        acts: &["Sending SIG"],
        recovers: false,
    },
    Tool {
        name: "monit",
        unit: "monit.service",
        files: &[
            ("/etc/monit/monitrc", file!("monitrc")),
            ("/opt/town/monit-act", file!("monit-act")),
            (
                "/etc/systemd/system/monit.service",
                "[Service]\nExecStart=/usr/bin/monit -I -c /etc/monit/monitrc\nRestart=always\n",
            ),
        ],
        prepare: &["chmod 600 /etc/monit/monitrc; chmod 755 /opt/town/monit-act; mkdir -p /var/lib/monit"],
        acts: &["kill -TERM", "renice ", "rm /"],
        recovers: false,
    },
    Tool {
        name: NODE_GUARDIAN,
        unit: "node-guardian.service",
        files: &[("/etc/node-guardian/config.toml", file!("node-guardian.toml"))],
        prepare: &[],
        acts: &["applied"],
        recovers: true,
    },
];

pub fn find(name: &str) -> Result<&'static Tool, String> {
    let known = || ALL.iter().map(|tool| tool.name).collect::<Vec<_>>().join(", ");
    ALL.iter().find(|tool| tool.name == name).ok_or_else(|| format!("no guard {name:?}; there are {}", known()))
}
