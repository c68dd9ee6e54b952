//! Which texts make up the configuration, in the order in which later ones override earlier ones: built-in rules, the
//! main file, drop-ins by name, the environment, the command line. Everything is bounded before it is read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::here::Look;
use crate::document::complaint::{About, Complaint, Gravity};
use crate::document::node::{self, Entry, Node, Table, Value};
use crate::document::origin::{Kind, Origin, Place};
use crate::policy::nearest::nearest;

pub const USUAL_FILE: &str = "/etc/node-guardian/config.toml";

/// A configuration of a thousand rules has a third of this.
const LARGEST: u64 = 1 << 20;

/// The rules that come built in, as an operator would have written them.
pub const BUILT_IN: &str = include_str!("builtin.toml");

/// The key that switches them off.
pub const BUILT_IN_RULES: &str = "builtin_rules";

/// The position of the built-in rules among the origins.
pub const BUILT_IN_ORIGIN: usize = 0;

const PREFIX: &str = "NODE_GUARDIAN_";
const OVERRIDES: [&str; 5] = [
    "NODE_GUARDIAN_LEVEL",
    "NODE_GUARDIAN_DRY_RUN",
    "NODE_GUARDIAN_HTTP_LISTEN",
    "NODE_GUARDIAN_MEMORY_LIMIT",
    "NODE_GUARDIAN_CPU_LIMIT",
];
/// Set by systemd for `StateDirectory=` and `RuntimeDirectory=` (systemd.exec(5)).
const DIRECTORIES: [&str; 2] = ["STATE_DIRECTORY", "RUNTIME_DIRECTORY"];

/// One file, as it was read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Text {
    pub name: String,
    pub text: String,
}

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The main file as named by the operator; it must exist.
    pub file: Option<PathBuf>,
    /// The main file where none is named; it need not exist.
    pub usual: PathBuf,
    /// As [`environment`] collects it.
    pub environment: BTreeMap<String, String>,
    /// `--level`, as written.
    pub level: Option<String>,
    /// `--dry-run`; false leaves the files' word.
    pub dry_run: bool,
    /// In place of all files: what was read of them earlier.
    pub texts: Option<Vec<Text>>,
    /// Whether it is compared with what this node has.
    pub look: Look,
}

impl Default for Source {
    fn default() -> Self {
        let usual = PathBuf::from(USUAL_FILE);
        Self {
            file: None,
            usual,
            environment: BTreeMap::new(),
            level: None,
            dry_run: false,
            texts: None,
            look: Look::Away,
        }
    }
}

impl Source {
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }
}

/// The variables that configure us, from `std::env::vars_os()`; what is not UTF-8 comes with replacement characters.
pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    let ours = |name: &str| name.starts_with(PREFIX) || DIRECTORIES.contains(&name);
    variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| ours(name))
        .collect()
}

/// All texts laid over one another.
#[derive(Debug, Default)]
pub struct Gathered {
    pub origins: Vec<Origin>,
    pub tree: Table,
    pub complaints: Vec<Complaint>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
}

pub fn gather(source: &Source) -> Gathered {
    let mut gathered = Gathered::default();
    let built_in = Origin { kind: Kind::BuiltIn, name: "built-in rules".into(), text: BUILT_IN.into() };
    gathered.add_text(built_in);
    match &source.texts {
        Some(texts) => gathered.add_kept(texts),
        None => gathered.add_files(source),
    }
    gathered.add_environment(&source.environment);
    if let Some(level) = &source.level {
        gathered.add_override("command line", "--level ", level, &["level"], Value::Text(level.clone()));
    }
    if source.dry_run {
        gathered.add_override("command line", "--dry-run", "", &["dry_run"], Value::Boolean(true));
    }
    if gathered.is_without_built_ins() {
        node::withdraw(&mut gathered.tree, BUILT_IN_ORIGIN);
    }
    gathered
}

impl Gathered {
    fn add_files(&mut self, source: &Source) {
        let main = source.file.as_ref().unwrap_or(&source.usual);
        // A file that cannot be looked at is complained about, not passed over.
        if source.file.is_some() || main.try_exists().unwrap_or(true) {
            self.add_file(main);
        }
        self.add_drop_ins(&main.with_file_name("conf.d"));
    }

    fn add_kept(&mut self, texts: &[Text]) {
        for Text { name, text } in texts {
            self.files.push(PathBuf::from(name));
            self.add_text(Origin { kind: Kind::File, name: name.clone(), text: text.clone() });
        }
    }

    /// `builtin_rules = false`.
    fn is_without_built_ins(&self) -> bool {
        self.tree.get(BUILT_IN_RULES).is_some_and(|entry| matches!(entry.node.value, Value::Boolean(false)))
    }

    fn add_text(&mut self, origin: Origin) {
        let index = self.origins.len();
        let (table, complaints) = node::parse(&origin.text, index);
        self.origins.push(origin);
        self.complaints.extend(complaints);
        node::merge(&mut self.tree, table);
    }

