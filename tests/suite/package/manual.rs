//! Manual pages in roff: of the command line by `clap_mangen`, with one section for all subcommands; of the configuration
//! from the comments of config.example.toml.

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use node_guardian::cli::Cli;
use node_guardian::policy::metric::Metric;

/// One page for all subcommands; what no command line can tell comes behind them.
pub fn of_the_command_line(after: &str) -> String {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let man = Man::new(command.clone()).title("NODE-GUARDIAN").section("8").manual("System Administration").date("");
    let mut page = String::new();
    page += &rendered(|to| man.render_title(to));
    page += &rendered(|to| man.render_name_section(to));
    page += ".SH SYNOPSIS\n.B node\\-guardian\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n";
    page += ".SH COMMANDS\n";
    for sub in command.get_subcommands() {
        page += &of_a_subcommand(sub);
    }
    page + after
}

fn rendered(render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn of_a_subcommand(sub: &Command) -> String {
    let usage = sub.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim();
    let about = sub.get_about().unwrap().to_string();
    let man = Man::new(sub.clone());
    let options = rendered(|to| man.render_options_section(to));
    let options = options.split_once(".SH OPTIONS\n").map_or("", |(_, options)| options);
    format!(".SS \"{}\"\n{}.\n{options}", escape(usage), escape(&about))
}

/// Explanations become paragraphs, configuration becomes examples, a line of dashes begins a section.
pub fn of_the_configuration(example: &str) -> String {
    let mut page = Page(
        concat!(
            ".TH NODE\\-GUARDIAN.TOML 5\n",
            ".SH NAME\nnode\\-guardian.toml \\- configuration of node\\-guardian\n",
            ".SH SYNOPSIS\n.nf\n/etc/node\\-guardian/config.toml\n/etc/node\\-guardian/conf.d/*.toml\n.fi\n",
            ".SH DESCRIPTION\n"
        )
        .to_owned(),
    );
    let blocks: Vec<&str> = example.split("\n\n").collect();
    for block in blocks {
        page.block(block.trim_end());
    }
    page.metrics();
    page.0 += ".SH SEE ALSO\n.BR node\\-guardian (8)\n";
    page.0
}

struct Page(String);

impl Page {
    fn block(&mut self, block: &str) {
        let mut kind = None;
        for line in block.lines() {
            if line.starts_with("# ---") {
                self.section(block);
                continue;
            }
            let (next, text) = match line.strip_prefix("# ").or_else(|| (line == "#").then_some("")) {
                Some(text) if text.starts_with(' ') => (Kind::Table, text),
                Some(text) => (Kind::Prose, text),
                None => (Kind::Example, line.strip_prefix('#').unwrap_or(line)),
            };
            if kind != Some(next) || text.is_empty() {
                self.turn(kind, next);
                kind = Some(next);
            }
            self.0 += &format!("{}\n", escape(text));
        }
        self.close(kind);
    }

    /// Named after its table, or after the word with which it begins.
    fn section(&mut self, block: &str) {
        let head = block.lines().nth(1).unwrap().trim_start_matches(['#', ' ']);
        let name = head.split([':', ']']).next().unwrap().trim_start_matches('[');
        self.0 += &format!(".SH {}\n", name.to_uppercase());
    }

    fn turn(&mut self, from: Option<Kind>, to: Kind) {
        self.close(from);
        self.0 += match to {
            Kind::Prose => ".PP\n",
            Kind::Table | Kind::Example => ".PP\n.nf\n.RS 4\n",
        };
    }

    fn close(&mut self, kind: Option<Kind>) {
        self.0 += match kind {
            Some(Kind::Table | Kind::Example) => ".RE\n.fi\n",
            Some(Kind::Prose) | None => "",
        };
    }

    fn metrics(&mut self) {
        self.0 += ".SH METRICS\nWhat conditions may use, with its unit.\n";
        for metric in Metric::ALL {
            let description = metric.describe();
            let (name, unit, help) = (escape(&metric.written()), description.unit.name(), escape(description.help));
            self.0 += &format!(".TP\n\\fB{name}\\fR ({unit})\n{help}\n");
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Prose,
    Table,
    Example,
}

/// As roff has it: a backslash, a hyphen that is a minus, a line that would begin with a command.
pub fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('"', "\\(dq");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
