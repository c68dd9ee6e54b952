//! A real PostgreSQL in a temporary folder, reached by its unix socket alone, set up as the example says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::{User, getuid};
use tempfile::TempDir;

use super::{Process, eventually};

/// It refuses to run as root.
const NOBODY: &str = "65534";
const SOCKET: &str = ".s.PGSQL.5432";

pub struct Postgres {
    process: Process,
    folder: TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        if getuid().is_root() {
            let nobody = NOBODY.parse::<u32>().unwrap();
            std::os::unix::fs::chown(folder.path(), Some(nobody), Some(nobody)).unwrap();
        }
        let data = folder.path().join("data");
        run(
            "initdb",
            &["-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-D", data.to_str().unwrap()],
        );
        let me = User::from_uid(getuid()).unwrap().unwrap().name;
        write(&data, "pg_hba.conf", "local all postgres trust\nlocal all app trust\nlocal all all peer map=test\n");
        write(&data, "pg_ident.conf", &format!("test {me} node-guardian\n"));
        let process = launch(folder.path());
        let server = Self { process, folder };
        server.wait();
        server.psql(&format!("CREATE ROLE app LOGIN; {}", setup()));
        server
    }

    pub fn restart(&mut self) {
        // As Debian's unit does it; without that it waits for every session to end by itself.
        self.process.signal(Signal::SIGINT);
        self.process.ended();
        self.process = launch(self.folder.path());
        self.wait();
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join(SOCKET)
    }

    /// As the administrator.
    pub fn psql(&self, statement: &str) -> String {
        self.try_psql("postgres", statement).unwrap_or_else(|why| panic!("{statement}: {why}"))
    }

    pub fn try_psql(&self, role: &str, statement: &str) -> Result<String, String> {
        let output = self.client(role).arg("-c").arg(statement).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Sessions that do nothing until they are dropped.
    pub fn idle(&self, role: &str, count: usize) -> Vec<Process> {
        let open = |_| {
            let mut client = self.client(role);
            Process::of(client.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        };
        let sessions: Vec<_> = (0..count).map(open).collect();
        eventually("the sessions are open", || (self.sessions(role) >= count).then_some(()));
        sessions
    }

    pub fn sessions(&self, role: &str) -> usize {
        let count = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}' AND state IS NOT NULL");
        self.psql(&count).parse().unwrap()
    }

    pub fn limit(&self) -> String {
        self.psql("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app'")
    }

    fn client(&self, role: &str) -> Command {
        let mut client = Command::new(program("psql"));
        client.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", "postgres", "-h"]).arg(self.folder.path());
        client
    }

    fn wait(&self) {
        eventually("PostgreSQL answers", || self.try_psql("postgres", "SELECT 1").ok());
    }
}

/// Its processes end with it, and so does their shared memory.
impl Drop for Postgres {
    fn drop(&mut self) {
        self.process.signal(Signal::SIGCONT);
        self.process.signal(Signal::SIGQUIT);
        self.process.ended();
    }
}

/// What the example tells the administrator to do.
fn setup() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/examples/postgresql.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
    lines.collect::<Vec<_>>().join("\n")
}

fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|version| version.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort();
    found.pop().unwrap_or_else(|| panic!("there is no {name}: run `apt-get install postgresql`"))
}

/// As somebody who is not root.
fn command(name: &str, arguments: &[&str]) -> (String, Vec<String>) {
    let program = program(name).display().to_string();
    let mut words = vec![program];
    if getuid().is_root() {
        words = ["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"].map(str::to_owned).into();
        words.push(self::program(name).display().to_string());
    }
    words.extend(arguments.iter().map(|&word| word.to_owned()));
    (words.remove(0), words)
}

fn run(name: &str, arguments: &[&str]) {
    let (program, arguments) = command(name, arguments);
    let output = Command::new(program).args(arguments).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

fn launch(folder: &Path) -> Process {
    let (data, sockets) = (folder.join("data"), format!("unix_socket_directories={}", folder.display()));
    let settings = ["listen_addresses=", &sockets, "fsync=off", "shared_buffers=8MB", "max_connections=20"];
    let mut arguments = vec!["-D", data.to_str().unwrap()];
    settings.iter().for_each(|setting| arguments.extend(["-c", setting]));
    let (program, arguments) = command("postgres", &arguments);
    Process::start(&program, "postgresql", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What initdb made belongs to somebody else, who may read what is written into it.
fn write(data: &Path, name: &str, text: &str) {
    std::fs::write(data.join(name), text).unwrap();
}
