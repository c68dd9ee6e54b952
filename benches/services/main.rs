//! What throttling does to the services that are throttled: real servers under load from wrk, acted upon by the real
//! controls, calm and throttled measured in one run on one machine. It informs: a figure that is missed is shown and does
//! not fail the run. Only loopback is used, and every process ends with its part.
//!
//! `cargo bench --bench services` runs all of it in a minute; names of parts run those: `-- haproxy`. One file a service:
//! a new one is a module with `measure`, and its line in `PARTS`.

mod act;
mod backend;
mod caches;
mod haproxy;
mod load;
mod nginx;
mod server;

#[allow(dead_code, reason = "the other bench uses the rest")]
#[path = "../daemon/process.rs"]
mod process;
#[allow(dead_code, reason = "the other bench uses the rest")]
#[path = "../daemon/table.rs"]
mod table;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use table::{Row, Table};

type Figures = Result<Vec<Row>, String>;

struct Part {
    name: &'static str,
    /// Programs, each with the Debian package that has it.
    needs: &'static [(&'static str, &'static str)],
    measure: fn() -> Figures,
}

const WRK: (&str, &str) = ("wrk", "wrk");

const PARTS: [Part; 5] = [
    Part { name: "haproxy", needs: &[WRK, ("haproxy", "haproxy")], measure: haproxy::measure },
    Part { name: "nginx", needs: &[WRK, ("nginx", "nginx-light")], measure: nginx::measure },
    Part { name: "redis", needs: &[("redis-server", "redis-server")], measure: caches::redis },
    Part { name: "memcached", needs: &[("memcached", "memcached")], measure: caches::memcached },
    Part { name: "varnish", needs: &[("varnishd", "varnish")], measure: caches::varnish },
];

fn main() -> ExitCode {
    let names: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match measure(&names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(names: &[String]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        return Err(format!("there is no part {unknown:?}; there are {}", PARTS.map(|part| part.name).join(", ")));
    }
    let wanted: Vec<&Part> =
        PARTS.iter().filter(|part| names.is_empty() || names.iter().any(|name| part.name == name)).collect();
    process::missing(wanted.iter().flat_map(|part| part.needs))?;
    let mut table = Table::default();
    for part in wanted {
        let started = Instant::now();
        eprint!("{:<12}", part.name);
        table.add((part.measure)().map_err(|why| format!("{}: {why}", part.name))?);
        eprintln!("{:>4} s", started.elapsed().as_secs());
    }
    table.print();
    Ok(())
}
