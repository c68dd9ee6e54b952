//! Lays out the executable so that it need not keep in memory what this node has no use for: code that only runs at start
//! or on a command line lies together, and so does the code of each kind of control. `privilege/layout.rs` lets go of it.
//! A table of relocations, which only the first instructions read, is packed to a hundredth.
//!
//! For static (musl) release builds alone, whose linkers (GNU ld, lld) add a script to their own; others, and
//! `NODE_GUARDIAN_LAYOUT=no`, leave the code where it falls, and all of it is locked.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What runs at the start, at a reload, or never in a daemon: parts of the names of functions.
const AT_START: [&str; 54] = [
    "12clap_builder",
    "clap_builder..",
    "8clap_lex",
    "node_guardian3cli",
    "node_guardian..cli..",
    "node_guardian6config",
    "node_guardian..config..",
    "node_guardian8document",
    "node_guardian..document..",
    "node_guardian6replay",
    "11toml_parser",
    "toml_parser..",
    "4toml2de",
    "5gimli",
    "gimli..",
    "9addr2line",
    "14rustc_demangle",
    "serde_core..de..Deserialize",
    "13node_guardian4main",
    "node_guardian7logging7install",
    "policy9condition5lexer",
    "policy9condition6parser",
    "policy9condition5names",
    "policy9condition7meaning",
    "policy4plan4Plan3new",
    "host7sampler7Sampler9open_with",
    "journal7recover",
    "4http6routes6router",
    "11path_router4Node6insert",
    "7matchit4tree",
    "5tokio7runtime7builder",
    "9libunwind",
    "11miniz_oxide",
    "node_guardian5agent6reload",
    "node_guardian..agent..reload",
    "4http7opening",
    "axum7routing15Router$LT$S$GT$5route",
    "11on_endpoint",
    "host9hierarchy",
    "5linux3cpu",
    "4unix7cgroups",
    "6strsim",
    "policy7nearest",
    "10serde_json2de",
    "serde_json..de..",
    "7journal6former",
    "7journal4lock",
    "6keeper6orders4read",
    "4host5place",
    "4host4slow5spawn",
    "5agent5Agent3new",
    "7Workers10start_with",
    "8Notifier16from_environment",
    "stack_overflow3imp12make_handler",
];

/// How each kind reads its keys, which is of the start and not of the kind: taken out before.
const SETTINGS: [&str; 4] =
    ["control*8settings", "control..*..settings..", "place..Written", "control6target6Target4read"];

/// What some kinds of control share, and no others need.
const SHARED_BY_SOME: [(&str, &[&str]); 2] = [
    ("recipe", &["7control6recipe", "control..recipe.."]),
    ("client", &["5hyper6client", "hyper..client", "role..Client", "control8exchange", "control..exchange.."]),
];

/// Of libraries that one kind alone has use for.
const OF_ONE: [(&str, &str); 1] = [("varnish", "4sha2")];

/// For more than 20 elements, and a copy for each type. Who may not be slow sorts by `sort_unstable` (tests/suite/tidy.rs).
const SORT: &str = "4core5slice4sort6stable";