    fn add_file(&mut self, path: &Path) {
        let origin = |text: String| Origin { kind: Kind::File, name: path.display().to_string(), text };
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let help = match error.kind() {
                    std::io::ErrorKind::NotFound => "name a file that exists, or leave it out to run on defaults",
                    std::io::ErrorKind::PermissionDenied => "let the user that runs node-guardian read it",
                    _ => "name a regular file",
                };
                return self.refuse_file(origin(String::new()), format!("cannot be read: {error}"), help);
            }
        };
        if bytes.len() as u64 > LARGEST {
            let help = "split it into files of conf.d, or see whether it is the right file";
            return self.refuse_file(origin(String::new()), "is larger than 1 MiB".to_owned(), help);
        }
        self.files.push(path.to_path_buf());
        match String::from_utf8(bytes) {
            Ok(text) => self.add_text(origin(text)),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let place = Place { origin: self.origins.len(), span: at..at };
                self.origins.push(origin(text));
                let message = "this is not UTF-8".to_owned();
                let help = Some("save the file as UTF-8".to_owned());
                self.complaints.push(Complaint { gravity: Gravity::Error, place, message, help, about: About::Syntax });
            }
        }
    }

    fn refuse_file(&mut self, origin: Origin, message: String, help: &str) {
        let place = Place { origin: self.origins.len(), span: 0..0 };
        self.origins.push(origin);
        let help = Some(help.to_owned());
        self.complaints.push(Complaint { gravity: Gravity::Error, place, message, help, about: About::File });
    }

    fn add_drop_ins(&mut self, directory: &Path) {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return;
            }
            Err(error) => {
                let (kind, name) = (Kind::File, directory.display().to_string());
                let origin = Origin { kind, name, text: String::new() };
                let help = "let the user that runs node-guardian read it";
                return self.refuse_file(origin, format!("cannot be listed: {error}"), help);
            }
        };
        let is_drop_in = |path: &PathBuf| {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            !hidden && path.extension().is_some_and(|extension| extension == "toml") && !path.is_dir()
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_drop_in).collect();
        files.sort();
        for file in files {
            self.add_file(&file);
        }
    }

    fn add_environment(&mut self, environment: &BTreeMap<String, String>) {
        for (name, value) in environment {
            let value = value.trim();
            let text = || Value::Text(value.to_owned());
            let label = format!("{name}=");
            match name.as_str() {
                // Set to nothing is how an environment file takes its word back.
                "NODE_GUARDIAN_LEVEL"
                | "NODE_GUARDIAN_DRY_RUN"
                | "NODE_GUARDIAN_MEMORY_LIMIT"
                | "NODE_GUARDIAN_CPU_LIMIT"
                    if value.is_empty() => {}
                "NODE_GUARDIAN_LEVEL" => self.add_override("environment", &label, value, &["level"], text()),
                "NODE_GUARDIAN_DRY_RUN" => {
                    let switch = match value {
                        "1" | "true" | "yes" | "on" => Value::Boolean(true),
                        "0" | "false" | "no" | "off" => Value::Boolean(false),
                        _ => text(),
                    };
                    self.add_override("environment", &label, value, &["dry_run"], switch);
                }
                "NODE_GUARDIAN_HTTP_LISTEN" => {
                    self.add_override("environment", &label, value, &["http", "listen"], text());
                }
                "NODE_GUARDIAN_MEMORY_LIMIT" => {
                    self.add_override("environment", &label, value, &["sampling", "memory_limit"], text());
                }
                "NODE_GUARDIAN_CPU_LIMIT" => {
                    self.add_override("environment", &label, value, &["sampling", "cpu_limit"], text());
                }
                other => self.warn_misspelt(other, value),
            }
        }
    }

    /// A misspelt kill switch must not go unnoticed; but Kubernetes sets `NODE_GUARDIAN_PORT_…` for a service of our name.
    fn warn_misspelt(&mut self, name: &str, value: &str) {
        let short = |name: &'static str| &name[PREFIX.len()..];
        let Some(rest) = name.strip_prefix(PREFIX) else { return };
        let Some(near) =
            nearest(&rest.to_lowercase(), ["level", "dry_run", "http_listen", "memory_limit", "cpu_limit"])
        else {
            return;
        };
        let Some(meant) = OVERRIDES.into_iter().find(|name| short(name).eq_ignore_ascii_case(near)) else { return };
        let place = Place { origin: self.origins.len(), span: 0..name.len() };
        self.origins.push(overriding("environment", format!("{name}={value}")));
        let message = "node-guardian does not know this variable".to_owned();
        let help = Some(format!("did you mean `{meant}`?"));
        self.complaints.push(Complaint { gravity: Gravity::Warning, place, message, help, about: About::Meaning });
    }

    fn add_override(&mut self, name: &str, label: &str, written: &str, path: &[&str], value: Value) {
        let text = format!("{label}{written}");
        let place = Place { origin: self.origins.len(), span: label.len()..text.len() };
        self.origins.push(overriding(name, text));
        let Some((last, parents)) = path.split_last() else { return };
        let entry = |node: Node| Entry { key: place.clone(), node };
        let mut table = Table::from([((*last).to_owned(), entry(Node::new(value, place.clone())))]);
        for parent in parents.iter().rev() {
            table = Table::from([((*parent).to_owned(), entry(Node::new(Value::Table(table), place.clone())))]);
        }
        node::merge(&mut self.tree, table);
    }
}

fn overriding(name: &str, text: String) -> Origin {
    Origin { kind: Kind::Override, name: name.to_owned(), text }
}

/// One byte more than is allowed, at most, so that the caller can tell. Anything but a regular file could keep a reload
/// waiting for ever.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
