//! How late ticks begin while every control hangs: two daemons over the same seconds, one without controls, one whose
//! controls all accept a connection and never say a word, with a rule that wants something of each of them all the time.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::CALM;
use crate::Figures;
use crate::daemon::Daemon;
use crate::histogram::{Histogram, TICK_LAG};
use crate::table::{Row, Unit};

const WINDOW: Duration = Duration::from_secs(20);
/// The first deadlines have passed by then.
const SETTLED: Duration = Duration::from_secs(3);
const OF_EACH_KIND: usize = 2;

pub fn measure() -> Figures {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let mute = folder.path().join("mute.sock");
    // Never accepted: the kernel takes the connection, and nobody answers.
    let _listener = UnixListener::bind(&mute).map_err(|error| format!("cannot listen: {error}"))?;
    let pace = format!("{CALM}[sampling]\ninterval = \"10ms\"\nfast_interval = \"10ms\"\n");
    let (configuration, controls) = hanging(&mute);
    let without = Daemon::start(&pace)?;
    let with = Daemon::start(&format!("{pace}{configuration}"))?;
    sleep(SETTLED);
    let before = (Histogram::read(without.port, TICK_LAG)?, Histogram::read(with.port, TICK_LAG)?);
    sleep(WINDOW);
    let lag = |daemon: &Daemon, before: &Histogram| {
        Histogram::read(daemon.port, TICK_LAG).map(|now| now.since(before).between(0.99) * 1e3)
    };
    let (calm, hung) = (lag(&without, &before.0)?, lag(&with, &before.1)?);
    let figure = format!("tick lateness with {controls} hanging controls, over that with none, p99");
    Ok(vec![
        Row::new(figure, hung / calm, Unit::Times)
            .at_most(2.0, 1.2)
            .next_to(format!("{hung:.3} ms against {calm:.3} ms in the same {} s", WINDOW.as_secs())),
    ])
}

/// Controls that hang, and a rule that never stops wanting something of each; how many there are.
fn hanging(mute: &Path) -> (String, usize) {
    let kinds = [
        ("haproxy", format!("socket = {mute:?}"), "throttle = \"NAME\", to = \"50%\""),
        ("redis", format!("socket = {mute:?}\ncache_only = true"), "shrink = \"NAME\", to = \"50%\""),
    ];
    let (mut controls, mut steps) = (String::new(), Vec::new());
    for at in 0..OF_EACH_KIND {
        for (kind, keys, step) in &kinds {
            let name = format!("{kind}-{at}");
            controls.push_str(&format!("[control.{kind}.{name}]\n{keys}\n"));
            steps.push(format!("{{ {}, settle = \"50ms\" }}", step.replace("NAME", &name)));
        }
    }
    let rule = format!(
        "[rule.always]\nwhen = \"memory.used_percent > 0%\"\nfor = \"0s\"\nseverity = \"warning\"\nsteps = [{}]\n",
        steps.join(", ")
    );
    (controls + &rule, steps.len())
}
