//! `drill`: says what it would do, asks, has the daemon do it, and tells for each control whether it all came back. The
//! daemon does it, so a drill that is interrupted here is finished there.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Failure};
use super::paint::hanging;
use super::{DrillArgs, code, complain, print};
use crate::drill::{DrillView, Stage, TrialView};

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub fn run(args: &DrillArgs) -> u8 {
    match drill(args) {
        Ok(code) => code,
        Err(failure) => failure.complain(),
    }
}

fn drill(args: &DrillArgs) -> Result<u8, Failure> {
    let client = Client::new(&args.reach)?;
    let ask = |plan: bool| json!({ "controls": args.controls, "plan": plan }).to_string();
    let plan: DrillView = client.post("/drill", ask(true))?;
    if plan.trials.is_empty() {
        print(if args.json {
            "{\"running\":false,\"ok\":true,\"trials\":[]}\n"
        } else {
            "nothing to drill: no control here has an action that is undone\n"
        });
        return Ok(0);
    }
    if !args.yes && !is_wanted(&plan) {
        return Ok(complain("not drilled; --yes does it without asking", code::NOT_WELL));
    }
    let _begun: DrillView = client.post("/drill", ask(false))?;
    let deadline = Instant::now() + args.wait;
    let mut told = 0;
    let view = loop {
        let view: DrillView = client.get("/drill")?;
        if !args.json {
            told = tell_more(&view, told);
        }
        if !view.running || Instant::now() >= deadline {
            break view;
        }
        thread::sleep(LOOK_EVERY);
    };
    if args.json {
        print(&format!("{}\n", json!(view)));
    }
    Ok(verdict(&view))
}

fn is_wanted(plan: &DrillView) -> bool {
    let list: String = plan.trials.iter().map(|trial| format!("  {:<9} {}\n", trial.kind, trial.text)).collect();
    let question = format!(
        "Each of these is done for a moment, read back, undone and read back, one after the other:\n{list}\
         Clients may notice. Go on? [y/N] "
    );
    let mut err = io::stderr().lock();
    if err.write_all(question.as_bytes()).and_then(|()| err.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Those that ended since, in their order.
fn tell_more(view: &DrillView, told: usize) -> usize {
    let ended = |trial: &&TrialView| !matches!(trial.stage, Stage::Waiting | Stage::Applying | Stage::Undoing);
    let fresh: Vec<&TrialView> = view.trials.iter().skip(told).take_while(ended).collect();
    for trial in &fresh {
        print(&line(trial));
    }
    told + fresh.len()
}

fn line(trial: &TrialView) -> String {
    let mut text = format!("{:<18} {}", trial.stage.to_string(), trial.text);
    for (word, step) in [("done", &trial.applied), ("undone", &trial.undone)] {
        if let Some(step) = step {
            let detail = if step.detail.is_empty() { &step.outcome } else { &step.detail };
            let told = format!("{word} in {:.1} ms: {detail}", step.took_seconds * 1000.0);
            text.push_str(&format!("\n{:19}{}", "", hanging(19, &told)));
        }
    }
    text.push('\n');
    text
}

fn verdict(view: &DrillView) -> u8 {
    if view.ok && !view.running {
        return 0;
    }
    let bad = view.trials.iter().filter(|trial| !trial.stage.is_well());
    let list: Vec<String> = bad.map(|trial| format!("{} ({})", trial.text, trial.stage)).collect();
    let owed = view.trials.iter().any(|trial| trial.stage == Stage::Owed);
    let advice = if owed {
        "what is not undone yet is tried again until it is; see node-guardian status"
    } else if view.trials.iter().all(|trial| trial.stage.is_well() || trial.stage == Stage::Failed) {
        "that could not be done, for the reason above, and changed nothing"
    } else {
        "see above"
    };
    complain(&format!("{} of {}: {}; {advice}", list.len(), view.trials.len(), list.join(", ")), code::NOT_WELL)
}
