//! `undo`: asks for what is in force to be undone, then waits and tells what came of each. It fails where something
//! is still owed: the daemon goes on trying, but a script must know.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::{Client, Failure, about, warn};
use super::{UndoArgs, code, complain, print};
use crate::http::shape::{Action, Actions, Events, Record, Undone};

const LOOK_EVERY: Duration = Duration::from_millis(200);

pub fn run(args: &UndoArgs) -> u8 {
    match undo(args) {
        Ok(code) => code,
        Err(failure) => failure.complain(),
    }
}

fn undo(args: &UndoArgs) -> Result<u8, Failure> {
    let client = Client::new(&args.reach)?;
    let asked: Undone = client.post("/undo", about("actions", &args.actions, json!({ "forget": args.forget })))?;
    warn(&asked.kept);
    if asked.undoing.is_empty() {
        let nothing = if args.forget { "nothing is owed\n" } else { "nothing is in force\n" };
        print(&if args.json { page(&asked, &[], &[]) } else { nothing.to_owned() });
        return Ok(0);
    }
    let ids: BTreeSet<u64> = asked.undoing.iter().map(|action| action.id).collect();
    let mut told = Told { ids: &ids, since: asked.since, records: Vec::new() };
    let deadline = Instant::now() + args.wait;
    let left = loop {
        let left = still_there(&client, &ids)?;
        let news = told.news(&client)?;
        if !args.json {
            print(&news);
        }
        if left.is_empty() || Instant::now() >= deadline {
            break left;
        }
        thread::sleep(LOOK_EVERY);
    };
    if args.json {
        print(&page(&asked, &left, &told.records));
    }
    Ok(if left.is_empty() { 0 } else { owed(&left) })
}

fn page(asked: &Undone, left: &[Action], events: &[Record]) -> String {
    let gone: Vec<&Action> = asked.undoing.iter().filter(|one| left.iter().all(|l| l.id != one.id)).collect();
    format!("{}\n", json!({ "undone": gone, "owed": left, "events": events, "kept": asked.kept.kept }))
}

fn still_there(client: &Client, ids: &BTreeSet<u64>) -> Result<Vec<Action>, Failure> {
    let actions: Actions = client.get("/actions")?;
    Ok(actions.in_force.into_iter().filter(|action| ids.contains(&action.id)).collect())
}

fn owed(left: &[Action]) -> u8 {
    let list: Vec<String> =
        left.iter().map(|one| format!("#{} {} ({})", one.id, one.text, one.phase.replace('_', " "))).collect();
    let advice = "node-guardian goes on trying; see node-guardian status";
    complain(&format!("still not undone: {}; {advice}", list.join(", ")), code::NOT_WELL)
}

/// What the trail says about these actions, each line once.
struct Told<'a> {
    ids: &'a BTreeSet<u64>,
    since: u64,
    records: Vec<Record>,
}

impl Told<'_> {
    fn news(&mut self, client: &Client) -> Result<String, Failure> {
        let page: Events = client.get(&format!("/events?since={}&limit=1000", self.since))?;
        self.since = page.next.max(self.since);
        let ours = |record: &Record| record.fields.get("action_id").and_then(|id| id.parse().ok());
        let fresh = page.events.into_iter().filter(|record| ours(record).is_some_and(|id: u64| self.ids.contains(&id)));
        let fresh: Vec<Record> = fresh.filter(|record| record.name != "undoing").collect();
        let text = fresh.iter().map(|record| format!("{}\n", record.text)).collect();
        self.records.extend(fresh);
        Ok(text)
    }
}
