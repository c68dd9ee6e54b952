//! What is guarded on: the configuration as it is, or, where it does not compile, the one that was last taken, or the
//! built-in rules. Falling back only makes gentler: whatever can still be read of a restraint counts, and a restraint that
//! cannot be read counts as the strictest that it may be. Never refuses: a typo must not leave a node unguarded.

use std::path::{Path, PathBuf};

use super::compile::{Compiled, compile, level, state_directory_of};
use super::last_good::LastGood;
use super::settings::Settings;
use super::source::{Gathered, Source, Text, gather};
use super::whereabouts;
use crate::document::complaint::{About, Complaint, Complaints, Gravity};
use crate::document::node::Node;
use crate::document::origin::{Kind, Origin};
use crate::document::section::Read;
use crate::document::value;
use crate::policy::mitigation::Level;
use crate::policy::nearest::nearest;

/// Only what can be undone, whatever was allowed before.
const HARSHEST: Level = Level::Standard;
/// Where nothing is known of what was allowed.
const GENTLEST: Level = Level::Minimal;

/// What is guarded on, and why.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub complaints: Complaints,
    pub footing: Footing,
    /// To be kept once it has proved itself; `None` on a fallback.
    pub last_good: Option<LastGood>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Footing {
    /// The configuration as it is.
    #[default]
    Asked,
    /// The one that was last taken.
    LastGood,
    /// Nothing but what is built in.
    BuiltIn,
}

impl Footing {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Footing::Asked => "as_configured",
            Footing::LastGood => "last_good",
            Footing::BuiltIn => "built_in",
        }
    }
}

/// Reads the configuration, and finds something to guard on in any case.
#[must_use]
pub fn settle(source: &Source) -> Loaded {
    let compiled = compile(source);
    if compiled.complaints.errors() == 0 {
        return taken(source, compiled);
    }
    let named = state_directory_of(source);
    let read = &where_the_debts_are(source, &named, &compiled);
    let kept = LastGood::read(read, source).or_else(|| LastGood::read(&named, source));
    // What is not carried over yet is where it was.
    let kept = kept.or_else(|| LastGood::read(&whereabouts::find(source)?, source));
    let restraints = Restraints::of(source, &compiled.complaints);
    let (mut settings, footing) = match kept.as_ref().and_then(|kept| Some((kept, again(source, kept.texts())?))) {
        Some((kept, settings)) => (restrained_by(kept, settings), Footing::LastGood),
        None => (built_in(source, &compiled.settings), Footing::BuiltIn),
    };
    // What the file still says of it comes before what it said: the debts are there.
    if *read != named {
        settings.state_directory.clone_from(read);
    }
    restraints.apply(&mut settings);
    Loaded { settings, complaints: compiled.complaints, footing, last_good: None }
}

/// What is owed is in the state directory, and nobody who looks elsewhere finds it. So the line that names it counts also in
/// a file that is no TOML, and where its key is misspelt; where there is none, the one that was used last does.
fn where_the_debts_are(source: &Source, named: &Path, compiled: &Compiled) -> PathBuf {
    let read = &compiled.settings.state_directory;
    if read != named {
        return read.clone();
    }
    let files = compiled.complaints.origins.iter().filter(|origin| origin.kind == Kind::File);
    let lines = files.flat_map(|file| file.text.lines());
    let said = lines.filter(|line| nearest(first_word(line), ["state_directory"]).is_some());
    let mut paths = said.filter_map(|line| line.split(['"', '\'']).map(Path::new).find(|path| path.is_absolute()));
    let said = paths.rfind(|path| path.is_dir()).map(ToOwned::to_owned);
    said.or_else(|| whereabouts::find(source)).unwrap_or_else(|| named.to_owned())
}

/// # Errors
/// Everything that is wrong with it: then what is in force stays.
pub fn load_again(source: &Source) -> Result<Loaded, Complaints> {
    let compiled = compile(source);
    if compiled.complaints.errors() == 0 { Ok(taken(source, compiled)) } else { Err(compiled.complaints) }
}

