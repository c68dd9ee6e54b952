//! What the fuzzer answers to an event that is posted: any bytes, in pieces. What came of it is told in one line, and only a
//! status of success is one.

use std::time::Duration;

use super::target::Webhook;
use super::wire::{Letter, post, reach};
use crate::control::address::Address;
use crate::fuzzing::fed::feed;
use crate::fuzzing::measure::converse;

/// A line of the log: the place, the status and an advice.
const TOLD_BYTES: usize = 400;

pub fn answer(script: &[u8]) {
    let target = Webhook {
        address: Address::Tcp("127.0.0.1:8080".into()),
        host: "127.0.0.1:8080".into(),
        path: "/events?key=secret".into(),
        events: Vec::new(),
        listener: None,
        token_file: None,
        timeout: Duration::from_secs(5),
    };
    feed(script, || {
        converse(async {
            reach(&target).await.ok();
            let letter = Letter { id: "n-1".into(), body: "{}".into() };
            if let Err(undelivered) = post(&target, letter).await {
                let told = undelivered.failure.detail;
                assert!(told.len() <= TOLD_BYTES && !told.contains(char::is_control), "{told:?}");
                assert!(!told.contains("secret"), "{told}");
            }
        });
    });
}
