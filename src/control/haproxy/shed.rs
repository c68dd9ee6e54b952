//! Where the share to be shed is kept: in a stick table, whose entries lapse by themselves, or else in a map, which any
//! level of the socket may change and which a reload reads anew from its file.

use super::answer::Lease;
use super::knob::{Knob, plain, plain_file};
use super::socket::Session;
use super::target::Haproxy;
use super::{answer, readings};
use crate::control::failure::Failure;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    Table(String),
    Map(String),
}

impl Way {
    pub fn knob(&self, frontend: &str) -> Result<Knob, Failure> {
        let named = plain(frontend);
        let key =
            named.ok_or_else(|| Failure::unsupported(format!("`{frontend}` cannot be the name of a frontend")))?;
        Ok(match self {
            Way::Table(table) => Knob::Lease { table: table.clone(), key },
            Way::Map(file) => Knob::Map { file: file.clone(), key },
        })
    }
}

/// What shedding would be done by; else why it cannot be.
pub async fn way(session: &mut Session, target: &Haproxy) -> Result<Way, Failure> {
    let Some(file) = &target.map else {
        return table(session, target).await?.map(Way::Table).ok_or_else(|| without_table(target));
    };
    // A user's socket may not look into a table.
    if session.ask("show cli level").await? != "user"
        && let Some(table) = table(session, target).await?
    {
        return Ok(Way::Table(table));
    }
    map(session, file).await
}

async fn table(session: &mut Session, target: &Haproxy) -> Result<Option<String>, Failure> {
    let name = plain(&target.lease_table)
        .ok_or_else(|| Failure::unsupported(format!("`{}` cannot be the name of a stick table", target.lease_table)))?;
    let answer = session.question(&format!("show table {name} key probe")).await?;
    let is_there = !matches!(answer::lease(&answer, "gpc0"), Lease::NoTable);
    Ok(is_there.then_some(name))
}

async fn map(session: &mut Session, file: &str) -> Result<Way, Failure> {
    let name = plain_file(file).ok_or_else(|| {
        Failure::unsupported(format!("`{file}` cannot be the path of a map: letters, digits, / _ - . :"))
    })?;
    match readings::share(session, &Way::Map(name.clone()).knob("probe")?).await? {
        Some(_) => Ok(Way::Map(name)),
        None => Err(without_map(file)),
    }
}

/// By taking away what is not there, as the undo would: to set takes the same level.
pub async fn may_set_table(session: &mut Session, table: &str) -> Result<(), Failure> {
    session.order(&format!("clear table {table} key {NOBODYS_KEY}")).await
}

/// Some versions let a user's socket change a map. To be refused as unknown, a key must be one that nobody has.
pub async fn may_set_map(session: &mut Session, file: &str) -> Result<(), Failure> {
    let tries = [
        (format!("set map {file} {NOBODYS_KEY} 0"), "entry not found"),
        // What it did not hold before is deleted again.
        (format!("del map {file} {NOBODYS_KEY}"), "Key not found"),
    ];
    for (command, unknown) in tries {
        if !session.question(&command).await?.starts_with(unknown) {
            return Err(readings::untold("whether its map may be set"));
        }
    }
    Ok(())
}

const NOBODYS_KEY: &str = "node-guardian.probe";

fn without_table(target: &Haproxy) -> Failure {
    let (table, frontend) = (&target.lease_table, frontend(target));
    Failure::refused(format!(
        "HAProxy has no stick table {table}: add `backend {table}` with `stick-table type string len 32 size 64 \
         expire 30s store gpc0`, and in the frontend `http-request set-var(txn.shed) str({frontend}),table_gpc0({table})` \
         and `http-request return status 503 hdr Retry-After 5 if {{ rand(100),sub(txn.shed) -m int lt 0 }}`"
    ))
}

fn without_map(file: &str) -> Failure {
    Failure::refused(format!(
        "HAProxy has no map {file}: create that file with a line `FRONTEND 0`, and add to each frontend `http-request \
         set-var(txn.shed) str(FRONTEND),map_str_int({file},0)` and `http-request return status 503 hdr Retry-After 5 if \
         {{ rand(100),sub(txn.shed) -m int lt 0 }}`"
    ))
}

fn frontend(target: &Haproxy) -> &str {
    target.frontends.first().map_or("FRONTEND", String::as_str)
}
