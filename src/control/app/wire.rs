//! What ng-control/1 says, docs/app-protocol.md, as far as an agent reads it: pure, and wary of every field.

pub use super::reply::{LINE_BYTES, Tier};
use super::reply::{Lease, Reply};
use crate::control::failure::Failure;
use crate::control::said::clip;
use crate::policy::mitigation::Outcome;

/// The longest `instance`.
const INSTANCE_BYTES: usize = 128;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub app: String,
    pub instance: String,
    pub caps: Vec<String>,
    pub tiers: Vec<Tier>,
    pub max_ttl_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub instance: String,
    pub effective: u64,
    /// Of all agents: name and level.
    pub leases: Vec<(String, u64)>,
}

/// The reply to the request with this id, where it was not refused.
pub fn reply(line: &[u8], id: u64, op: &str, place: &str) -> Result<Reply, Failure> {
    let Some(reply) = Reply::read(line) else { return Err(untold(place, "JSON")) };
    if reply.id != Some(id) {
        return Err(untold(place, "a reply to what was asked"));
    }
    match reply.ok {
        Some(true) => Ok(reply),
        Some(false) => Err(refusal(&reply, op, place)),
        None => Err(untold(place, "`ok`")),
    }
}

pub fn hello(reply: Reply, place: &str) -> Result<Hello, Failure> {
    let instance = instance(&reply, place)?;
    let max_ttl_ms = reply.max_ttl_ms.unwrap_or(0);
    let app = clip(reply.app.as_deref().unwrap_or("the app"));
    let caps = reply.caps.ok_or_else(|| untold(place, "`caps`"))?;
    Ok(Hello { app, instance, caps, tiers: reply.tiers, max_ttl_ms })
}

pub fn status(reply: Reply, place: &str) -> Result<Status, Failure> {
    let instance = instance(&reply, place)?;
    let effective = reply.effective.ok_or_else(|| untold(place, "`effective`"))?;
    let lease = |lease: Lease| Some((lease.name?, lease.level?));
    // One that cannot be read might be ours.
    let leases = reply.leases.and_then(|leases| leases.into_iter().map(lease).collect());
    Ok(Status { instance, effective, leases: leases.ok_or_else(|| untold(place, "its `leases`"))? })
}

fn instance(reply: &Reply, place: &str) -> Result<String, Failure> {
    let instance = reply.instance.as_ref().filter(|instance| (1..=INSTANCE_BYTES).contains(&instance.len()));
    instance.cloned().ok_or_else(|| untold(place, "its `instance`"))
}

/// A failure by the code of an error.
fn refusal(reply: &Reply, op: &str, place: &str) -> Failure {
    let text = |text: &Option<String>| clip(text.as_deref().unwrap_or_default());
    let (code, message) = (text(&reply.code), text(&reply.message));
    match code.as_str() {
        "denied" => Failure::refused(format!(
            "the app on {place} denies the guardian `{op}`: let it allow the guardian's user (uid {}), or over HTTP \
             give \
             both the same token (`token_file`)",
            nix::unistd::geteuid()
        )),
        "unknown_op" => Failure::unsupported(format!("the app on {place} has no `{op}`")),
        "unsupported_version" => Failure::unsupported(format!("the app on {place} does not speak ng-control/1")),
        "busy" => Failure::refused(format!("the app on {place} is too busy for `{op}`: {message}")),
        _ => Failure::refused(format!("the app on {place} refuses `{op}`: {code} ({message})")),
    }
}

/// Whether it was heard, allowed, and only found wrong: the code of that is in the sentence.
pub fn is_about_the_request(failure: &Failure) -> bool {
    failure.outcome == Outcome::Refused && failure.detail.contains(": bad_request (")
}

/// What is not told is nobody's, neither ours nor another's.
pub fn untold(place: &str, what: &str) -> Failure {
    Failure::unsupported(format!(
        "the program on {place} does not report {what}: test it with tests/apps/conform.py (docs/app-protocol.md)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_answers_what_was_asked() {
        let read = |line: &str| reply(line.as_bytes(), 7, "status", "/run/a.sock").map_err(|failure| failure.outcome);
        assert!(read(r#"{"id":7,"ok":true}"#).is_ok());
        for wrong in
            [r#"{"id":6,"ok":true}"#, r#"{"id":"7","ok":true}"#, r#"{"id":7}"#, "[7]", "", "null", "{\"id\":7,"]
        {
            assert_eq!(read(wrong), Err(Outcome::Unsupported), "{wrong}");
        }
        let refused = |code: &str| read(&format!(r#"{{"id":7,"ok":false,"error":{{"code":"{code}"}}}}"#)).unwrap_err();
        assert_eq!(["denied", "busy", "strange"].map(refused), [Outcome::Refused; 3]);
        let about = |code: &str| {
            let reply = format!(r#"{{"id":7,"ok":false,"error":{{"code":"{code}","message":"m"}}}}"#);
            is_about_the_request(&super::reply(reply.as_bytes(), 7, "flush", "/run/a.sock").unwrap_err())
        };
        assert!(about("bad_request") && !about("denied") && !about("unknown_op"));
        assert_eq!(["unknown_op", "unsupported_version"].map(refused), [Outcome::Unsupported; 2]);
    }

    #[test]
    fn a_lease_that_cannot_be_read_is_not_taken_for_none() {
        let read = |leases: &str| {
            let reply = format!(r#"{{"instance":"1","effective":3,"leases":{leases}}}"#);
            status(Reply::read(reply.as_bytes()).unwrap(), "/run/a.sock")
        };
        assert_eq!(read(r#"[{"lease":"a","level":3,"new":1}]"#).unwrap().leases, [("a".to_owned(), 3)]);
        assert_eq!(read("[]").unwrap().leases, []);
        for wrong in ["null", "{}", r#"[{"lease":"a"}]"#, r#"[{"lease":"a","level":"3"}]"#, "[3]", "[[]]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
