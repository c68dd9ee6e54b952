//! One connection to Redis, kept open so that a limit on connections cannot lock the guardian out. Every conversation
//! begins with the server's run id and has one deadline; a connection that failed is never used again, so a late answer
//! cannot be taken for another's. The password is read from its file at each connect and not kept.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::resp::{self, Reply, Scanner};
use super::target::Redis;
use crate::control::failure::Failure;
use crate::control::said::clip;
use crate::control::secret;
pub use crate::control::stream::place;
use crate::control::trust::{self, Expected};
use crate::control::wire::{Broken, Manner, Wire};

const MANNER: Manner = Manner { service: "Redis", when_silent: "is it stopped, or busy with a long command?" };

pub struct Client {
    target: Redis,
    wire: Option<Wire>,
    process: Option<u32>,
    /// Commands of ours, over all connections.
    asked: u64,
}

impl Client {
    pub fn new(target: Redis) -> Self {
        Self { target, wire: None, process: None, asked: 0 }
    }

    pub const fn target(&self) -> &Redis {
        &self.target
    }

    /// Starts a conversation: the run id of the server that answers.
    pub async fn begin(&mut self) -> Result<String, Failure> {
        self.extend();
        if let Some(mut wire) = self.wire.take() {
            match self.exchange(&mut wire, &[b"INFO", b"server"]).await {
                Ok(reply) => {
                    self.wire = Some(wire);
                    let reply = self.accepted("INFO", reply)?;
                    return self.greeted(&reply);
                }
                // It restarted, or closed an idle connection: nothing was asked of it yet.
                Err(Broken::Closed) => {}
                Err(broken) => return Err(wire.failure(broken).await),
            }
        }
        self.connect().await?;
        let reply = self.ask(&[b"INFO", b"server"]).await?;
        self.greeted(&reply)
    }

    pub const fn asked(&self) -> u64 {
        self.asked
    }

    /// The server's process, where both the kernel and it name the same: no other of that number in a container.
    pub const fn process(&self) -> Option<u32> {
        self.process
    }

    fn greeted(&mut self, reply: &Reply) -> Result<String, Failure> {
        let field = |name| field_of(reply.text()?, name);
        let told = field("process_id").and_then(|pid| pid.parse().ok());
        let peer = self.wire.as_ref().and_then(|wire| wire.peer().pid);
        self.process = peer.filter(|peer| told == Some(*peer));
        let id = field("run_id").map(str::to_owned);
        id.ok_or_else(|| Failure::unsupported("INFO server names no run_id: is this Redis?"))
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.extend();
        }
    }

    /// An answer that is not an error.
    pub async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        let reply = self.hear(words).await?;
        self.accepted(&name(words), reply)
    }

    /// What Redis says, be it an error.
    pub async fn hear(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        let Some(mut wire) = self.wire.take() else {
            return Err(Failure::timed_out("the connection to Redis broke in the middle of this"));
        };
        match self.exchange(&mut wire, words).await {
            Ok(reply) => {
                self.wire = Some(wire);
                Ok(reply)
            }
            Err(broken) => Err(wire.failure(broken).await),
        }
    }

    /// The lines `name:value` of a section of INFO.
    pub async fn info(&mut self, section: &str, field: &str) -> Result<Option<u64>, Failure> {
        let reply = self.ask(&[b"INFO", section.as_bytes()]).await?;
        Ok(field_of(reply.text().unwrap_or_default(), field).and_then(|value| value.parse().ok()))
    }

    /// Whether each of these would be taken: they are queued and thrown away, so none of them is ever carried out.
    ///
    /// # Errors
    /// Why the first of those that would not be is not; or that this user may not even ask so.
    pub async fn would_take(&mut self, commands: &[&[&[u8]]]) -> Result<Result<(), Failure>, Failure> {
        if let Reply::Error(error) = self.hear(&[b"MULTI"]).await? {
            let user = self.target.username.as_deref().unwrap_or("default");
            let said = clip(&error);
            return Err(Failure::refused(format!(
                "the rights of Redis user {user} cannot be tested ({said}): run `ACL SETUSER {user} +multi \
                 +discard`"
            )));
        }
        let mut first = Ok(());
        for words in commands {
            if let Reply::Error(error) = self.hear(words).await? {
                first = first.and(Err(self.complaint(words, &error)));
            }
        }
        self.ask(&[b"DISCARD"]).await?;
        Ok(first)
    }

    /// Gives the rest of this conversation no longer than this.
    pub fn hurry(&mut self, within: Duration) {
        if let Some(wire) = &mut self.wire {
            wire.hurry(Instant::now() + within);
        }
    }

    /// What an error means to a command.
    pub fn complaint(&self, words: &[&[u8]], error: &str) -> Failure {
        complaint(&self.target, &name(words), error)
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let login = login(&self.target)?;
        let wire = Wire::dial(&MANNER, &self.target.address).await?;
        if login.is_empty() {
            self.wire = Some(wire);
            return Ok(());
        }
        trust::check(wire.stream(), &self.target.address, Expected::listener(self.target.listener))?;
        self.wire = Some(wire);
        let words: Vec<&[u8]> = login.iter().map(Vec::as_slice).collect();
        let answer = self.ask(&words).await;
        if answer.is_err() {
            self.wire = None;
        }
        answer.map(|_| ())
    }

    async fn exchange(&mut self, wire: &mut Wire, words: &[&[u8]]) -> Result<Reply, Broken> {
        self.asked += 1;
        let mut scanner = Scanner::default();
        let answer = wire.ask(&resp::command(words), |heard| scanner.end(heard)).await?;
        resp::parse(&answer).map_err(|resp::Malformed| Broken::Foreign)
    }

    fn accepted(&self, command: &str, reply: Reply) -> Result<Reply, Failure> {
        match reply {
            Reply::Error(error) => Err(complaint(&self.target, command, &error)),
            Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Array(_) | Reply::Nil => Ok(reply),
        }
    }
}

