//! A reply of ng-control/1, read as it comes: what is asked for is kept, bounded, and nothing else is. Pure and total.

use crate::control::json::{Reader, Step, Told};
use crate::control::service::Numbers;

/// The longest line, its end included.
pub const LINE_BYTES: usize = 64 << 10;
/// Of `metrics`.
const MOST_NUMBERS: usize = 64;
const NUMBER_NAME: usize = 64;
/// More is no number of anything, but most likely a counter that went below 0 (2^64 - 1): no rule is to fire by it.
const GREATEST: f64 = 1e18;
/// Of `tiers`, and how long the name of one may be: they are told in one sentence.
const MOST_TIERS: usize = 16;
const TIER_BYTES: usize = 64;
/// The protocol has seven.
const MOST_CAPS: usize = 32;
/// Of other agents too; one more cannot be told from ours.
const MOST_LEASES: usize = 1024;

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reply {
    pub id: Option<u64>,
    pub ok: Option<bool>,
    /// Of `error`.
    pub code: Option<String>,
    pub message: Option<String>,
    pub app: Option<String>,
    pub instance: Option<String>,
    pub state: Option<String>,
    pub caps: Option<Vec<String>>,
    pub tiers: Vec<Tier>,
    pub leases: Option<Vec<Lease>>,
    pub effective: Option<u64>,
    pub ttl_ms: Option<u64>,
    pub max_ttl_ms: Option<u64>,
    pub freed_bytes: Option<u64>,
    pub numbers: Numbers,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tier {
    pub name: String,
    pub class: String,
    pub bytes: Option<u64>,
}

/// As far as it can be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lease {
    pub name: Option<String>,
    pub level: Option<u64>,
}

/// A tier, as far as it was read.
#[derive(Default)]
struct Draft {
    at: usize,
    name: Option<String>,
    class: Option<String>,
    bytes: Option<u64>,
}

impl Reply {
    /// `None` where it is no JSON.
    pub fn read(line: &[u8]) -> Option<Self> {
        let (mut reply, mut draft, mut reader) = (Self::default(), Draft::default(), Reader::default());
        let mut note = |path: &[Step], told: Told<'_>| reply.note(path, told, &mut draft);
        reader.read(line, &mut note).ok()?;
        reader.end(&mut note).ok()?;
        reply.finish(&mut draft);
        Some(reply)
    }

    fn note(&mut self, path: &[Step], told: Told<'_>, draft: &mut Draft) {
        match path {
            [Step::Name(name)] => self.note_field(name, told),
            [Step::Name(error), Step::Name(name)] if error == "error" => match name.as_str() {
                "code" => self.code = told.text(),
                "message" => self.message = told.text(),
                _ => {}
            },
            [Step::Name(metrics), Step::Name(name)] if metrics == "metrics" => self.note_number(name, told),
            [Step::Name(caps), Step::Index(_)] if caps == "caps" => {
                let caps = self.caps.iter_mut().filter(|caps| caps.len() < MOST_CAPS);
                caps.for_each(|caps| caps.extend(told.text()));
            }
            [Step::Name(leases), Step::Index(_)] if leases == "leases" => self.begin_lease(),
            [Step::Name(leases), Step::Index(_), Step::Name(name)] if leases == "leases" => {
                let lease = self.leases.as_mut().and_then(|leases| leases.last_mut());
                match (lease, name.as_str()) {
                    (Some(lease), "lease") => lease.name = told.text(),
                    (Some(lease), "level") => lease.level = told.whole(),
                    (Some(_) | None, _) => {}
                }
            }
            [Step::Name(tiers), Step::Index(at), Step::Name(name)] if tiers == "tiers" => {
                if draft.at != *at {
                    self.finish(draft);
                    draft.at = *at;
                }
                match name.as_str() {
                    "name" => draft.name = told.text(),
                    "class" => draft.class = told.text(),
                    "bytes" => draft.bytes = told.whole(),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn note_field(&mut self, name: &str, told: Told<'_>) {
        let is_list = told == Told::Array;
        match name {
            "id" => self.id = told.whole(),
            "ok" => self.ok = told.bool(),
            "app" => self.app = told.text(),
            "instance" => self.instance = told.text(),
            "state" => self.state = told.text(),
            "caps" => self.caps = is_list.then(Vec::new),
            "leases" => self.leases = is_list.then(Vec::new),
            "effective" => self.effective = told.whole(),
            "ttl_ms" => self.ttl_ms = told.whole(),
            "max_ttl_ms" => self.max_ttl_ms = told.whole(),
            "freed_bytes" => self.freed_bytes = told.whole(),
            _ => {}
        }
    }

    /// What is a number with a plain name.
    fn note_number(&mut self, name: &str, told: Told<'_>) {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let fits = name.len() <= NUMBER_NAME && name.chars().all(plain);
        if let Some(number) = told.number().filter(|number| fits && (0.0..=GREATEST).contains(number))
            && self.numbers.len() < MOST_NUMBERS
        {
            self.numbers.push((name.to_owned(), number));
        }
    }

    fn begin_lease(&mut self) {
        match &mut self.leases {
            Some(leases) if leases.len() < MOST_LEASES => leases.push(Lease::default()),
            leases => *leases = None,
        }
    }

    /// One that cannot be read is left alone.
    fn finish(&mut self, draft: &mut Draft) {
        let fits = |text: &String| (1..=TIER_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        let Draft { name, class, bytes, .. } = std::mem::take(draft);
        if let (Some(name), Some(class)) = (name.filter(fits), class.filter(fits))
            && self.tiers.len() < MOST_TIERS
        {
            self.tiers.push(Tier { name, class, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_numbers_are_numbers() {
        let reply = r#"{"metrics":{"inflight":3,"load":0.5,"Loud":1,"text":"7","on":true,"debt":-1,"nested":{"a":1},
                        "under":18446744073709551615,"vast":1e300}}"#;
        let numbers = Reply::read(reply.as_bytes()).unwrap().numbers;
        assert_eq!(numbers, [("inflight".to_owned(), 3.0), ("load".to_owned(), 0.5)]);
    }

    #[test]
    fn tiers_that_cannot_be_read_are_left_alone() {
        let line = r#"{"instance":"1","caps":["flush",7],"tiers":[{"name":"l1","class":"lossy"},{"name":"l2"},4]}"#;
        let reply = Reply::read(line.as_bytes()).unwrap();
        assert_eq!((reply.caps.unwrap().len(), reply.tiers.len(), reply.tiers[0].bytes), (1, 1, None));
    }

    #[test]
    fn an_application_fills_no_log_with_its_tiers() {
        let tier = |name: &str| serde_json::json!({"name": name, "class": "lossy"});
        let mut tiers = vec![tier(&"x".repeat(65)), tier("a\nJan 1 root: all is well"), tier("\u{1b}[2J"), tier("")];
        tiers.extend((0..1000).map(|number| tier(&format!("t{number}"))));
        let reply = serde_json::json!({"instance": "1", "caps": ["flush"], "tiers": tiers}).to_string();
        let tiers = Reply::read(reply.as_bytes()).unwrap().tiers;
        assert_eq!((tiers.len(), tiers[0].name.as_str()), (MOST_TIERS, "t0"));
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in "[\\[\\]{}:,\"a-e0-9]{0,60}", leases in "[\\[\\]{},:1\"]{0,20}") {
            Reply::read(line.as_bytes());
            Reply::read(format!("{{\"leases\":[{leases}],\"tiers\":[{leases}]}}").as_bytes());
        }
    }
}
