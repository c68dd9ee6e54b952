//! `drill`: says what it would do, asks, has the daemon do it, and tells for each control whether it all came back. The
//! daemon does it, so a drill that is interrupted here is finished there.

use std::io::{self, BufRead, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Failure, about};
use super::paint::hanging;
use super::{DrillArgs, code, complain, print};
use crate::drill::{DrillView, Stage, Step, TrialView};

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub fn run(args: &DrillArgs) -> u8 {
    match drill(args) {
        Ok(code) => code,
        Err(failure) => failure.complain(),
    }
}

fn drill(args: &DrillArgs) -> Result<u8, Failure> {
    let client = Client::new(&args.reach)?;
    let ask = |plan: bool| about("controls", &args.controls, json!({ "plan": plan }));
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
    let mut view: DrillView = client.post("/drill", ask(false))?;
    let deadline = Instant::now() + args.wait;
    let mut told = vec![Stage::Waiting; view.trials.len()];
    while view.running && Instant::now() < deadline {
        thread::sleep(LOOK_EVERY);
        view = look(&client, &view)?;
        if !args.json {
            tell_news(&view, &mut told);
        }
    }
    print(&if args.json { format!("{}\n", json!(view)) } else { format!("{}\n", view.count) });
    Ok(verdict(&view))
}

fn is_wanted(plan: &DrillView) -> bool {
    let list: String = plan.trials.iter().map(|trial| format!("  {:<9} {}\n", trial.kind, trial.text)).collect();
    let question = format!(
        "Each of these is applied for a moment, read back, undone and read back, one after the other:\n{list}\
         Clients may notice. Go on? [y/N] "
    );
    let mut err = io::stderr().lock();
    if err.write_all(question.as_bytes()).and_then(|()| err.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// How it goes by now; never what came of another drill.
fn look(client: &Client, known: &DrillView) -> Result<DrillView, Failure> {
    let view: DrillView = client.get("/drill")?;
    if view.number == known.number {
        return Ok(view);
    }
    Err(Failure::Refused("another drill has begun meanwhile: see `node-guardian events` for this one".to_owned()))
}

/// Those that ended since, in their order; what was still owed then is told again when it is not any more.
fn tell_news(view: &DrillView, told: &mut [Stage]) {
    for (trial, told) in view.trials.iter().zip(told) {
        let ended = !matches!(trial.stage, Stage::Waiting | Stage::Applying | Stage::Undoing);
        if ended && *told != trial.stage {
            *told = trial.stage;
            print(&line(trial));
        }
    }
}

fn line(trial: &TrialView) -> String {
    let mut text = format!("{:<18} {}", trial.stage.to_string(), trial.text);
    for (word, step) in [("done", &trial.applied), ("undone", &trial.undone)] {
        if let Some(step) = step {
            text.push_str(&format!("\n{:19}{}", "", hanging(19, &told(word, step))));
        }
    }
    text.push('\n');
    text
}

/// `done in 3.1 ms: maxconn 100 → 90`; `not undone: no whole answer within 1500 ms`
fn told(word: &str, Step { outcome, detail, took_seconds }: &Step) -> String {
    let detail = if detail.is_empty() { outcome } else { detail };
    match outcome.as_str() {
        "applied" | "already" | "no_effect" => format!("{word} in {:.1} ms: {detail}", took_seconds * 1000.0),
        _ => format!("not {word}: {detail}"),
    }
}

fn verdict(view: &DrillView) -> u8 {
    if view.ok && !view.running {
        return 0;
    }
    let bad = view.trials.iter().filter(|trial| !trial.stage.is_well());
    let list: Vec<String> = bad.map(|trial| format!("{} ({})", trial.text, trial.stage)).collect();
    let owed = view.trials.iter().any(|trial| trial.stage == Stage::Owed);
    let advice = if owed {
        "node-guardian goes on trying to undo the rest; see node-guardian status"
    } else if view.trials.iter().all(|trial| trial.stage.is_well() || trial.stage == Stage::Failed) {
        "these could not be applied, for the reason above; nothing was changed"
    } else {
        "see above"
    };
    complain(&format!("{} of {}: {}; {advice}", list.len(), view.trials.len(), list.join(", ")), code::NOT_WELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_is_not_called_done() {
        let step =
            |outcome: &str, detail: &str| Step { outcome: outcome.into(), detail: detail.into(), took_seconds: 0.0031 };
        assert_eq!(told("done", &step("applied", "maxconn 8 → 7")), "done in 3.1 ms: maxconn 8 → 7");
        assert_eq!(told("undone", &step("timed_out", "no answer")), "not undone: no answer");
        assert_eq!(told("undone", &step("overridden", "")), "not undone: overridden");
    }
}
