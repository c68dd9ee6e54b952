//! The figures that this project promises, measured at the daemon as it is shipped, next to its peers, in one run on one
//! machine. It informs: a figure that is missed is shown and does not fail the run. Nothing here may harm the machine
//! that it measures: memory is filled by 3 GiB at most, only loopback is used, and every process ends with its part.
//!
//! `cargo bench --bench daemon` runs all of it in some twelve minutes; names of parts run those: `-- memory cpu`.
//! `-- disk --hang=60` lets the disk hang for so many seconds in place of 20.
//! `NODE_GUARDIAN_BINARY` says which daemon; without it, the one that was built for the bench.

mod client;
mod daemon;
mod figures;
mod fill;
mod histogram;
mod made_up;
mod process;
mod servers;
#[allow(dead_code, reason = "the other bench uses the rest")]
mod table;
mod tracer;

#[allow(dead_code, unused_imports, reason = "their own entries are not used here")]
#[path = "../../tests/allocations.rs"]
mod allocations;
#[allow(dead_code, reason = "their own entries are not used here")]
#[path = "../rules.rs"]
mod rules;
#[allow(dead_code, reason = "their own entries are not used here")]
#[path = "../sample.rs"]
mod sample;

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

const HAPROXY: (&str, &str) = ("haproxy", "haproxy");
const REDIS: (&str, &str) = ("redis-server", "redis-server");
const PYTHON: (&str, &str) = ("python3", "python3");
const STRACE: (&str, &str) = ("strace", "strace");
const EARLYOOM: (&str, &str) = ("earlyoom", "earlyoom");
const EXPORTER: (&str, &str) = ("prometheus-node-exporter", "prometheus-node-exporter");

const PARTS: [Part; 16] = [
    Part { name: "memory", needs: &[HAPROXY, REDIS, EARLYOOM, EXPORTER], measure: figures::memory::measure },
    Part { name: "cpu", needs: &[HAPROXY, REDIS, EARLYOOM, EXPORTER], measure: figures::cpu::measure },
    Part { name: "sample", needs: &[STRACE], measure: figures::inside::sample },
    Part { name: "rules", needs: &[], measure: figures::inside::rules },
    Part { name: "allocations", needs: &[], measure: figures::inside::allocations },
    Part { name: "runaway", needs: &[], measure: figures::runaway::measure },
    Part { name: "detection", needs: &[], measure: figures::detection::measure },
    Part { name: "lateness", needs: &[], measure: figures::lateness::measure },
    Part { name: "hanging", needs: &[], measure: figures::hanging::measure },
    Part { name: "reaction", needs: &[HAPROXY, REDIS, PYTHON], measure: figures::reaction::measure },
    Part { name: "crowded", needs: &[], measure: figures::crowded::measure },
    Part { name: "multitude", needs: &[("ip", "iproute2"), PYTHON], measure: figures::multitude::measure },
    Part { name: "disk", needs: &[HAPROXY, REDIS, STRACE], measure: figures::disk::measure },
    Part { name: "http", needs: &[("wrk", "wrk"), ("nginx", "nginx-light")], measure: figures::http::measure },
    Part { name: "probes", needs: &[("wrk", "wrk")], measure: figures::probes::measure },
    Part { name: "start", needs: &[], measure: figures::start::measure },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some((fill::FLAG, rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return fill::run(rest);
    }
    let names: Vec<String> =
        arguments.into_iter().filter(|argument| !argument.starts_with(figures::disk::FLAG)).collect();
    match measure(&names) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn measure(names: &[String]) -> Result<(), String> {
    let known = || PARTS.map(|part| part.name).join(", ");
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        return Err(format!("there is no part {unknown:?}; there are {}", known()));
    }
    let wanted: Vec<&Part> =
        PARTS.iter().filter(|part| names.is_empty() || names.iter().any(|name| part.name == name)).collect();
    process::missing(wanted.iter().flat_map(|part| part.needs))?;
    println!("daemon: {}", daemon::binary()?.display());
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
