//! Resident memory with everything on: both controls with real servers, the built-in rules, memory locked where this
//! user may.

use std::thread::sleep;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::table::{Row, Unit};
use crate::{Figures, client, servers};

const REQUESTS: usize = 20_000;
const CONNECTIONS: usize = 64;
/// Until the slow rounds have been made once, and freed memory has gone back.
const SETTLE: Duration = Duration::from_secs(2);

pub fn measure() -> Figures {
    let (haproxy, redis) = (servers::haproxy()?, servers::redis()?);
    let daemon = Daemon::start(&servers::controls(&haproxy, &redis))?;
    let (earlyoom, exporter) = (servers::earlyoom()?, servers::exporter()?);
    sleep(SETTLE);
    let idle = daemon.process.resident_megabytes();
    let peers = |after: &str| {
        let (oom, exporter) = (earlyoom.process.resident_megabytes(), exporter.process.resident_megabytes());
        format!("earlyoom {oom:.2}, node_exporter {exporter:.1} MB{after}")
    };
    let idle_peers = peers(" (glibc)");
    client::crowd(daemon.port, REQUESTS, CONNECTIONS)?;
    for _ in 0..20 {
        client::get(exporter.port, "/metrics")?;
    }
    sleep(SETTLE);
    let after = daemon.process.resident_megabytes();
    Ok(vec![
        Row::new("resident memory, idle", idle, Unit::Megabytes).at_most(3.5, 2.5).next_to(idle_peers),
        Row::new("resident memory, after 20,000 requests on 64 connections", after, Unit::Megabytes)
            .at_most(3.5, 2.5)
            .next_to(peers(" after 20 scrapes")),
        Row::new("resident memory, peak during them", daemon.process.peak_megabytes(), Unit::Megabytes),
    ])
}
