//! Configurations as operators write them: good ones with what they come to, bad ones with their exact complaints.
//! `UPDATE_EXPECTED=1` writes the expected texts anew; read the difference before you commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::EXAMPLE;
use node_guardian::config::{self, Checked, Source, settings::Settings};
use node_guardian::control::{address::Address, target::Target};
use node_guardian::policy::mitigation::{Amount, Level, Verb};
use node_guardian::policy::rule::{Rule, Scale};
use proptest::prelude::*;
use tempfile::TempDir;

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "toml") || path.is_dir());
    cases.sort();
    cases
}

/// A case is a file, or a folder with `config.toml` and `conf.d`.
fn check_case(case: &Path) -> (Checked, String) {
    let file = if case.is_dir() { case.join("config.toml") } else { case.to_path_buf() };
    let folder = file.parent().unwrap().display().to_string() + "/";
    let checked = config::check(&Source::file(file));
    let text = checked.text().replace(&folder, "");
    (checked, text)
}

fn compare_with_expected(case: &Path, text: &str) {
    let expected = case.with_extension("expected");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&expected, text).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    assert_eq!(text, wanted, "{} (UPDATE_EXPECTED=1 writes it anew)", expected.display());
}

#[test]
fn good_configurations_come_to_what_they_say() {
    for case in cases("good") {
        let (checked, text) = check_case(&case);
        assert!(checked.settings.is_some(), "{}:\n{text}", case.display());
        compare_with_expected(&case, &text);
    }
}

#[test]
fn bad_configurations_get_their_exact_complaints() {
    for case in cases("bad") {
        let (checked, text) = check_case(&case);
        assert!(checked.settings.is_none(), "{} is accepted", case.display());
        compare_with_expected(&case, &text);
    }
}

#[test]
fn ten_mistakes_get_ten_complaints_in_one_run() {
    let (checked, text) = check_case(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/bad/ten-mistakes.toml"));
    assert_eq!(checked.complaints.errors(), 10, "{text}");
    let lines: BTreeSet<_> = checked.complaints.located().into_iter().map(|located| located.line).collect();
    assert_eq!(lines.len(), 10, "one on each of ten lines:\n{text}");
}

/// A temporary `/etc/node-guardian`.
struct Etc(TempDir);

impl Etc {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn source(&self) -> Source {
        Source { usual: self.0.path().join("config.toml"), ..Source::default() }
    }
}

fn load(source: &Source) -> Settings {
    config::load(source).unwrap_or_else(|complaints| panic!("{complaints}"))
}

fn rule<'s>(settings: &'s Settings, name: &str) -> &'s Rule {
    settings.policy.rules.iter().find(|rule| &*rule.name == name).unwrap_or_else(|| panic!("no rule {name}"))
}

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    config::environment(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())))
}

#[test]
fn defaults_are_free_of_complaints_and_change_nothing() {
    let checked = config::check(&Etc::new().source());
    assert_eq!(checked.complaints.errors() + checked.complaints.warnings(), 0, "{}", checked.text());
    let settings = Settings::default();
    assert_eq!(format!("{settings:?}"), format!("{:?}", checked.settings.unwrap()));
    assert!(settings.policy.rules.len() >= 20);
    assert!(settings.policy.rules.iter().all(|rule| rule.steps.is_empty()));
    assert_eq!(settings.policy.level, Level::Standard);
    assert_eq!(settings.http.listen, Some(([127, 0, 0, 1], 9977).into()));
    assert_eq!(settings.sampling.fast_interval, Duration::from_millis(5));
    let order: Vec<_> = settings.policy.rules.iter().map(|rule| rule.priority).collect();
    assert!(order.is_sorted_by(|a, b| a >= b));
    assert_eq!(rule(&settings, "scale-down").hints[0].scale, Scale::Down);
}

#[test]
fn redis_is_paused_wholly_and_throttled_by_no_share() {
    let etc = Etc::new();
    let controls = "[control.haproxy.edge]\nsocket = \"/run/h\"\n[control.redis.cache]\nsocket = \"/run/r\"\n";
    let steps = "{ throttle = \"cache\" }, { throttle = \"cache\", to = \"0%\" }, { throttle = \"redis.*\" }, \
                 { throttle = \"*\", to = \"50%\" }";
    etc.write("config.toml", format!("{controls}[rule.x]\nwhen = \"threads > 50000\"\nsteps = [{steps}]\n"));
    let settings = load(&etc.source());
    let mitigations: Vec<_> = rule(&settings, "x").steps.iter().map(|step| step.mitigation.clone()).collect();
    assert!(mitigations[..3].iter().all(|pause| &*pause.control == "cache" && pause.amount == Amount::Whole));
    assert_eq!(mitigations[3..].iter().map(ToString::to_string).collect::<Vec<_>>(), ["throttle edge to 50%"]);
}

