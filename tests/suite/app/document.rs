//! docs/app-protocol.md: every transcript in it is what both applications say; its checklist is what conform.py tests;
//! both applications pass over both bindings, and what is broken does not.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::app::{App, LANGUAGES, source};

fn document() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/app-protocol.md")).unwrap()
}

/// The blocks of this kind.
fn blocks(kind: &str) -> Vec<String> {
    let text = document();
    let fence = format!("```{kind}\n");
    let blocks: Vec<String> =
        text.split(&fence).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect();
    assert!(!blocks.is_empty(), "no block {fence}");
    blocks
}

/// Whether a reply is what the document shows: texts shown as … may be any, times run down, numbers of the application's
/// own are its own, and there may be more than is shown.
fn is_as_shown(said: &Value, shown: &Value, field: &str) -> bool {
    match (said, shown) {
        (Value::Object(said), Value::Object(shown)) if field == "metrics" => {
            said.values().all(Value::is_number) && shown.keys().all(|name| said.contains_key(name))
        }
        (Value::Object(said), Value::Object(shown)) => {
            shown.iter().all(|(name, shown)| said.get(name).is_some_and(|said| is_as_shown(said, shown, name)))
        }
        (Value::Array(said), Value::Array(shown)) => {
            said.len() == shown.len() && said.iter().zip(shown).all(|(said, shown)| is_as_shown(said, shown, ""))
        }
        (Value::String(said), Value::String(shown)) if shown == "…" => !said.is_empty(),
        (Value::Number(said), Value::Number(shown)) if field == "ttl_ms" => {
            let (said, shown) = (said.as_u64().unwrap(), shown.as_u64().unwrap());
            said <= shown && said + 20_000 > shown && (said == 0) == (shown == 0)
        }
        _ => said == shown,
    }
}

fn end_all_leases(app: &App) {
    for lease in app.ask(&json!({"op": "status"}))["leases"].as_array().unwrap() {
        app.ask(&json!({"op": "throttle", "lease": lease["lease"], "level": 0}));
    }
}

#[test]
fn both_applications_say_what_the_document_shows() {
    for language in LANGUAGES {
        let app = App::start(language);
        for block in blocks("transcript") {
            let mut conversation = app.connect();
            let lines: Vec<&str> = block.lines().collect();
            for pair in lines.chunks(2) {
                let [request, shown] = pair else { panic!("a request without a reply: {pair:?}") };
                let (request, shown) = (request.strip_prefix("-> ").unwrap(), shown.strip_prefix("<- ").unwrap());
                let (said, shown) = (conversation.ask(request), serde_json::from_str(shown).unwrap());
                assert!(is_as_shown(&said, &shown, ""), "{language:?} to {request}: {said}, not {shown}");
            }
            end_all_leases(&app);
        }
    }
}

#[test]
fn both_applications_say_over_http_what_the_document_shows() {
    for language in LANGUAGES {
        let app = App::start(language);
        for block in blocks("http") {
            let lines: Vec<&str> = block.lines().collect();
            for pair in lines.chunks(2) {
                let [request, shown] = pair else { panic!("a request without a reply: {pair:?}") };
                let [_, path, body] = request.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{request}") };
                let url = format!("{}{path}", app.url());
                let words = ["-s", "-w", " %{http_code}", "-H", "Authorization: Bearer s3cret", "-d", body, &url];
                let said = output(Command::new("curl").args(words));
                let said = String::from_utf8(said.stdout).unwrap();
                let (said, status) = said.rsplit_once(' ').unwrap();
                let (wanted, shown) = shown.split_once(' ').unwrap();
                let (said, shown) = (serde_json::from_str(said).unwrap(), serde_json::from_str(shown).unwrap());
                assert!(
                    status == wanted && is_as_shown(&said, &shown, ""),
                    "{language:?} to {request}: {status} {said}"
                );
            }
        }
    }
}

fn output(command: &mut Command) -> Output {
    let words = format!("{command:?}");
    command.output().unwrap_or_else(|error| panic!("{words}: {error}; run packaging/install-test-tools"))
}

/// What conform.py says, and whether all of it holds.
fn conform(arguments: &[&str]) -> (String, bool) {
    let said = output(Command::new("python3").arg(source("conform.py")).args(arguments));
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    (text, said.status.success())
}

#[test]
fn both_applications_pass_the_checklist_over_both_bindings() {
    for language in LANGUAGES {
        let app = App::with(language, "--fill 2");
        let (socket, token, url) = (app.path("ng.sock"), app.path("token"), app.url());
        let (socket, token) = (socket.to_str().unwrap(), token.to_str().unwrap());
        for arguments in [&[socket, "--flush"][..], &[&url, "--token-file", token, "--flush"], &[&url, "--denied"]] {
            let (text, is_fine) = conform(arguments);
            assert!(is_fine, "{language:?} {arguments:?}:\n{text}");
        }
        assert_eq!(app.leases(), [""; 0], "nothing is left in force");
    }
}

#[test]
fn a_user_who_is_not_allowed_is_denied() {
    for language in LANGUAGES {
        let app = App::with(language, "--allow 4242");
        let (text, is_fine) = conform(&[app.path("ng.sock").to_str().unwrap(), "--denied"]);
        assert!(is_fine, "{language:?}:\n{text}");
    }
}

#[test]
fn the_checklist_is_what_is_tested() {
    let text = document();
    let listed: Vec<_> = text.split("## Checklist").nth(1).unwrap().lines().filter(|line| is_item(line)).collect();
    let program = std::fs::read_to_string(source("conform.py")).unwrap();
    let tested = program.matches("def item_").count();
    assert_eq!(listed.len(), tested, "{listed:#?}");
    for (at, line) in listed.iter().enumerate() {
        assert!(line.starts_with(&format!("{}. ", at + 1)), "{line}");
    }
}

fn is_item(line: &str) -> bool {
    line.split_once(". ").is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

#[test]
fn an_application_that_breaks_a_rule_fails_the_checklist() {
    let breaks: [(&str, &str, usize); 10] = [
        ("max((lease[\"level\"]", "min((lease[\"level\"]", 10),
        ("time.monotonic() + ttl_ms / 1000", "time.monotonic() + ttl_ms / 500", 11),
        ("min(ttl_ms, self.max_ttl_ms) if level else 0", "ttl_ms if level else 0", 12),
        ("type(level) is int and 0 <= level <= 100", "isinstance(level, int) and level <= 100", 13),
        ("        self.server.control.gone(self)\n", "", 14),
        ("MOST = 65536, 64", "MOST = 65536, 1000", 15),
        ("if len(line) > LINE_BYTES:", "if False:", 7),
        ("except (ValueError, RecursionError)", "except ValueError", 6),
        ("if key not in self.flushed:", "if True:", 19),
        ("\"inflight\": lambda: Web.inflight", "\"inflight\": lambda: float(\"nan\")", 18),
    ];
    for (from, to, item) in breaks {
        let app = App::altered(from, to);
        let only = ["--flush", "--only", &item.to_string()];
        let (text, is_fine) = conform(&[&[app.path("ng.sock").to_str().unwrap()], &only[..]].concat());
        assert!(!is_fine && text.contains(&format!("FAILED {item:2}")), "{from} → {to}:\n{text}");
    }
}
