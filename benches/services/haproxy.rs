//! HAProxy: calm, shedding half, throttled to half of its connections, and let go again.

use node_guardian::control::target::{self, Target};
use node_guardian::policy::mitigation::Verb;

use super::Figures;
use super::act::Actor;
use super::load::{self, ALL, Measured};
use super::server::Server;
use super::table::{Row, Unit, quantile};

/// As docs/controls/haproxy.md has it. The server takes all that come, until it is throttled.
const CONFIGURATION: &str = "
global
    maxconn 500
    stats socket FOLDER/admin.sock mode 600 level admin
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    timeout queue 10s
frontend web
    bind 127.0.0.1:PORT
    http-request set-var(txn.shed) str(web),table_gpc0(ng_lease)
    http-request return status 503 hdr Retry-After 5 content-type text/plain string busy if { rand(100),sub(txn.shed) -m int lt 0 }
    default_backend app
backend app
    server one unix@FOLDER/app.sock maxconn LIMIT
backend ng_lease
    stick-table type string len 32 size 64 expire 30s store gpc0
";

pub fn measure() -> Figures {
    let configuration = CONFIGURATION.replace("LIMIT", &ALL.to_string());
    let server = Server::start("haproxy", &["-db", "-f", "FOLDER/conf"], &configuration)?;
    let mut actor = Actor::new(&Target::Haproxy(target::Haproxy {
        socket: server.path("admin.sock"),
        frontends: vec!["web".to_owned()],
        backends: vec!["app".to_owned()],
        lease_table: "ng_lease".to_owned(),
        ..target::Haproxy::default()
    }))?;

    let calm = load::measure(server.port)?;
    let shed = actor.apply(Verb::Shed, 50.0)?;
    let shedding = load::measure(server.port)?;
    actor.undo(&shed)?;
    let throttle = actor.apply(Verb::Throttle, 50.0)?;
    let throttled = load::measure(server.port)?;
    actor.undo(&throttle)?;
    let after = load::measure(server.port)?;

    let mut rows = vec![
        Row::new("haproxy, calm: served", calm.per_second, Unit::PerSecond),
        Row::new("haproxy, calm: p50", calm.served_at(0.5), Unit::Milliseconds),
    ];
    rows.extend(shed_rows("haproxy", 50.0, &calm, &shedding));
    rows.extend([
        Row::new("haproxy, 50% of maxconn: not served", throttled.refused_percent, Unit::Percent).at_most(0.0, None),
        Row::new("haproxy, 50% of maxconn: connections broken", throttled.broken + throttled.timeouts, Unit::Count)
            .at_most(0.0, None),
        Row::new("haproxy, 50% of maxconn: served", throttled.per_second, Unit::PerSecond)
            .next_to(format!("calm {:.0} /s", calm.per_second)),
        Row::new("haproxy, 50% of maxconn: p50", throttled.served_at(0.5), Unit::Milliseconds)
            .next_to(format!("calm {:.1} ms", calm.served_at(0.5))),
        Row::new("haproxy, let go: not served", after.refused_percent, Unit::Percent).at_most(0.0, None),
        Row::new("haproxy, let go: p50 by calm", after.served_at(0.5) / calm.served_at(0.5), Unit::Times)
            .at_most(1.5, 1.1),
    ]);
    Ok(rows)
}

/// What shedding must be at any proxy.
pub fn shed_rows(name: &str, share: f64, calm: &Measured, shedding: &Measured) -> Vec<Row> {
    let row = |what: &str, value, unit| Row::new(format!("{name}, shedding {share:.0}%: {what}"), value, unit);
    let by_calm = |at| shedding.served_at(at) / calm.served_at(at);
    let told = |at| format!("{:.1} ms, calm {:.1} ms", shedding.served_at(at), calm.served_at(at));
    vec![
        row("refused", shedding.refused_percent, Unit::Percent).between(share - 5.0, share + 5.0),
        row("refused within, p50", quantile(&shedding.refused, 0.5), Unit::Milliseconds).at_most(5.0, 1.0),
        row("refused within, p99", quantile(&shedding.refused, 0.99), Unit::Milliseconds),
        row("served, p50 by calm", by_calm(0.5), Unit::Times).at_most(1.5, 1.1).next_to(told(0.5)),
        row("served, p99 by calm", by_calm(0.99), Unit::Times).at_most(1.5, 1.1).next_to(told(0.99)),
        row("connections broken", shedding.broken + shedding.timeouts, Unit::Count).at_most(0.0, None),
    ]
}
