//! What the fuzzer answers in a JVM's place, once it listens: its flags, and then a collection.

use tokio::time::Instant;

use super::attach::talk;
use super::gives_back;
use crate::control::DEADLINE;
use crate::control::address::Address;
use crate::control::failure::Failure;
use crate::control::stream::Stream;
use crate::fuzzing::fed::feed;
use crate::fuzzing::measure::converse;

/// What is told of a refusal, with what is said around it.
const TOLD_BYTES: usize = 1024;

pub fn answers(script: &[u8]) {
    feed(script, || {
        if let Err(failure) = converse(release()) {
            let told = failure.detail;
            assert!(told.len() <= TOLD_BYTES && !told.contains(char::is_control), "{told:?}");
        }
    });
}

async fn release() -> Result<(), Failure> {
    gives_back(&ask("VM.flags").await?)?;
    ask("GC.run").await.map(drop)
}

async fn ask(command: &str) -> Result<String, Failure> {
    let address = Address::Unix("/tmp/.java_pid7".into());
    let unheard = || Failure::timed_out("no answer");
    let mut stream = Stream::dial("the JVM", &address, Instant::now() + DEADLINE, unheard).await?;
    talk(&mut stream, 7, command, DEADLINE).await
}