#[test]
fn one_key_of_a_built_in_rule_changes_alone_and_later_files_win() {
    let etc = Etc::new();
    etc.write("config.toml", "[rule.memory-high]\npriority = 11\ncooldown = \"5s\"\n[emergency]\nhold = \"20s\"\n");
    etc.write("conf.d/20-late.toml", "[rule.memory-high]\ncooldown = \"7s\"\n");
    etc.write("conf.d/10-early.toml", "[rule.memory-high]\ncooldown = \"6s\"\nfor = \"9s\"\n");
    etc.write("conf.d/.hidden.toml", "nonsense");
    etc.write("conf.d/README", "nonsense");
    let settings = load(&etc.source());
    let (changed, usual) = (rule(&settings, "memory-high"), Settings::default());
    let usual = rule(&usual, "memory-high");
    assert_eq!((changed.priority, changed.cooldown, changed.hold_for.as_secs()), (11, Duration::from_secs(7), 9));
    assert_eq!((&changed.when, &changed.clear, changed.clear_for), (&usual.when, &usual.clear, usual.clear_for));
    assert_eq!(settings.policy.emergency.undo_interval, Duration::from_secs(5));
    let names: Vec<_> = settings.sources.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["config.toml", "10-early.toml", "20-late.toml"]);
}

#[test]
fn steps_replace_the_whole_ladder_and_a_rule_can_be_switched_off() {
    let etc = Etc::new();
    etc.write("conf.d/a.toml", "[control.haproxy.edge]\nsocket = \"/run/h\"\n[rule.cpu-high]\nsteps = []\n");
    etc.write("conf.d/b.toml", "[rule.cpu-high]\nsteps = [{ shed = \"edge\", share = \"10%\" }]\nrule.x = 1\n");
    assert!(config::load(&etc.source()).is_err());
    etc.write(
        "conf.d/b.toml",
        "[rule.cpu-high]\nsteps = [{ shed = \"edge\", share = \"10%\" }]\n[rule.disk-high]\nenabled = false\n",
    );
    let settings = load(&etc.source());
    let step = &rule(&settings, "cpu-high").steps[0];
    assert_eq!((step.mitigation.verb, step.mitigation.amount), (Verb::Shed, Amount::Keep(90.0)));
    assert_eq!(step.settle, Duration::from_secs(5));
    assert!(!settings.policy.rules.iter().any(|rule| &*rule.name == "disk-high"));
}

#[test]
fn environment_and_command_line_override_the_files() {
    let etc = Etc::new();
    etc.write("config.toml", "level = \"aggressive\"\ndry_run = true\n[http]\nlisten = \"127.0.0.1:1\"\n");
    let mut source = etc.source();
    source.environment = environment(&[
        ("NODE_GUARDIAN_LEVEL", "minimal"),
        ("NODE_GUARDIAN_DRY_RUN", "0"),
        ("NODE_GUARDIAN_HTTP_LISTEN", ""),
        ("NODE_GUARDIAN_PORT_9977_TCP", "tcp://10.0.0.1:9977"),
        ("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"),
        ("RUNTIME_DIRECTORY", "/run/other"),
        ("HOME", "/root"),
    ]);
    let settings = load(&source);
    assert_eq!((settings.policy.level, settings.policy.dry_run, settings.http.listen), (Level::Minimal, false, None));
    assert_eq!(settings.state_directory, Path::new("/var/lib/one"));
    assert_eq!(settings.http.socket, Path::new("/run/other/admin.sock"));
    source.level = Some("maximum".into());
    source.dry_run = true;
    let settings = load(&source);
    assert_eq!((settings.policy.level, settings.policy.dry_run), (Level::Maximum, true));
}