/// The words of AUTH; none where neither user nor password is configured.
fn login(target: &Redis) -> Result<Vec<Vec<u8>>, Failure> {
    let password = target.password_file.as_deref().map(read_password).transpose()?;
    let user = target.username.as_ref().map(|user| user.clone().into_bytes());
    Ok(match (user, password) {
        (None, None) => Vec::new(),
        (None, Some(password)) => vec![b"AUTH".to_vec(), password],
        (Some(user), password) => vec![b"AUTH".to_vec(), user, password.unwrap_or_default()],
    })
}

fn read_password(file: &Path) -> Result<Vec<u8>, Failure> {
    Ok(secret::read("password file", file)?.trim_ascii_end().as_bytes().to_vec())
}

/// `name:value` in an answer to INFO.
pub fn field_of<'a>(text: &'a str, field: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
}

/// `CONFIG SET`: enough of a command to name it, and nothing that might be secret.
fn name(words: &[&[u8]]) -> String {
    let shown = match words {
        [first @ (b"CONFIG" | b"CLIENT" | b"MEMORY"), second, ..] => vec![*first, *second],
        [first, ..] => vec![*first],
        [] => Vec::new(),
    };
    shown.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
}

/// What Redis says instead of doing it.
fn complaint(target: &Redis, command: &str, error: &str) -> Failure {
    let place = place(&target.address);
    let user = target.username.as_deref().unwrap_or("default");
    let said = clip(error);
    match error.split(' ').next().unwrap_or_default() {
        "NOPERM" if error.contains("key") => Failure::refused(format!(
            "Redis user {user} may not {command} these keys: let its ACL have them (`~cache:*`), or narrow \
             flush_pattern"
        )),
        "NOPERM" => Failure::refused(format!(
            "Redis user {user} may not {command}: run `ACL SETUSER {user} +{}`",
            command.to_lowercase().replace(' ', "|")
        )),
        "NOAUTH" => Failure::refused(format!("Redis on {place} wants a password: set `password_file`")),
        "WRONGPASS" => Failure::refused(format!(
            "Redis on {place} rejects the password of user {user}: check `username` and the content of `password_file`"
        )),
        "LOADING" | "BUSY" | "MASTERDOWN" => Failure::refused(format!("Redis on {place} is busy: {said}")),
        _ if error.contains("unknown command") || error.contains("unknown subcommand") => {
            Failure::unsupported(format!("this Redis does not know {command}: {said}"))
        }
        _ => Failure::refused(format!("Redis on {place} refuses {command}: {said}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::address::Address;
    use crate::policy::mitigation::Outcome;

    fn target() -> Redis {
        Redis {
            address: Address::Tcp("127.0.0.1:6379".into()),
            username: Some("guardian".into()),
            password_file: None,
            cache_only: false,
            flush_pattern: None,
            client_buffers: None,
            listener: None,
        }
    }

    #[test]
    fn complaints_name_the_permission_that_is_missing() {
        let failure = complaint(&target(), "MEMORY PURGE", "NOPERM this user has no permissions to run");
        assert_eq!(failure.outcome, Outcome::Refused);
        assert!(failure.detail.contains("ACL SETUSER guardian +memory|purge"), "{}", failure.detail);
        let failure = complaint(&target(), "CLIENT NO", "ERR unknown subcommand 'NO'");
        assert_eq!(failure.outcome, Outcome::Unsupported);
    }

    #[test]
    fn a_command_is_named_without_its_secrets() {
        assert_eq!(name(&[b"AUTH", b"guardian", b"secret"]), "AUTH");
        assert_eq!(name(&[b"CONFIG", b"SET", b"requirepass", b"secret"]), "CONFIG SET");
    }

    #[test]
    fn fields_of_info_are_found_by_their_whole_name() {
        let text = "# Memory\r\nused_memory_rss:5\r\nused_memory:7\r\n";
        assert_eq!(field_of(text, "used_memory"), Some("7"));
        assert_eq!(field_of(text, "used"), None);
    }
}