fn taken(source: &Source, Compiled { settings, complaints }: Compiled) -> Loaded {
    let last_good = Some(LastGood::of(source, &settings.policy, &complaints));
    Loaded { settings, complaints, footing: Footing::Asked, last_good }
}

/// These texts with the environment of now; without it, where it is what does not compile.
fn again(source: &Source, texts: &[Text]) -> Option<Settings> {
    let texts = Some(texts.to_vec());
    let asked = Source { texts: texts.clone(), ..source.clone() };
    [asked, Source { texts, ..undisturbed(source) }].iter().find_map(|source| {
        let Compiled { settings, complaints } = compile(source);
        (complaints.errors() == 0).then_some(settings)
    })
}

/// Where we are, and nothing else that the environment says.
fn undisturbed(source: &Source) -> Source {
    let mut source = source.clone();
    source.environment.retain(|name, _| !name.starts_with("NODE_GUARDIAN_"));
    source
}

fn restrained_by(kept: &LastGood, mut settings: Settings) -> Settings {
    settings.policy.level = settings.policy.level.min(kept.level());
    settings.policy.dry_run |= kept.dry_run();
    settings
}

/// Where it listens and what it samples is as far as that can be read, so that it is found where it is looked for.
fn built_in(source: &Source, broken: &Settings) -> Settings {
    let mut settings = again(source, &[]).unwrap_or_default();
    settings.policy.level = GENTLEST;
    settings.http.clone_from(&broken.http);
    settings.sampling.clone_from(&broken.sampling);
    settings.state_directory.clone_from(&broken.state_directory);
    settings
}

/// What the operator asked for that holds the guardian back, as far as it can be read.
#[derive(Debug)]
struct Restraints {
    level: Level,
    dry_run: bool,
}

impl Restraints {
    fn of(source: &Source, complaints: &Complaints) -> Self {
        let files = gather(&Source { level: None, dry_run: false, ..undisturbed(source) });
        let written = Written { files: &files, complaints };
        let levels = written.words("level", level, GENTLEST).into_iter();
        let levels = levels.chain([environment_level(source), source.level.as_deref().and_then(level_named)]);
        Self {
            level: levels.flatten().min().unwrap_or(HARSHEST).min(HARSHEST),
            dry_run: source.dry_run
                || written.words("dry_run", value::boolean, true).contains(&Some(true))
                || environment_dry_run(source),
        }
    }

    fn apply(&self, settings: &mut Settings) {
        settings.policy.level = settings.policy.level.min(self.level);
        settings.policy.dry_run |= self.dry_run;
    }
}

fn level_named(name: &str) -> Option<Level> {
    Level::ALL.into_iter().find(|level| level.name() == name)
}

fn variable<'s>(source: &'s Source, name: &str) -> Option<&'s str> {
    source.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
}

fn environment_level(source: &Source) -> Option<Level> {
    variable(source, "NODE_GUARDIAN_LEVEL").map(|name| level_named(name).unwrap_or(GENTLEST))
}

fn environment_dry_run(source: &Source) -> bool {
    variable(source, "NODE_GUARDIAN_DRY_RUN").is_some_and(|value| !matches!(value, "0" | "false" | "no" | "off"))
}

/// The files with all that is wrong with them.
struct Written<'a> {
    files: &'a Gathered,
    complaints: &'a Complaints,
}

