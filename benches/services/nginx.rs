//! nginx: calm, shedding a quarter and a half by flag files, and let go again.

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::Verb;

use super::Figures;
use super::act::Actor;
use super::haproxy::shed_rows;
use super::load;
use super::server::Server;
use super::table::{Row, Unit};

/// As docs/controls/nginx.md has it. `keepalive_requests`, since nginx otherwise closes each connection after a thousand.
const CONFIGURATION: &str = r#"
daemon off;
worker_processes 1;
error_log FOLDER/error.log;
pid FOLDER/nginx.pid;
events { worker_connections 512; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path FOLDER/body;
    proxy_temp_path FOLDER/proxy;
    fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi;
    scgi_temp_path FOLDER/scgi;
    split_clients "$request_id" $ngb { 10% 10; 15% 25; 25% 50; 25% 75; * 100; }
    upstream app { server unix:FOLDER/app.sock; keepalive 64; }
    server {
        listen 127.0.0.1:PORT;
        location / {
            open_file_cache off;
            if (-f FOLDER/flags/shed-$ngb) {
                add_header Retry-After 5 always;
                return 503;
            }
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_pass http://app;
        }
    }
}
"#;

pub fn measure() -> Figures {
    // Its workers are ours where the bench is root's: they must get into the folder.
    let user = if nix::unistd::geteuid().is_root() { "user root;" } else { "" };
    let configuration = format!("{user}{CONFIGURATION}");
    let server = Server::start("nginx", &["-c", "FOLDER/conf", "-p", "FOLDER"], &configuration)?;
    let flags = server.path("flags");
    let target = Target::Nginx(target::Nginx { flags: Some(flags), ..target::Nginx::default() });
    let mut actor = Actor::new(&target)?;

    let calm = load::measure(server.port)?;
    let mut rows = vec![
        Row::new("nginx, calm: served", calm.per_second, Unit::PerSecond),
        Row::new("nginx, calm: p50", calm.served_at(0.5), Unit::Milliseconds),
    ];
    for share in [25.0, 50.0] {
        let shed = actor.apply(Verb::Shed, 100.0 - share)?;
        let shedding = load::measure(server.port)?;
        actor.undo(&shed)?;
        rows.extend(shed_rows("nginx", share, &calm, &shedding));
    }
    let after = load::measure(server.port)?;
    rows.push(Row::new("nginx, let go: not served", after.refused_percent, Unit::Percent).at_most(0.0, None));
    Ok(rows)
}