/// Kubernetes' downward API gives bytes, and thousandths of a CPU; `cpu.max` and people have other ways.
#[test]
fn limits_are_read_as_kubernetes_and_people_write_them() {
    let etc = Etc::new();
    etc.write("config.toml", "[sampling]\nmemory_limit = \"1GiB\"\ncpu_limit = 2\n");
    let limits = |pairs: &[(&str, &str)]| {
        let sampling = load(&Source { environment: environment(pairs), ..etc.source() }).sampling;
        (sampling.memory_limit, sampling.cpu_limit)
    };
    assert_eq!(limits(&[]), (Some(1 << 30), Some(2.0)));
    assert_eq!(limits(&[("NODE_GUARDIAN_MEMORY_LIMIT", ""), ("NODE_GUARDIAN_CPU_LIMIT", "")]), limits(&[]));
    let told = [("NODE_GUARDIAN_MEMORY_LIMIT", "536870912"), ("NODE_GUARDIAN_CPU_LIMIT", "1500m")];
    assert_eq!(limits(&told), (Some(512 << 20), Some(1.5)));
    assert_eq!(limits(&[("NODE_GUARDIAN_CPU_LIMIT", "0.25")]).1, Some(0.25));
    for (name, nonsense) in [
        ("NODE_GUARDIAN_MEMORY_LIMIT", "12"),
        ("NODE_GUARDIAN_MEMORY_LIMIT", "50%"),
        ("NODE_GUARDIAN_CPU_LIMIT", "0m"),
        ("NODE_GUARDIAN_CPU_LIMIT", "many"),
        ("NODE_GUARDIAN_CPU_LIMIT", "1e3"),
    ] {
        let environment = environment(&[(name, nonsense)]);
        assert!(config::load(&Source { environment, ..etc.source() }).is_err(), "{name}={nonsense}");
    }
}

#[test]
fn a_mistake_outside_files_is_shown_as_it_was_given() {
    let mut source = Etc::new().source();
    source.environment = environment(&[("NODE_GUARDIAN_LEVEL", "agressive"), ("NODE_GUARDIAN_LVEL", "minimal")]);
    source.level = Some("max".into());
    let text = config::load(&source).unwrap_err().to_string();
    let expected = "environment: error: `agressive` is not a level
  | NODE_GUARDIAN_LEVEL=agressive
  |                     ^^^^^^^^^
  = help: did you mean `aggressive`?

environment: warning: node-guardian does not know this variable
  | NODE_GUARDIAN_LVEL=minimal
  | ^^^^^^^^^^^^^^^^^^
  = help: did you mean `NODE_GUARDIAN_LEVEL`?

command line: error: `max` is not a level
  | --level max
  |         ^^^
  = help: did you mean `maximum`?

2 mistakes and 1 warning in 3 places; nothing was changed";
    assert_eq!(text, expected);
}

