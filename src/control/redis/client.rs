//! One connection to Redis, kept open so that a limit on connections cannot lock the guardian out. Every conversation
//! begins with the server's run id and has one deadline; a connection that failed is never used again, so a late answer
//! cannot be taken for another's. The password is read from its file at each connect and not kept.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};

use super::resp::{self, Reply};
use crate::control::DEADLINE;
use crate::control::failure::{Failure, connecting};
use crate::control::secret;
use crate::control::target::{Address, Redis};

pub struct Client {
    target: Redis,
    stream: Option<Stream>,
    deadline: Instant,
    /// Who listens on its socket.
    peer: Option<u32>,
    process: Option<u32>,
    /// Commands of ours, over all connections.
    asked: u64,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

enum Broken {
    Closed,
    Silent,
    Garbage,
}

impl Client {
    pub fn new(target: Redis) -> Self {
        Self { target, stream: None, deadline: Instant::now(), peer: None, process: None, asked: 0 }
    }

    pub const fn target(&self) -> &Redis {
        &self.target
    }

    /// Starts a conversation: the run id of the server that answers.
    pub async fn begin(&mut self) -> Result<String, Failure> {
        self.extend();
        if self.stream.is_some() {
            match self.exchange(&[b"INFO", b"server"]).await {
                Ok(reply) => {
                    let reply = self.accepted("INFO", reply)?;
                    return self.greeted(&reply);
                }
                // It restarted, or closed an idle connection: nothing was asked of it yet.
                Err(Broken::Closed) => {}
                Err(broken) => return Err(self.failed(&broken)),
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
        self.process = self.peer.filter(|peer| told == Some(*peer));
        let id = field("run_id").map(str::to_owned);
        id.ok_or_else(|| Failure::unsupported("INFO server names no run_id: is this Redis?"))
    }

    /// Gives the rest of a long conversation a whole deadline again.
    pub fn extend(&mut self) {
        self.deadline = Instant::now() + DEADLINE;
    }

    /// An answer that is not an error.
    pub async fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        match self.exchange(words).await {
            Ok(reply) => self.accepted(&name(words), reply),
            Err(broken) => Err(self.failed(&broken)),
        }
    }

    /// What Redis says, be it an error.
    pub async fn hear(&mut self, words: &[&[u8]]) -> Result<Reply, Failure> {
        let answer = self.exchange(words).await;
        answer.map_err(|broken| self.failed(&broken))
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
            let said: String = error.chars().take(120).collect();
            return Err(Failure::refused(format!(
                "what Redis user {user} may do cannot be seen without doing it ({said}): run `ACL SETUSER {user} +multi \
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
        self.deadline = self.deadline.min(Instant::now() + within);
    }

    /// What an error means to a command.
    pub fn complaint(&self, words: &[&[u8]], error: &str) -> Failure {
        complaint(&self.target, &name(words), error)
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        let login = login(&self.target)?;
        let connected = timeout_at(self.deadline, dial(&self.target.address)).await;
        let stream = match connected {
            Ok(stream) => stream?,
            Err(_) => return Err(self.failed(&Broken::Silent)),
        };
        self.peer = match &stream {
            Stream::Unix(stream) => stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok()),
            Stream::Tcp(_) => None,
        };
        self.stream = Some(stream);
        if login.is_empty() {
            return Ok(());
        }
        let words: Vec<&[u8]> = login.iter().map(Vec::as_slice).collect();
        let answer = self.ask(&words).await;
        if answer.is_err() {
            self.stream = None;
        }
        answer.map(|_| ())
    }

    async fn exchange(&mut self, words: &[&[u8]]) -> Result<Reply, Broken> {
        let Some(stream) = self.stream.take() else { return Err(Broken::Closed) };
        self.asked += 1;
        let talk = async {
            match stream {
                Stream::Unix(mut stream) => talk(&mut stream, words).await.map(|reply| (reply, Stream::Unix(stream))),
                Stream::Tcp(mut stream) => talk(&mut stream, words).await.map(|reply| (reply, Stream::Tcp(stream))),
            }
        };
        let (reply, stream) = timeout_at(self.deadline, talk).await.unwrap_or(Err(Broken::Silent))?;
        self.stream = Some(stream);
        Ok(reply)
    }

    fn accepted(&self, command: &str, reply: Reply) -> Result<Reply, Failure> {
        match reply {
            Reply::Error(error) => Err(complaint(&self.target, command, &error)),
            Reply::Simple(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Array(_) | Reply::Nil => Ok(reply),
        }
    }

    fn failed(&self, broken: &Broken) -> Failure {
        let place = place(&self.target.address);
        match broken {
            Broken::Closed => {
                Failure::timed_out(format!("Redis closed {place} in the middle of an answer: did it restart?"))
            }
            Broken::Silent => Failure::timed_out(format!(
                "no whole answer from Redis on {place} within {} ms: is it stopped, or busy with a long command?",
                DEADLINE.as_millis()
            )),
            Broken::Garbage => Failure::unsupported(format!("what answers on {place} does not speak Redis's protocol")),
        }
    }
}

async fn dial(address: &Address) -> Result<Stream, Failure> {
    match address {
        Address::Unix(path) => {
            UnixStream::connect(path).await.map(Stream::Unix).map_err(|error| connecting("Redis", path, &error))
        }
        Address::Tcp(host) => {
            let stream = TcpStream::connect(host).await.map_err(|error| tcp_failure(host, &error))?;
            // An answer waits for nothing: only a matter of speed where it is refused.
            stream.set_nodelay(true).ok();
            Ok(Stream::Tcp(stream))
        }
    }
}

fn tcp_failure(host: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Failure::unreachable(format!("nobody listens on {host}: is Redis running, and bound to this address?"))
        }
        _ => Failure::unreachable(format!("cannot connect to Redis on {host}: {error}")),
    }
}

async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[&[u8]]) -> Result<Reply, Broken> {
    stream.write_all(&resp::command(words)).await.map_err(|_| Broken::Closed)?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return Err(Broken::Closed),
            Ok(_) => {}
        }
        match resp::parse(&buffer) {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => {}
            Err(resp::Malformed) => return Err(Broken::Garbage),
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

pub fn place(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(host) => host.clone(),
    }
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
    let said: String = error.chars().take(120).collect();
    match error.split(' ').next().unwrap_or_default() {
        "NOPERM" if error.contains("key") => Failure::refused(format!(
            "Redis user {user} may not {command} these keys: let its ACL have them (`~cache:*`), or narrow flush_pattern"
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
    use crate::policy::mitigation::Outcome;

    fn target() -> Redis {
        Redis {
            address: Address::Tcp("127.0.0.1:6379".into()),
            username: Some("guardian".into()),
            password_file: None,
            cache_only: false,
            flush_pattern: None,
            client_buffers: None,
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