/// Code that everything shares. The standard library's copies carry the name of the library that asked for them first, which
/// may be one that only runs at the start: taken out before.
///
/// What kinds answer by the same constant is one function for all of them, which the compiler names after any of them.
const SHARED: [&str; 24] = [
    "place..Place$GT$5verbs",
    "place..Place$GT$4kind",
    "place..Place$GT$4part",
    "place..Place$GT$6shares",
    "place..Place$GT$8patience",
    "place..Place$GT$11secret_file",
    "place..Place$GT$13is_undeclared",
    "place..Place$GT$17is_all_or_nothing",
    "service..Service$GT$4name",
    "service..Service$GT$5names",
    "service..Service$GT$5grace",
    "service..Service$GT$6rounds",
    "service..Service$GT$8is_lease",
    "service..Service$GT$8outlives",
    "7raw_vec",
    "13SplitInternal",
    "4core3fmtRe",
    "21do_reserve_and_handle",
    "18trim_start_matches",
    "7builder7Builder3new*closure",
    "control..wire..Wire..ask",
    "7webhook4post4Post",
    "9last_good4tidy",
    "9last_good11keep_newest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(layout)");
    println!("cargo::rerun-if-env-changed=NODE_GUARDIAN_LAYOUT");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/control");
    let is_static = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "musl");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if !is_static || !is_release || env::var("NODE_GUARDIAN_LAYOUT").is_ok_and(|wish| wish == "no") {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let kinds = kinds()?;
    let script = out.join("layout.ld");
    fs::write(&script, link_script(&kinds))?;
    fs::write(out.join("layout.rs"), addresses(&kinds)?)?;
    println!("cargo::rustc-cfg=layout");
    for arg in ["-z", "pack-relative-relocs", "-T"] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
    println!("cargo::rustc-link-arg-bins={}", script.display());
    Ok(())
}

/// One folder each; `recipe` and `worker` are shared by several.
fn kinds() -> Result<Vec<String>, Box<dyn Error>> {
    let mut kinds = Vec::new();
    for entry in fs::read_dir("src/control")? {
        let entry = entry?;
        let is_kind = Path::new("src/control").join(entry.file_name()).join("target.rs").exists();
        if is_kind && let Ok(name) = entry.file_name().into_string() {
            kinds.push(name);
        }
    }
    kinds.sort();
    Ok(kinds)
}

fn link_script(kinds: &[String]) -> String {
    let mut script = "SECTIONS\n{\n".to_owned();
    script.push_str(&group("shared", &SHARED.map(str::to_owned)));
    script.push_str(&group("settings", &SETTINGS.map(str::to_owned)));
    for kind in kinds {
        let mut patterns = vec![format!("control{}{kind}", kind.len()), format!("control..{kind}..")];
        patterns.extend(OF_ONE.iter().filter(|(of, _)| of == kind).map(|(_, pattern)| (*pattern).to_owned()));
        script.push_str(&group(kind, &patterns));
    }
    for (name, patterns) in SHARED_BY_SOME {
        script.push_str(&group(name, &patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>()));
    }
    script.push_str(&group("sort", &[SORT.to_owned()]));
    script.push_str(&group("at_start", &AT_START.map(str::to_owned)));
    script.push_str("}\nINSERT AFTER .text;\n");
    script
}

/// Whole pages, so that they can be let go of.
fn group(name: &str, patterns: &[String]) -> String {
    let inputs: String = patterns.iter().map(|pattern| format!("    *(.text.*{pattern}*)\n")).collect();
    format!(
        "  .text.ng_{name} : ALIGN(4096)\n  {{\n    __ng_{name}_start = .;\n{inputs}    . = ALIGN(4096);\n    \
         __ng_{name}_end = .;\n  }}\n"
    )
}

/// Rust that tells where the linker put them.
fn addresses(kinds: &[String]) -> Result<String, Box<dyn Error>> {
    let mut code = "unsafe extern \"C\" {\n".to_owned();
    let shared_by_some = || SHARED_BY_SOME.iter().map(|(name, _)| *name);
    let names = || kinds.iter().map(String::as_str).chain(shared_by_some()).chain(["sort", "settings", "at_start"]);
    for name in names() {
        writeln!(code, "    static __ng_{name}_start: u8;\n    static __ng_{name}_end: u8;")?;
    }
    code.push_str("}\n\n/// Each group with its first byte and the one behind its last.\nfn groups() -> Vec<Group> {\n    vec![\n");
    for name in names() {
        writeln!(
            code,
            "        Group {{ name: {name:?}, start: (&raw const __ng_{name}_start).addr(), end: (&raw const \
             __ng_{name}_end).addr() }},"
        )?;
    }
    code.push_str("    ]\n}\n");
    Ok(code)
}
