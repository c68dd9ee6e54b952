//! `pause` and `resume`: hand the order to the daemon and say what follows from it. The daemon keeps it, so nothing here has
//! to last.

use serde_json::json;

use super::client::{Client, Failure, about, warn};
use super::paint::duration;
use super::{PauseArgs, ResumeArgs, print};
use crate::http::shape::{Kept, Pausing, Resuming};

pub fn pause(args: &PauseArgs) -> u8 {
    let asked = || -> Result<Pausing, Failure> {
        let lasts = format!("{}ms", args.lasts.as_millis());
        Client::new(&args.reach)?.post("/pause", json!({ "for": lasts, "hold": args.hold }).to_string())
    };
    answer(
        asked(),
        |pausing: &Pausing| &pausing.kept,
        |pausing| if args.json { json!(pausing).to_string() } else { paused(pausing) },
    )
}

pub fn resume(args: &ResumeArgs) -> u8 {
    let asked = || -> Result<Resuming, Failure> {
        Client::new(&args.reach)?.post("/resume", about("actions", &args.actions, json!({})))
    };
    answer(
        asked(),
        |resuming: &Resuming| &resuming.kept,
        |resuming| if args.json { json!(resuming).to_string() } else { resumed(resuming) },
    )
}

fn answer<T>(asked: Result<T, Failure>, kept: impl Fn(&T) -> &Kept, say: impl Fn(&T) -> String) -> u8 {
    match asked {
        Ok(answer) => {
            warn(kept(&answer));
            print(&format!("{}\n", say(&answer)));
            0
        }
        Err(failure) => failure.complain(),
    }
}

fn paused(pausing: &Pausing) -> String {
    let lasts = duration(pausing.seconds);
    let count = pausing.in_force.len();
    let kept = match (pausing.hold, count) {
        (_, 0) => "nothing is in force".to_owned(),
        (true, _) => format!("the {count} in force stay"),
        (false, _) => format!("the {count} in force are being undone"),
    };
    format!("paused for {lasts}: nothing new is done, and {kept}; `node-guardian resume` ends it before")
}

fn resumed(resuming: &Resuming) -> String {
    let mut told: Vec<String> = Vec::new();
    if resuming.paused {
        told.push("the pause is over".to_owned());
    }
    told.extend(resuming.given_back.iter().map(|knob| format!("the rules control #{} {} again", knob.id, knob.text)));
    if told.is_empty() { "nothing was paused or undone".to_owned() } else { told.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::shape::{Action, UndoneKnob};

    #[test]
    fn what_follows_is_said() {
        let pausing = Pausing { seconds: 1800.0, in_force: vec![Action::default(); 2], ..Pausing::default() };
        assert!(
            paused(&pausing)
                .starts_with("paused for 30m 00s: nothing new is done, and the 2 in force are being undone;")
        );
        assert!(paused(&Pausing { hold: true, ..pausing }).contains("the 2 in force stay"));
        let knob = UndoneKnob { id: 7, text: "throttle edge to 50%".into(), ..UndoneKnob::default() };
        let resuming = Resuming { paused: true, given_back: vec![knob], ..Resuming::default() };
        assert_eq!(resumed(&resuming), "the pause is over\nthe rules control #7 throttle edge to 50% again");
        assert_eq!(resumed(&Resuming::default()), "nothing was paused or undone");
    }
}