impl Written<'_> {
    /// What a key at the top says, and the strictest where somebody seems to have written it and it cannot be read.
    fn words<T: Copy>(&self, key: &'static str, read: impl Fn(&str, &Node) -> Read<T>, strictest: T) -> [Option<T>; 2] {
        let said = self.files.tree.get(key).map(|entry| read(key, &entry.node).unwrap_or(strictest));
        [said, self.is_garbled(key).then_some(strictest)]
    }

    /// Whether some file is not read at all, or a line that begins with this key, or nearly, is not understood.
    fn is_garbled(&self, key: &'static str) -> bool {
        let errors = self.complaints.list.iter().filter(|complaint| complaint.gravity == Gravity::Error);
        errors.filter_map(|error| Some((error, self.complaints.origins.get(error.place.origin)?))).any(
            |(error, origin)| {
                origin.kind == Kind::File
                    && match error.about {
                        About::File => true,
                        About::Syntax | About::Heading => {
                            is_about(error, origin, key) || self.is_swallowed(origin, key)
                        }
                        About::Absence | About::Meaning => is_about(error, origin, key),
                    }
            },
        )
    }

    /// A line with this key in a file that is no TOML, and nothing of it in what was read of that file.
    fn is_swallowed(&self, origin: &Origin, key: &'static str) -> bool {
        let is_read = self.files.tree.get(key).is_some_and(|entry| {
            let mut places = entry.node.versions().map(|version| version.place.origin);
            places.any(|at| self.files.origins.get(at).is_some_and(|file| file.name == origin.name))
        });
        !is_read && origin.text.lines().any(|line| first_word(line) == key)
    }
}

fn is_about(error: &Complaint, origin: &Origin, key: &'static str) -> bool {
    let start = error.place.span.start.min(origin.text.len());
    let before = origin.text.get(..start).unwrap_or_default();
    let from = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = origin.text[from..].lines().next().unwrap_or_default();
    nearest(first_word(line), [key]).is_some()
}

