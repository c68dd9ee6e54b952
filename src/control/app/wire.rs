//! What ng-control/1 says, docs/app-protocol.md, as far as an agent reads it: pure, and wary of every field.

use serde_json::Value;

use crate::control::failure::Failure;
use crate::control::service::Numbers;
use crate::policy::mitigation::Outcome;

/// The longest line, its end included.
pub const LINE_BYTES: usize = 64 << 10;
/// Of `metrics`.
const MOST_NUMBERS: usize = 64;
const NUMBER_NAME: usize = 64;
/// More is no number of anything, but most likely a counter that went below 0 (2^64 - 1): no rule is to fire by it.
const GREATEST: f64 = 1e18;
/// The longest `instance`.
const INSTANCE_BYTES: usize = 128;
/// Of `tiers`, and how long the name of one may be: they are told in one sentence.
const MOST_TIERS: usize = 16;
const TIER_BYTES: usize = 64;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hello {
    pub app: String,
    pub instance: String,
    pub caps: Vec<String>,
    pub tiers: Vec<Tier>,
    pub max_ttl_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tier {
    pub name: String,
    pub class: String,
    pub bytes: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub instance: String,
    pub effective: u64,
    /// Of all agents: name and level.
    pub leases: Vec<(String, u64)>,
}

/// The reply to the request with this id, where it was not refused.
pub fn reply(line: &[u8], id: u64, op: &str, place: &str) -> Result<Value, Failure> {
    let Ok(reply) = serde_json::from_slice::<Value>(line) else { return Err(untold(place, "JSON")) };
    if reply["id"].as_u64() != Some(id) {
        return Err(untold(place, "a reply to what was asked"));
    }
    match reply["ok"].as_bool() {
        Some(true) => Ok(reply),
        Some(false) => Err(refusal(&reply["error"], op, place)),
        None => Err(untold(place, "`ok`")),
    }
}

pub fn hello(reply: &Value, place: &str) -> Result<Hello, Failure> {
    let tier = |tier: &Value| {
        let fits = |text: &&str| (1..=TIER_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        let text = |field: &str| tier[field].as_str().filter(fits).map(str::to_owned);
        Some(Tier { name: text("name")?, class: text("class")?, bytes: tier["bytes"].as_u64() })
    };
    let tiers = reply["tiers"].as_array().map_or(&[][..], Vec::as_slice);
    let caps = reply["caps"].as_array().ok_or_else(|| untold(place, "`caps`"))?;
    Ok(Hello {
        app: clip(reply["app"].as_str().unwrap_or("the app")),
        instance: instance(reply, place)?,
        caps: caps.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        tiers: tiers.iter().filter_map(tier).take(MOST_TIERS).collect(),
        max_ttl_ms: reply["max_ttl_ms"].as_u64().unwrap_or(0),
    })
}

pub fn status(reply: &Value, place: &str) -> Result<Status, Failure> {
    let lease = |lease: &Value| Some((lease["lease"].as_str()?.to_owned(), lease["level"].as_u64()?));
    let leases = reply["leases"].as_array().and_then(|leases| leases.iter().map(lease).collect());
    Ok(Status {
        instance: instance(reply, place)?,
        effective: reply["effective"].as_u64().ok_or_else(|| untold(place, "`effective`"))?,
        // One that cannot be read might be ours.
        leases: leases.ok_or_else(|| untold(place, "its `leases`"))?,
    })
}

/// Of `metrics`, what is a number with a plain name.
pub fn numbers(reply: &Value) -> Numbers {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let number = |(name, value): (&String, &Value)| {
        let fits = name.len() <= NUMBER_NAME && name.chars().all(plain);
        Some((name.clone(), value.as_f64().filter(|value| fits && (0.0..=GREATEST).contains(value))?))
    };
    let metrics = reply["metrics"].as_object();
    metrics.map_or_else(Numbers::new, |metrics| metrics.iter().filter_map(number).take(MOST_NUMBERS).collect())
}

fn instance(reply: &Value, place: &str) -> Result<String, Failure> {
    let instance = reply["instance"].as_str().filter(|instance| (1..=INSTANCE_BYTES).contains(&instance.len()));
    instance.map(str::to_owned).ok_or_else(|| untold(place, "its `instance`"))
}

/// A failure by the code of an error.
fn refusal(error: &Value, op: &str, place: &str) -> Failure {
    let (code, message) = (error["code"].as_str().unwrap_or_default(), clip(error["message"].as_str().unwrap_or("")));
    match code {
        "denied" => Failure::refused(format!(
            "the app on {place} denies the guardian `{op}`: let it allow the guardian's user (uid {}), or over HTTP give \
             both the same token (`token_file`)",
            nix::unistd::geteuid()
        )),
        "unknown_op" => Failure::unsupported(format!("the app on {place} has no `{op}`")),
        "unsupported_version" => Failure::unsupported(format!("the app on {place} does not speak ng-control/1")),
        "busy" => Failure::refused(format!("the app on {place} is too busy for `{op}`: {message}")),
        _ => Failure::refused(format!("the app on {place} refuses `{op}`: {} ({message})", clip(code))),
    }
}

/// Whether it was heard, allowed, and only found wrong: the code of that is in the sentence.
pub fn is_about_the_request(failure: &Failure) -> bool {
    failure.outcome == Outcome::Refused && failure.detail.contains(": bad_request (")
}

/// What is not told is nobody's, neither ours nor another's.
pub fn untold(place: &str, what: &str) -> Failure {
    Failure::unsupported(format!(
        "what answers on {place} does not tell {what}: test it with tests/apps/conform.py (docs/app-protocol.md)"
    ))
}

/// Enough of a stranger's text to recognise it, on one line.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
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
            status(&serde_json::from_str(&reply).unwrap(), "/run/a.sock")
        };
        assert_eq!(read(r#"[{"lease":"a","level":3,"new":1}]"#).unwrap().leases, [("a".to_owned(), 3)]);
        for wrong in ["null", "{}", r#"[{"lease":"a"}]"#, r#"[{"lease":"a","level":"3"}]"#, "[3]"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_numbers_are_numbers() {
        let reply = r#"{"metrics":{"inflight":3,"load":0.5,"Loud":1,"text":"7","on":true,"debt":-1,"nested":{"a":1},
                        "under":18446744073709551615,"vast":1e300}}"#;
        let numbers = numbers(&serde_json::from_str(reply).unwrap());
        assert_eq!(numbers, [("inflight".to_owned(), 3.0), ("load".to_owned(), 0.5)]);
    }

    #[test]
    fn tiers_that_cannot_be_read_are_left_alone() {
        let line = r#"{"instance":"1","caps":["flush",7],"tiers":[{"name":"l1","class":"lossy"},{"name":"l2"},4]}"#;
        let hello = hello(&serde_json::from_str(line).unwrap(), "/run/a.sock").unwrap();
        assert_eq!((hello.caps.len(), hello.tiers.len(), hello.tiers[0].bytes), (1, 1, None));
    }

    #[test]
    fn an_application_fills_no_log_with_its_tiers() {
        let tier = |name: &str| serde_json::json!({"name": name, "class": "lossy"});
        let mut tiers = vec![tier(&"x".repeat(65)), tier("a\nJan 1 root: all is well"), tier("\u{1b}[2J"), tier("")];
        tiers.extend((0..1000).map(|number| tier(&format!("t{number}"))));
        let reply = serde_json::json!({"instance": "1", "caps": ["flush"], "tiers": tiers});
        let hello = hello(&reply, "/run/a.sock").unwrap();
        assert_eq!((hello.tiers.len(), hello.tiers[0].name.as_str()), (MOST_TIERS, "t0"));
    }
}
