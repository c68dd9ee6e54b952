//! Whether this user of Redis may do what a verb needs, and what reading it back and undoing it need. Never changes
//! anything: commands are asked with a value that Redis cannot accept, or are queued and thrown away.

use std::time::Duration;

use super::client::Client;
use super::resp::Reply;
use super::survey::MAXMEMORY;
use crate::control::failure::Failure;
use crate::policy::mitigation::Outcome;

const CANNOT_BE: &[u8] = b"probe";
/// While writes are paused, Redis lets each that would write wait: so long is enough for an answer, were they not.
const WRITES: Duration = Duration::from_millis(300);

/// Gives memory back; nothing is to be undone.
pub async fn release(client: &mut Client) -> Result<(), Failure> {
    client.would_take(&[&[b"MEMORY", b"PURGE"]]).await?
}

/// A pause cannot be read back; to end it is another command than to begin it.
pub async fn pause(client: &mut Client) -> Result<(), Failure> {
    asked_in_vain(client, &[b"CLIENT", b"PAUSE", CANNOT_BE, b"WRITE"]).await?;
    client.would_take(&[&[b"CLIENT", b"UNPAUSE"]]).await?
}

/// Limits are read, set and set back.
pub async fn set(client: &mut Client) -> Result<(), Failure> {
    client.ask(&[b"CONFIG", b"GET", MAXMEMORY.as_bytes()]).await?;
    asked_in_vain(client, &[b"CONFIG", b"SET", MAXMEMORY.as_bytes(), CANNOT_BE]).await
}

pub async fn flush(client: &mut Client) -> Result<(), Failure> {
    let (cache_only, pattern) = (client.target().cache_only, client.target().flush_pattern.clone());
    let commands: &[&[&[u8]]] = match &pattern {
        Some(pattern) if !cache_only => {
            &[&[b"SCAN", b"0", b"MATCH", pattern.as_bytes()], &[b"UNLINK", pattern.as_bytes()]]
        }
        Some(_) | None => &[&[b"FLUSHALL", b"ASYNC"]],
    };
    client.hurry(WRITES);
    match client.would_take(commands).await {
        Err(failure) if failure.outcome == Outcome::TimedOut => {
            Err(Failure::refused("its rights cannot be tested now: are writes to Redis paused?"))
        }
        taken => taken?,
    }
}

/// What Redis cannot accept as it is: any other complaint than that is one about the command.
async fn asked_in_vain(client: &mut Client, words: &[&[u8]]) -> Result<(), Failure> {
    let Reply::Error(error) = client.hear(words).await? else { return Ok(()) };
    if is_about_the_value(&error) { Ok(()) } else { Err(client.complaint(words, &error)) }
}

/// As Redis 6 and 7 say it of a limit and of a time.
fn is_about_the_value(error: &str) -> bool {
    const SAID: [&str; 4] = ["Invalid argument", "must be", "not an integer", "CONFIG SET failed"];
    error.starts_with("ERR") && SAID.iter().any(|said| error.contains(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complaint_about_the_value_shows_that_the_command_is_allowed() {
        for allowed in [
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value",
            "ERR Invalid argument 'probe' for CONFIG SET 'maxmemory' - argument must be a memory value",
            "ERR timeout is not an integer or out of range",
        ] {
            assert!(is_about_the_value(allowed), "{allowed}");
        }
        for denied in [
            "NOPERM this user has no permissions to run the 'config|set' command",
            "ERR unknown command 'CONFIG', with args beginning with: 'SET' 'maxmemory' 'probe' ",
            "ERR unknown subcommand 'PAUSE'. Try CLIENT HELP.",
        ] {
            assert!(!is_about_the_value(denied), "{denied}");
        }
    }
}
