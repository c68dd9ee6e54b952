//! What services answer to the controls, fed to whole conversations: probe, look, numbers, acts, and a change that is
//! captured, recorded, made, checked and undone. The first two bytes of an input choose who is asked and for what, the rest is a
//! script ([`super::fed`]).

use std::sync::OnceLock;

use super::fed::feed;
use super::measure::converse;
use crate::config::source::Text;
use crate::config::{Source, compile};
use crate::control::consent::Consent;
use crate::control::target::Target;
use crate::control::{Control, Wish};
use crate::journal::Entry;
use crate::journal::fuzzed::comes_back;
use crate::policy::mitigation::{ActionId, Amount, Mitigation};

/// One control of each kind, with everything switched on that it can do.
const CONTROLS: &str = include_str!("controls.toml");

pub fn redis(input: &[u8]) {
    answers(&["redis"], input);
}

pub fn haproxy(input: &[u8]) {
    answers(&["haproxy", "haproxy_named"], input);
}

pub fn memcached(input: &[u8]) {
    answers(&["memcached"], input);
}

pub fn varnish(input: &[u8]) {
    answers(&["varnish"], input);
}

pub fn postgres(input: &[u8]) {
    answers(&["postgres"], input);
}

/// What an operator's recipe makes of text, and of HTTP.
pub fn recipes(input: &[u8]) {
    answers(&["text", "http", "nginx"], input);
}

/// ng-control/1, over both ways.
pub fn app(input: &[u8]) {
    answers(&["app", "app_http"], input);
}

/// The first byte chooses between these controls, the second what is asked for.
fn answers(names: &[&str], input: &[u8]) {
    let [which, choice, script @ ..] = input else { return };
    let target = target(names[usize::from(*which) % names.len()]);
    feed(script, || converse(conversation(target, *choice)));
}

async fn conversation(target: &Target, choice: u8) {
    // As without a target: nobody else is to be kept from it.
    let mut control = Control::from(target.place().open());
    let verbs = target.verbs();
    let amounts = [Amount::Whole, Amount::Keep(50.0), Amount::Keep(0.0), Amount::Bytes(64 << 20)];
    let verb = verbs[usize::from(choice >> 2 & 7) % verbs.len()];
    let amount = amounts[usize::from(choice >> 5) % amounts.len()];
    let mitigation = Mitigation { control: "it".into(), verb, amount };
    match choice % 4 {
        0 => {
            control.probe().await;
            control.look().await;
        }
        1 => {
            control.numbers().await;
            control.gives().await;
            control.gives().await;
        }
        2 => {
            control.pulse(&mitigation, &Consent::always()).await.ok();
        }
        _ => change(&mut control, target, &mitigation).await,
    }
}

async fn change(control: &mut Control, target: &Target, mitigation: &Mitigation) {
    let Ok(undo) = control.capture(mitigation).await else { return };
    let entry = comes_back(Entry {
        id: ActionId(7),
        mitigation: mitigation.clone(),
        rule: "memory-high".into(),
        target: target.clone(),
        undo,
        since_unix_ms: 1_700_000_000_000,
    });
    let mut undo = entry.undo;
    control.is_as_captured(&undo).await.ok();
    control.apply(&mut undo, &Consent::always()).await.ok();
    if let Ok(again) = control.capture_again(mitigation, &undo).await {
        undo = again;
    }
    control.check(&undo, Wish::Wanted).await.ok();
    control.undo(&undo).await.ok();
}

fn target(name: &str) -> &'static Target {
    static TARGETS: OnceLock<Vec<(String, Target)>> = OnceLock::new();
    let targets = TARGETS.get_or_init(|| {
        let text = Text { name: "controls.toml".to_owned(), text: CONTROLS.to_owned() };
        let compiled = compile(&Source { texts: Some(vec![text]), ..Source::default() });
        assert_eq!(compiled.complaints.errors(), 0, "{}", compiled.complaints);
        compiled.settings.controls.into_iter().map(|control| (control.name.to_string(), control.target)).collect()
    });
    match targets.iter().find(|(known, _)| known == name) {
        Some((_, target)) => target,
        None => panic!("no control is called {name}"),
    }
}
