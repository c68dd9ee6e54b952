//! What is wrong with a configuration, all of it at once: where, why, and what to try. It is collected while compiling
//! and turned into text only here.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::origin::{Kind, Origin, Place};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// The configuration is not used.
    Error,
    /// It is used, and something in it will surprise.
    Warning,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Complaint {
    pub gravity: Gravity,
    pub place: Place,
    pub message: String,
    pub help: Option<String>,
    pub about: About,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum About {
    /// The text is no TOML here.
    Syntax,
    /// The heading of a table is no TOML, so nobody knows where the keys below it belong.
    Heading,
    /// The whole file; there is no line to show.
    File,
    /// Something that should be there is not.
    Absence,
    Meaning,
}

/// Everything that was found, in the order of the files and their lines.
#[derive(Clone, Debug, Default)]
pub struct Complaints {
    pub(crate) origins: Vec<Origin>,
    pub(crate) list: Vec<Complaint>,
}

/// More than this in one run help nobody; a broken file can have a million.
const MOST_SHOWN: usize = 100;

/// One complaint for scripts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Located {
    pub gravity: Gravity,
    pub file: String,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl Complaints {
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Gravity::Error)
    }

    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Gravity::Warning)
    }

    fn count(&self, gravity: Gravity) -> usize {
        self.list.iter().filter(|complaint| complaint.gravity == gravity).count()
    }

    /// At most a hundred, for `check --json` and the log.
    #[must_use]
    pub fn located(&self) -> Vec<Located> {
        self.list.iter().take(MOST_SHOWN).map(|complaint| self.locate(complaint)).collect()
    }

    /// The first mistake in one line, and how many there are beside it.
    #[must_use]
    pub fn brief(&self) -> String {
        let errors = self.errors();
        let Some(first) = self.list.iter().find(|complaint| complaint.gravity == Gravity::Error) else {
            return String::new();
        };
        let Located { file, line, column, message, help, .. } = self.locate(first);
        let place = match (line, column) {
            (Some(line), Some(column)) => format!("{file}:{line}:{column}"),
            (Some(_) | None, _) => file,
        };
        let help = help.map_or_else(String::new, |help| format!("; {help}"));
        let more = if errors > 1 { format!(" (and {} more)", errors - 1) } else { String::new() };
        format!("{place}: {message}{help}{more}")
    }

    fn locate(&self, complaint: &Complaint) -> Located {
        let origin = self.origins.get(complaint.place.origin);
        let lined = origin.filter(|origin| origin.kind != Kind::Override && complaint.about != About::File);
        let position = lined.map(|origin| origin.position(&complaint.place.span));
        Located {
            gravity: complaint.gravity,
            file: origin.map(|origin| super::origin::printable(&origin.name)).unwrap_or_default(),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            message: complaint.message.clone(),
            help: complaint.help.clone(),
        }
    }

    /// In reading order; where the text is no TOML, what that did to its meaning is not worth telling.
    pub(crate) fn settle(&mut self) {
        let broken = self.lines_of(|complaint| matches!(complaint.about, About::Syntax | About::Heading));
        let headless: BTreeSet<(usize, usize)> = self
            .lines_of(|complaint| complaint.about == About::Heading)
            .into_iter()
            .flat_map(|line| self.below(line))
            .collect();
        let files: BTreeSet<usize> = broken.iter().map(|(origin, _)| *origin).collect();
        let lines: Vec<(usize, usize)> = self.list.iter().map(|complaint| self.line(complaint)).collect();
        let mut lines = lines.into_iter();
        let mut told = BTreeSet::new();
        self.list.retain(|complaint| {
            let Some(line) = lines.next() else { return true };
            match complaint.about {
                About::Syntax | About::Heading => told.insert(line),
                About::File => true,
                About::Absence => !files.contains(&complaint.place.origin),
                About::Meaning => !broken.contains(&line) && !headless.contains(&line),
            }
        });
        self.list
            .sort_by_key(|complaint| (complaint.place.origin, complaint.place.span.start, complaint.place.span.end));
        self.list.dedup();
    }

    fn lines_of(&self, wanted: impl Fn(&Complaint) -> bool) -> BTreeSet<(usize, usize)> {
        self.list.iter().filter(|complaint| wanted(complaint)).map(|complaint| self.line(complaint)).collect()
    }

    /// The lines from a broken heading to the next heading.
    fn below(&self, (origin, heading): (usize, usize)) -> Vec<(usize, usize)> {
        let text = self.origins.get(origin).and_then(|origin| origin.text.get(heading..)).unwrap_or_default();
        let mut start = heading;
        let lines = text.split_inclusive('\n').enumerate();
        lines
            .take_while(|(index, line)| *index == 0 || !line.trim_start().starts_with('['))
            .map(|(_, line)| {
                start += line.len();
                (origin, start - line.len())
            })
            .collect()
    }

    /// A line is named by the byte at which it starts: counting lines would take the square of a file's length.
    fn line(&self, complaint: &Complaint) -> (usize, usize) {
        let Place { origin, span } = &complaint.place;
        let before = self.origins.get(*origin).and_then(|origin| origin.text.get(..span.start));
        (*origin, before.and_then(|text| text.rfind('\n')).map_or(0, |newline| newline + 1))
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, complaint: &Complaint) -> fmt::Result {
        let Located { gravity, file, line, column, message, help } = self.locate(complaint);
        f.write_str(&file)?;
        if let (Some(line), Some(column)) = (line, column) {
            write!(f, ":{line}:{column}")?;
        }
        let gravity = match gravity {
            Gravity::Error => "error",
            Gravity::Warning => "warning",
        };
        writeln!(f, ": {gravity}: {message}")?;
        let number = line.map(|line| line.to_string()).unwrap_or_default();
        let gutter = number.len();
        let origin = self.origins.get(complaint.place.origin).filter(|_| complaint.about != About::File);
        if let Some(origin) = origin {
            let excerpt = origin.excerpt(&complaint.place.span);
            writeln!(f, " {number} | {}", excerpt.line)?;
            writeln!(f, " {:gutter$} | {}", "", excerpt.carets)?;
        }
        match help {
            Some(help) => writeln!(f, " {:gutter$} = help: {help}", ""),
            None => Ok(()),
        }
    }

    fn places(&self) -> Counted {
        let places: BTreeSet<usize> = self.list.iter().map(|complaint| complaint.place.origin).collect();
        let all_files = places.iter().filter_map(|at| self.origins.get(*at)).all(|origin| origin.kind == Kind::File);
        Counted(places.len(), if all_files { "file" } else { "place" })
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in self.list.iter().take(MOST_SHOWN) {
            self.write(f, complaint)?;
            writeln!(f)?;
        }
        if self.list.len() > MOST_SHOWN {
            writeln!(f, "… and {} more\n", self.list.len() - MOST_SHOWN)?;
        }
        let (errors, warnings) = (self.errors(), self.warnings());
        let place = self.places();
        match (errors, warnings) {
            (0, 0) => write!(f, "nothing to complain about"),
            (0, _) => write!(f, "{} in {place}; no mistakes", Counted(warnings, "warning")),
            (_, 0) => write!(f, "{} in {place}; nothing was changed", Counted(errors, "mistake")),
            (..) => {
                let (errors, warnings) = (Counted(errors, "mistake"), Counted(warnings, "warning"));
                write!(f, "{errors} and {warnings} in {place}; nothing was changed")
            }
        }
    }
}

impl std::error::Error for Complaints {}

/// `1 file`, `2 files`.
pub(crate) struct Counted(pub usize, pub &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.0, self.1, if self.0 == 1 { "" } else { "s" })
    }
}
