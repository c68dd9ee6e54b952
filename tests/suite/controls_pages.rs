//! What the pages of docs/controls show to be pasted is taken: configuration by us, the other side's by the real server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use node_guardian::config::{self, Source};
use tempfile::TempDir;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/controls").join(name)).unwrap()
}

/// The blocks of a page that are fenced as this.
fn blocks(page: &str, fence: &str) -> Vec<String> {
    let opening = format!("\n```{fence}\n");
    let starts = page.split(&opening).skip(1);
    let found: Vec<String> = starts.map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    assert!(!found.is_empty(), "no block of {fence}");
    found
}

fn taken(output: Output, text: &str) {
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&said));
}

fn run(program: &str, package: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot start {program} ({error}): run `apt-get install {package}`"))
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn every_control_on_its_page_compiles() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["haproxy.md", "nginx.md"] {
        for block in blocks(&page(name), "toml") {
            let everything = block.replace("\n#", "\n");
            for text in [&block, &everything] {
                let file = write(&folder, "config.toml", text);
                let checked = config::check(&Source::file(file));
                assert_eq!(checked.complaints.errors(), 0, "{name}: {}", checked.text());
            }
        }
    }
}

#[test]
fn every_block_of_configuration_on_any_page_compiles_by_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let listed = ["", "docs", "docs/controls"].map(|directory| fs::read_dir(root.join(directory)).unwrap());
    let pages = listed.into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut count = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        for block in fs::read_to_string(&page).unwrap().split("\n```toml\n").skip(1) {
            let file = write(&folder, "config.toml", block.split("```").next().unwrap());
            let checked = config::check(&Source::file(file));
            assert_eq!(checked.complaints.errors(), 0, "{}: {}", page.display(), checked.text());
            count += 1;
        }
    }
    assert!(count >= 20, "{count} blocks: are they fenced otherwise now?");
}

#[test]
fn haproxy_takes_the_lines_of_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = page("haproxy.md");
    let map = write(&folder, "ng.map", "web 0\n");
    let lines = blocks(&page, "haproxy").concat();
    let by_map = blocks(&page, "haproxy-map").concat().replace("/etc/haproxy/ng.map", map.to_str().unwrap());
    let text = format!(
        "defaults\n mode http\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n{lines}\nfrontend other\n bind :81\n{by_map}"
    );
    let file = write(&folder, "haproxy.cfg", &text);
    taken(run("haproxy", "haproxy", &["-c", "-f", file.to_str().unwrap()]), &text);
}

#[test]
fn nginx_takes_the_lines_of_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let page = page("nginx.md");
    let (http, location) = (blocks(&page, "nginx-http").concat(), blocks(&page, "nginx-location").concat());
    let at = folder.path().display();
    let text = format!(
        "pid {at}/pid; error_log {at}/log; events {{}}\nhttp {{ access_log off;\n{http}\nserver {{ listen unix:{at}/web; \
         location / {{\n{location}\n}} }} }}\n"
    );
    let file = write(&folder, "nginx.conf", &text);
    let (file, prefix) = (file.to_str().unwrap(), folder.path().to_str().unwrap());
    taken(run("nginx", "nginx-light", &["-t", "-c", file, "-p", prefix]), &text);
}
