//! Lines for a service's own configuration, by the service itself.

use std::process::Command;

use nix::unistd::Uid;

use super::{Block, run, taken, write};
use crate::support::{Process, eventually};

const DEFAULTS: &str = "defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n";

fn haproxy_takes(text: &str, block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let map = write(&folder, "ng.map", "web 0\n");
    let text = text.replace("/etc/haproxy/ng.map", map.to_str().unwrap());
    let file = write(&folder, "haproxy.cfg", &format!("{DEFAULTS}{text}"));
    taken(run(Command::new("haproxy").arg("-c").arg("-f").arg(file), "haproxy"), &block.place());
}

pub fn haproxy(block: &Block) {
    haproxy_takes(&block.text, block);
}

pub fn haproxy_map(block: &Block) {
    haproxy_takes(&format!("frontend web\n bind :81\n{}", block.text), block);
}

/// `http` is what stands in `http { }`, `location` in a location.
fn nginx_takes(http: &str, location: &str, block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let text = format!(
        "pid {at}/pid; error_log {at}/log; events {{}}\nhttp {{ access_log off;\n{http}\nserver {{ listen unix:{at}/web; \
         location / {{\n{location}\n}} }} }}\n"
    );
    let file = write(&folder, "nginx.conf", &text);
    let mut nginx = Command::new("nginx");
    taken(run(nginx.arg("-t").arg("-c").arg(file).arg("-p").arg(folder.path()), "nginx-light"), &block.place());
}

/// A host of the page's own has no address.
pub fn nginx_http(block: &Block) {
    nginx_takes(&block.text.replace("hooks.example.com", "localhost"), "", block);
}

pub fn nginx_location(block: &Block) {
    let shares = "split_clients \"$request_id\" $ngb { 10% 10; * 100; }";
    nginx_takes(shares, &block.text, block);
}

/// With its paths and secret replaced; it is known by what it answers.
pub fn redis(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let text = block.text.replace("/run/redis/redis-server.sock", socket.to_str().unwrap());
    let text = format!("port 0\nsave \"\"\ndir {}\nunixsocket {}\n{text}", folder.path().display(), socket.display());
    let file = write(&folder, "redis.conf", &text);
    let _server = Process::start("redis-server", "redis-server", &[file.to_str().unwrap()]);
    let asked = || {
        let output = run(Command::new("redis-cli").arg("-s").arg(&socket).args(["ACL", "LIST"]), "redis-tools");
        String::from_utf8(output.stdout).unwrap()
    };
    let users = eventually("it answers", || Some(asked()).filter(|users| users.contains("user default")));
    for line in block.text.lines().filter_map(|line| line.strip_prefix("user ")) {
        let name = line.split(' ').next().unwrap();
        assert!(users.contains(&format!("user {name} on")), "{}: {users}", block.place());
    }
}

/// Lines of /etc/memcached.conf, of which Debian's script makes options.
pub fn memcached(block: &Block) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("memcached.sock");
    let text = block.text.replace("/run/memcached/memcached.sock", socket.to_str().unwrap());
    let mut options: Vec<&str> = text.split_whitespace().collect();
    if Uid::effective().is_root() {
        options.extend(["-u", "root"]);
    }
    let _server = Process::start("memcached", "memcached", &options);
    let answer = eventually("it answers", || {
        use std::io::{BufRead, BufReader, Write};
        let mut connection = std::os::unix::net::UnixStream::connect(&socket).ok()?;
        connection.write_all(b"version\r\n").ok()?;
        BufReader::new(connection).lines().next()?.ok()
    });
    assert!(answer.starts_with("VERSION "), "{}: {answer}", block.place());
}