fn first_word(line: &str) -> &str {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let line = line.trim_start().trim_start_matches(['"', '\'']);
    line.split(|c| !is_part(c)).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONTROL: &str = "[control.redis.cache]\nsocket = \"/run/redis.sock\"\n";

    /// A source whose last good configuration was this.
    struct Before {
        folder: tempfile::TempDir,
        source: Source,
    }

    impl Before {
        fn was(text: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut source = Source::file(folder.path().join("config.toml"));
            source.environment.insert("STATE_DIRECTORY".into(), folder.path().display().to_string());
            let before = Self { folder, source };
            let good = before.now(text).last_good.expect("a good one");
            fs::write(before.folder.path().join(good.file_name()), good.bytes().unwrap()).unwrap();
            before
        }

        fn now(&self, text: &str) -> Loaded {
            fs::write(self.folder.path().join("config.toml"), text).unwrap();
            settle(&self.source)
        }

        fn level_now(&self, text: &str) -> (Footing, &'static str) {
            let loaded = self.now(text);
            (loaded.footing, loaded.settings.policy.level.name())
        }
    }

    #[test]
    fn a_typo_goes_on_with_what_was_and_nothing_that_loses_something() {
        let before = Before::was(&format!("level = \"maximum\"\n{CONTROL}"));
        let loaded = before.now("level = \"maximum\"\n[control.redis.cache]\nsokcet = \"/run/redis.sock\"\n");
        assert_eq!((loaded.footing, loaded.settings.controls.len()), (Footing::LastGood, 1));
        assert_eq!(loaded.settings.policy.level, HARSHEST);
        assert!(loaded.complaints.errors() > 0 && loaded.last_good.is_none());
    }

    #[test]
    fn the_lowest_level_that_anybody_wrote_counts() {
        let before = Before::was("level = \"aggressive\"\n");
        let typo = "\n[smapling]\n";
        for (written, level) in [
            ("", "standard"),
            ("level = \"minimal\"", "minimal"),
            ("level = \"disabled\"", "disabled"),
            // Somebody meant to change it, and nobody knows to what.
            ("level = \"minmal\"", "minimal"),
            ("level = \"minimal", "minimal"),
            ("levle = \"disabled\"", "minimal"),
            ("level \"disabled\"", "minimal"),
            ("[http]\nlevel = \"disabled\"", "minimal"),
            ("x = \"\"\"\nlevel = \"disabled\"\n", "minimal"),
        ] {
            assert_eq!(before.level_now(&format!("{written}{typo}")), (Footing::LastGood, level), "{written}");
        }
        let mut lower = Before::was("level = \"minimal\"\n");
        assert_eq!(lower.level_now("level = \"standard\"\n[smapling]\n").1, "minimal");
        lower.source.environment.insert("NODE_GUARDIAN_LEVEL".into(), "off".into());
        assert_eq!(lower.level_now(""), (Footing::LastGood, "minimal"));
        lower.source.environment.insert("NODE_GUARDIAN_LEVEL".into(), "disabled".into());
        assert_eq!(lower.level_now("[smapling]\n").1, "disabled");
    }

    #[test]
    fn a_file_that_cannot_be_read_may_have_said_anything() {
        let before = Before::was(CONTROL);
        fs::remove_file(before.folder.path().join("config.toml")).unwrap();
        let loaded = settle(&before.source);
        assert_eq!((loaded.footing, loaded.settings.policy.level), (Footing::LastGood, Level::Minimal));
        assert!(loaded.settings.policy.dry_run);
    }

    #[test]
    fn a_dry_run_stays_one_whoever_asked_for_it() {
        let before = Before::was(CONTROL);
        let typo = "[smapling]\n";
        for (written, dry) in
            [("", false), ("dry_run = true\n", true), ("dry_run = yes\n", true), ("dryrun = false\n", true)]
        {
            assert_eq!(before.now(&format!("{written}{typo}")).settings.policy.dry_run, dry, "{written}");
        }
        let before = Before::was("dry_run = true\n");
        assert!(before.now(&format!("dry_run = false\n{typo}")).settings.policy.dry_run);
    }

    #[test]
    fn without_a_last_good_one_what_is_built_in_only_tells() {
        let before = Before::was(CONTROL);
        let other = Source { file: Some(before.folder.path().join("other.toml")), ..before.source.clone() };
        let state = before.folder.path().join("elsewhere");
        let written = format!("state_directory = \"{}\"\nlevel = \"maximum\"\nstate = 1\n", state.display());
        fs::write(before.folder.path().join("other.toml"), written).unwrap();
        let loaded = settle(&other);
        assert_eq!((loaded.footing, loaded.settings.policy.level), (Footing::BuiltIn, Level::Minimal));
        assert!(loaded.settings.controls.is_empty() && !loaded.settings.policy.rules.is_empty());
        assert_eq!(loaded.settings.state_directory, state, "what can be read says where the debts are");
    }

    #[test]
    fn the_state_directory_is_found_in_a_file_that_cannot_be_read() {
        let before = Before::was(CONTROL);
        let state = before.folder.path().join("elsewhere");
        fs::create_dir(&state).unwrap();
        let line = format!("state_directory = \"{}\"\n", state.display());
        let good = before.now(&format!("{line}{CONTROL}")).last_good.unwrap();
        fs::write(state.join(good.file_name()), good.bytes().unwrap()).unwrap();
        for written in [
            format!("[smapling\n{line}"),
            format!("x : 1\n{line}"),
            line.replace("state_", "state"),
            format!("\0\n{line}"),
        ] {
            let loaded = before.now(&written);
            assert_eq!((loaded.footing, &loaded.settings.state_directory), (Footing::LastGood, &state), "{written}");
        }
        whereabouts::note(&before.source, &state).unwrap();
        for written in ["state_directory = 5\n", "[smapling\n"] {
            let loaded = before.now(written);
            assert_eq!((loaded.footing, &loaded.settings.state_directory), (Footing::LastGood, &state), "{written}");
        }
        whereabouts::note(&before.source, before.folder.path()).unwrap();
        let gone = before.now("[smapling\nstate_directory = \"/nowhere/at/all\"\n");
        assert_eq!(gone.settings.state_directory, before.folder.path());
    }

    #[test]
    fn an_environment_that_does_not_compile_is_left_out() {
        let mut before = Before::was(CONTROL);
        before.source.environment.insert("NODE_GUARDIAN_HTTP_LISTEN".into(), "9977".into());
        let loaded = before.now(CONTROL);
        assert_eq!((loaded.footing, loaded.settings.controls.len()), (Footing::LastGood, 1));
    }
}
