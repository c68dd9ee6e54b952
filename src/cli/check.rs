//! `check`: every complaint about the configuration in one run, by the same path as start-up. With `--live` every control
//! is asked whether it can be reached and used; nothing is changed.

use std::path::Path;

use super::paint::hanging;
use super::run::{Options, source};
use super::{CheckArgs, code, complain, print};
use crate::config::{self, Look, Source, settings, whereabouts};
use crate::control::worker::probe_once;
use crate::journal;
use crate::policy::mitigation::Outcome;
use crate::status::ControlState;

pub fn run(args: &CheckArgs) -> u8 {
    let source = source(&Options { config: args.config.clone(), ..Options::default() });
    let source = Source { look: Look::Here, ..source };
    let checked = config::check(&source);
    let next = checked.settings.as_ref().map(|settings| settings.state_directory.as_path());
    let former = next.and_then(|next| whereabouts::find(&source).filter(|former| !journal::is_same(former, next)));
    let controls = checked.settings.as_ref().map(|settings| settings.controls.clone());
    if args.json {
        return json(&checked, former.as_deref(), controls.as_deref(), args.live);
    }
    if controls.is_some() {
        print(&checked.text());
        if let Some(former) = &former {
            let next = next.unwrap_or(former).display();
            print(&format!("earlier state is in {}; the next start moves it to {next}\n", former.display()));
        }
    } else {
        // As compilers do: what is wrong goes where errors go.
        eprint!("{}", checked.text());
    }
    match controls {
        None => code::BAD_CONFIGURATION,
        Some(controls) if args.live => live(&controls),
        Some(_) => 0,
    }
}

/// One object, the answers of the controls in it.
fn json(checked: &config::Checked, former: Option<&Path>, controls: Option<&[settings::Control]>, live: bool) -> u8 {
    let Ok(mut object) = serde_json::to_value(checked.json()) else { return code::INTERNAL };
    if let Some(former) = former {
        object["earlier_state"] = former.display().to_string().into();
    }
    let mut usable = controls.is_some();
    if let Some(controls) = controls.filter(|_| live) {
        let probes = match probe_once(controls) {
            Ok(probes) => probes,
            Err(error) => return complain(&format!("cannot ask the controls: {error}"), code::INTERNAL),
        };
        usable = probes.iter().all(|(_, probe)| probe.outcome == Outcome::Applied);
        let told = probes.iter().map(|(name, probe)| {
            serde_json::json!({ "name": &**name, "outcome": probe.outcome.name(), "detail": probe.detail })
        });
        object["controls"] = told.collect();
    }
    print(&format!("{object}\n"));
    if usable { 0 } else { code::BAD_CONFIGURATION }
}

fn live(controls: &[settings::Control]) -> u8 {
    let probes = match probe_once(controls) {
        Ok(probes) => probes,
        Err(error) => return complain(&format!("cannot ask the controls: {error}"), code::INTERNAL),
    };
    if probes.is_empty() {
        print("no control is configured: nothing to ask\n");
        return 0;
    }
    let width = probes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let mut usable = true;
    for (name, probe) in probes {
        usable &= probe.outcome == Outcome::Applied;
        let word = ControlState::after(probe.outcome).name();
        print(&format!("{name:width$}  {word:<11}  {}\n", hanging(width + 15, &probe.detail)));
    }
    if usable { 0 } else { code::BAD_CONFIGURATION }
}