#[test]
fn a_named_file_must_be_there_and_the_usual_one_need_not() {
    let etc = Etc::new();
    let missing = etc.0.path().join("nowhere.toml");
    let text = config::load(&Source::file(&missing)).unwrap_err().to_string();
    assert!(text.starts_with(&format!("{}: error: cannot be read: No such file", missing.display())), "{text}");
    assert!(load(&etc.source()).sources.is_empty());
    assert!(config::load(&Source::file(etc.0.path())).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn secrets_that_everybody_can_read_are_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let etc = Etc::new();
    let password = etc.write("password", "x");
    let main = format!("[control.redis.cache]\naddress = \"[::1]:6379\"\npassword_file = \"{}\"\n", password.display());
    etc.write("config.toml", main);
    let warnings = |mode| {
        fs::set_permissions(&password, fs::Permissions::from_mode(mode)).unwrap();
        config::check(&etc.source()).complaints.located()
    };
    assert_eq!(warnings(0o640), []);
    assert!(warnings(0o644)[0].message.contains("every user of this node can read"));
    let settings = load(&etc.source());
    let Target::Redis(redis) = &settings.controls[0].target else { panic!() };
    assert_eq!(redis.address, Address::Tcp("[::1]:6379".into()));
}

/// Configuration in comments starts right behind the `#`, or with two spaces where it is inside brackets.
pub fn uncommented(example: &str) -> String {
    let code = |line: &&str| {
        let rest = line.strip_prefix('#').unwrap_or_default();
        rest.starts_with(|c: char| c.is_ascii_lowercase() || "[]".contains(c)) || rest.starts_with("  {")
    };
    example.lines().map(|line| if code(&line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_changes_nothing_as_it_stands() {
    let etc = Etc::new();
    etc.write("config.toml", EXAMPLE);
    let checked = config::check(&etc.source());
    assert_eq!(checked.complaints.warnings(), 0, "{}", checked.text());
    let mut settings = checked.settings.unwrap();
    settings.sources.clear();
    assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
}

#[test]
fn the_example_with_everything_uncommented_is_valid_and_shows_every_key() {
    let etc = Etc::new();
    let text = uncommented(EXAMPLE);
    etc.write("config.toml", &text);
    let settings = load(&etc.source());
    assert_eq!(rule(&settings, "memory-critical").steps.len(), 5);
    let tables = text.lines().filter(|line| line.starts_with("[control.") && line.matches('.').count() == 2);
    assert_eq!(settings.controls.len(), tables.count());
    for (table, keys) in config::schema() {
        let shown = keys_below(&text, table);
        for key in keys {
            assert!(shown.contains(key), "[{table}] {key} is not in the example; there are {shown:?}");
        }
    }
    for rule in &Settings::default().policy.rules {
        assert!(EXAMPLE.contains(&*rule.name), "the example does not name {}", rule.name);
    }
}

/// The keys and tables right below a table, names that operators choose left out of its path.
fn keys_below(text: &str, table: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut current: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(header) = line.strip_prefix('[') {
            current = header.trim_end_matches(']').split('.').map(str::to_owned).collect();
            let named = match current[0].as_str() {
                "control" => 2,
                "rule" => 1,
                _ => usize::MAX,
            };
            for depth in 0..current.len().min(named) {
                if current[..depth].join(".") == table {
                    keys.insert(current[depth].clone());
                }
            }
            current.truncate(named);
        } else if current.join(".") == table {
            let key = line.split_once(" = ").map(|(key, _)| key).filter(|key| !key.starts_with([' ', '#']));
            keys.extend(key.map(str::to_owned));
        }
    }
    keys
}

#[test]
fn built_in_rules_can_be_switched_off_all_at_once() {
    let etc = Etc::new();
    let own = "[rule.mine]\nwhen = \"threads > 50000\"\n";
    etc.write("config.toml", format!("builtin_rules = false\n[emergency]\nstand_down = \"90s\"\n{own}"));
    let settings = load(&etc.source());
    assert_eq!(settings.policy.rules.iter().map(|rule| &*rule.name).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(settings.policy.emergency.stand_down, Duration::from_secs(90));
    // What a later file says counts, and a built-in rule has no leftovers to lean on.
    etc.write("conf.d/a.toml", "[rule.disk-high]\nfor = \"9s\"\n");
    let text = config::check(&etc.source()).text();
    assert!(text.contains("[rule.disk-high] has no `when`") && text.contains("are switched off"), "{text}");
    etc.write("conf.d/b.toml", "builtin_rules = true\n");
    let settings = load(&etc.source());
    assert_eq!(settings.policy.rules.len(), Settings::default().policy.rules.len() + 1);
    assert_eq!(rule(&settings, "disk-high").hold_for, Duration::from_secs(9));
}

#[test]
fn a_configuration_without_any_rule_is_pointed_out() {
    let etc = Etc::new();
    etc.write("config.toml", "builtin_rules = false\n");
    let checked = config::check(&etc.source());
    assert!(checked.settings.is_some() && checked.complaints.warnings() == 1, "{}", checked.text());
    assert!(checked.text().contains("no rule is left"), "{}", checked.text());
    etc.write("config.toml", "builtin_rules = \"no\"\n");
    let checked = config::check(&etc.source());
    assert_eq!((checked.complaints.errors(), checked.complaints.warnings()), (1, 0), "{}", checked.text());
}

#[test]
fn a_pipe_in_place_of_a_file_keeps_nobody_waiting() {
    let etc = Etc::new();
    fs::create_dir(etc.0.path().join("conf.d")).unwrap();
    let pipe = etc.0.path().join("conf.d/pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(config::load(&etc.source()).unwrap_err().to_string().contains("not a regular file"));
}

#[test]
fn a_huge_file_is_refused_without_being_read() {
    let etc = Etc::new();
    etc.write("config.toml", vec![b'['; 10 << 20]);
    let started = Instant::now();
    let text = config::load(&etc.source()).unwrap_err().to_string();
    assert!(text.contains("is larger than 1 MiB"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_worst_files_are_answered_in_bounded_time_and_space() {
    let etc = Etc::new();
    for piece in ["[", "[[a]]\n", "a=1\n", "= \n", "x={", "a.", "é", "\"", "[rule.x]\n", "[rule.a]\nwhen='('\n"] {
        etc.write("config.toml", piece.repeat((1 << 20) / piece.len()));
        let started = Instant::now();
        let text = match config::load(&etc.source()) {
            Ok(_) => String::new(),
            Err(complaints) => complaints.to_string(),
        };
        assert!(text.len() < 100_000, "{piece:?}: {} bytes", text.len());
        assert!(started.elapsed() < Duration::from_secs(20), "{piece:?}: {:?}", started.elapsed());
    }
}

#[test]
fn a_file_that_is_not_utf8_is_shown_where_it_stops_being_it() {
    let etc = Etc::new();
    etc.write("config.toml", b"level = \"minimal\"\n# caf\xe9\n");
    let located = config::load(&etc.source()).unwrap_err().located();
    assert_eq!((located[0].line, located[0].column), (Some(2), Some(6)));
}

/// Keys and values that are nearly right, so that the walk goes deep.
fn nearly() -> impl Strategy<Value = String> {
    let header = prop_oneof![
        Just("[sampling]"),
        Just("[http]"),
        Just("[rule.x]"),
        Just("[rule.memory-high]"),
        Just("[control.redis.c]"),
        Just("[control.haproxy.e]"),
        Just("[control]"),
        Just("[[rule.y]]"),
        Just("[emergency]"),
        Just("[control.x.y]"),
    ];
    let key = prop_oneof![
        Just("when"),
        Just("for"),
        Just("steps"),
        Just("interval"),
        Just("listen"),
        Just("socket"),
        Just("level"),
        Just("hint"),
        Just("priority"),
        Just("mounts"),
        Just("severity"),
        Just("address"),
        Just("enabled"),
        Just("é"),
    ];
    let value = prop_oneof![
        Just("\"1s\"".to_owned()),
        Just("3".to_owned()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{ release = \"*\" }".to_owned()),
        Just("[{ throttle = \"e\", to = \"5%\" }, 4]".to_owned()),
        Just("{ cpu = \"up\", disk = 3 }".to_owned()),
        Just("1979-05-27".to_owned()),
        Just("1.5".to_owned()),
        Just("99999999999999999999".to_owned()),
        Just("'''\ncpu.used_percent > 900% '''".to_owned()),
        "\"[a-zé<> ().%0-9]{0,20}\"",
        "\"(\\\\u00e9|\\\\\"|\\\\\\\\|[(a>é ]){0,8}\"",
    ];
    let line =
        prop_oneof![header.prop_map(str::to_owned), (key, value).prop_map(|(key, value)| format!("{key} = {value}")),];
    proptest::collection::vec(line, 0..25).prop_map(|lines| lines.join("\n"))
}

/// Whatever is in the file: an answer, no panic, and complaints that are inside the file.
fn is_answered(bytes: &[u8]) {
    let etc = Etc::new();
    etc.write("config.toml", bytes);
    let checked = config::check(&etc.source());
    let lines = String::from_utf8_lossy(bytes).matches('\n').count() + 1;
    for located in checked.complaints.located() {
        assert!(!located.message.is_empty());
        assert!(located.line.is_none_or(|line| line <= lines), "{located:?}");
    }
    assert!(!checked.text().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn arbitrary_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        is_answered(&bytes);
    }

    #[test]
    fn arbitrary_text_is_answered(text in "[\\PC\\n\"'=\\[\\]{}.,#]{0,200}") {
        is_answered(text.as_bytes());
    }

    #[test]
    fn configurations_that_are_nearly_right_are_answered(text in nearly()) {
        is_answered(text.as_bytes());
    }

    #[test]
    fn a_truncated_configuration_is_answered(end in 0..8000usize) {
        let text = uncommented(EXAMPLE);
        is_answered(&text.as_bytes()[..end.min(text.len())]);
    }

    #[test]
    fn one_wrong_byte_is_answered(at in 0..8000usize, byte in any::<u8>()) {
        let mut bytes = uncommented(EXAMPLE).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        is_answered(&bytes);
    }
}
