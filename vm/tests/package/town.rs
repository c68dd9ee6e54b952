//! A guest in which every kind of service runs that fits into it, each set up by the lines of its page in docs/controls, and
//! the guardian with the drop-ins of those pages. What a page does not say is not done here either.

use super::support::{Node, PACKAGE};

const HAPROXY: &str = include_str!("../../../docs/controls/haproxy.md");
const MEMCACHED: &str = include_str!("../../../docs/controls/memcached.md");
const NGINX: &str = include_str!("../../../docs/controls/nginx.md");
const PRESSURE: &str = include_str!("../../../docs/controls/pressure.md");
const PROCESS: &str = include_str!("../../../docs/controls/process.md");

/// Only what the tests do to it moves it: an emulated processor is always busy.
pub const QUIET: &str = r#"
[emergency]
hold = "1s"
undo_interval = "1s"
[rule]
cpu-emergency.enabled = false
cpu-high.enabled = false
cpu-pressure.enabled = false
load-high.enabled = false
memory-caches.enabled = false
memory-pressure.enabled = false
disk-pressure.enabled = false
"#;

const CONTROLS: &str = r#"
[control.haproxy.edge]
socket = "/run/haproxy/admin.sock"
[control.redis.cache]
socket = "/run/redis/redis-server.sock"
[control.nginx.front]
flags = "/run/node-guardian/nginx"
stub_status = "http://127.0.0.1:8080/nginx_status"
[control.memcached.items]
socket = "/run/memcached/memcached.sock"
[control.process.batch]
cgroup = "system.slice/batch.service"
idle_io = true
[control.pressure.pages]
fifo = "/run/ng-pressure/pages.fifo"
cgroup = "system.slice/pages.service"
[control.pressure.told]
cgroup = "system.slice/told.service"
signal = true
[control.pressure.journald]
cgroup = "system.slice/systemd-journald.service"
signal = true
"#;

pub const RULE: &str = r#"
[rule.short-of-memory]
when = "memory.available_percent < 45%"
clear = "memory.available_percent > 50%"
clear_for = "1s"
severity = "emergency"
priority = 100
cooldown = "1s"
"#;

const STEPS: &str = r#"
steps = [
  { release = "pages", settle = "200ms" },
  { release = "told", settle = "200ms" },
  { release = "journald", settle = "200ms" },
  { shed = "front", share = "25%", settle = "200ms" },
  { shrink = "items", to = "32MiB", settle = "200ms" },
  { throttle = "batch", to = "50%", settle = "200ms" },
  { freeze = "reports", settle = "200ms" },
  { throttle = "app", to = "50%", settle = "200ms" },
]
"#;

/// One location that may be refused, and one that keeps what it has fetched.
const SITE: &str = r#"
proxy_cache_path /var/cache/nginx/app levels=1:2 keys_zone=pages:1m use_temp_path=off;
server {
    listen 127.0.0.1:8000;
    location / {
LOCATION
        return 200 "served\n";
    }
    location /cached/ { proxy_pass http://127.0.0.1:8001; proxy_cache pages; proxy_cache_valid 1d; }
}
server { listen 127.0.0.1:8001; location / { return 200 "PAGE"; } }
"#;

const APPLICATION: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [b'served']
";

/// By signalfd, as systemd's daemons do: whoever sleeps in sigwait has it unblocked meanwhile. The value is at byte 44.
const TOLD: &str = "
import ctypes, os, signal, struct
libc = ctypes.CDLL(None)
number = signal.SIGRTMIN + 18
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
mask = ctypes.create_string_buffer(128)
libc.sigemptyset(mask)
libc.sigaddset(mask, number)
fd = libc.signalfd(-1, mask, 0)
print('waits', flush=True)
while True:
    print('told', hex(struct.unpack_from('i', os.read(fd, 128), 44)[0]), flush=True)
";

const UNITS: [(&str, &str); 5] = [
    (
        "gunicorn",
        "RuntimeDirectory=gunicorn\nUser=www-data\nExecStart=/usr/bin/gunicorn --chdir /srv --workers 4 --bind unix:/run/gunicorn/app.sock app:application",
    ),
    ("reports", "User=nobody\nExecStart=/bin/sleep infinity"),
    ("batch", "User=nobody\nExecStart=/bin/sleep infinity"),
    ("pages", "User=www-data\nExecStart=/usr/bin/python3 /srv/pages.py"),
    ("told", "User=nobody\nExecStart=/usr/bin/python3 /srv/told.py"),
];

pub const READY: [&str; 9] = [
    "app (process)",
    "batch (process)",
    "cache (redis)",
    "edge (haproxy)",
    "front (nginx)",
    "items (memcached)",
    "pages (pressure)",
    "reports (process)",
    "told (pressure)",
];

/// All of it runs and is used by one rule, which fires while memory is short.
pub fn town() -> Node {
    let inputs = [include_str!("town.rs"), HAPROXY, MEMCACHED, NGINX, PRESSURE, PROCESS].concat();
    Node::prepared("town", &inputs, |node| {
        node.install(PACKAGE);
        set_up_proxies(node);
        set_up_memcached(node);
        node.write("/srv/app.py", APPLICATION);
        set_up_pressure(node);
        for (name, service) in UNITS {
            node.write(&format!("/etc/systemd/system/{name}.service"), &format!("[Service]\n{service}\n"));
        }
        drop_in(node, "node-guardian", "process", &block(PROCESS, "ini", 0));
        node.configure(
            &[QUIET, CONTROLS, &block(PROCESS, "toml", 0), &block(PROCESS, "toml", 3), RULE, STEPS].concat(),
        );
        node.must("systemctl daemon-reload; systemctl restart nginx memcached; systemctl start gunicorn reports batch pages told");
        node.start_haproxy_and_redis();
        node.until(
            "curl -sf --unix-socket /run/gunicorn/app.sock http://app/ && journalctl -b -u told | grep -q waits",
        );
        node.must("usermod -aG haproxy,redis,memcache node-guardian && systemctl restart node-guardian");
        node.until_ready(&READY);
    })
}

fn set_up_proxies(node: &mut Node) {
    let haproxy = block(HAPROXY, "haproxy", 0);
    node.must("cat /etc/haproxy/haproxy.cfg >/root/haproxy.cfg");
    node.write("/root/more.cfg", &haproxy.replace("bind :80", "bind 127.0.0.1:8090"));
    node.must("cat /root/haproxy.cfg /root/more.cfg >/etc/haproxy/haproxy.cfg");
    let http = [block(NGINX, "nginx-http", 0), block(NGINX, "nginx-http", 1)].concat();
    node.write("/etc/nginx/conf.d/node-guardian.conf", &http);
    let site = SITE.replace("LOCATION", &block(NGINX, "nginx-location", 0)).replace("PAGE", &"x".repeat(3000));
    node.write("/etc/nginx/sites-available/default", &site);
    node.must("mkdir -p /var/cache/nginx");
}

fn set_up_memcached(node: &mut Node) {
    node.write("/root/more", &block(MEMCACHED, "memcached", 0));
    node.must("cat /root/more >>/etc/memcached.conf");
    drop_in(node, "memcached", "memory", &block(MEMCACHED, "ini", 0));
}

fn set_up_pressure(node: &mut Node) {
    let mine = |text: String| text.replace("memcached", "pages").replace("memcache ", "www-data ");
    node.write("/etc/tmpfiles.d/ng-pressure.conf", &mine(block(PRESSURE, "tmpfiles", 0)));
    node.must("systemd-tmpfiles --create ng-pressure.conf");
    drop_in(node, "pages", "pressure", &mine(block(PRESSURE, "ini", 0)));
    let listener = block(PRESSURE, "python", 0);
    node.write("/srv/pages.py", &format!("cache = [b'x' * (1 << 20) for _ in range(40)]\n{listener}"));
    node.write("/srv/told.py", TOLD);
}

/// As `systemctl edit` writes it.
pub fn drop_in(node: &mut Node, unit: &str, name: &str, text: &str) {
    node.must(&format!("mkdir -p /etc/systemd/system/{unit}.service.d"));
    node.write(&format!("/etc/systemd/system/{unit}.service.d/{name}.conf"), text);
    node.must("systemctl daemon-reload");
}

/// nginx with its cache, which is pruned: the control as its page shows it, and the drop-in.
pub fn prune(node: &mut Node) {
    drop_in(node, "node-guardian", "nginx", &block(NGINX, "ini", 0));
    let steps = "steps = [{ prune = \"front\", settle = \"200ms\" }]\n";
    node.configure(&["level = \"aggressive\"\n", QUIET, &block(NGINX, "toml", 0), RULE, steps].concat());
    node.must("systemctl restart node-guardian");
    node.until_ready(&["front (nginx)"]);
}

/// The block of a page that is fenced as this, by its number.
pub fn block(page: &str, fence: &str, number: usize) -> String {
    let opening = format!("\n```{fence}\n");
    let found = page.split(&opening).skip(1).nth(number).and_then(|rest| rest.split("```").next());
    found.unwrap_or_else(|| panic!("no block {number} of {fence}")).to_owned()
}
