//! The unit files, by systemd's own opinion of them. Needs no systemd to be running.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

use super::{file, text};

/// Tenths of the exposure that `systemd-analyze security` counts; what is left, and why, is in docs/security.md.
const MOST_EXPOSED: u32 = 20;

fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("systemd-analyze: {error}: run `apt-get install systemd`"));
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), told.into_owned())
}

/// As shipped, but of programs that are there: `verify` looks for them.
fn installed() -> (TempDir, String) {
    let folder = TempDir::new().unwrap();
    let binary = env!("CARGO_BIN_EXE_node-guardian");
    let service = text("systemd/node-guardian.service").replace("/usr/bin/node-guardian", binary);
    let path = folder.path().join("node-guardian.service");
    fs::write(&path, service).unwrap();
    fs::copy(file("systemd/guardian.slice"), folder.path().join("guardian.slice")).unwrap();
    (folder, path.display().to_string())
}

fn setting<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

#[test]
fn systemd_has_nothing_to_complain_about() {
    let (folder, service) = installed();
    let slice = folder.path().join("guardian.slice").display().to_string();
    let socket = folder.path().join("node-guardian.socket");
    fs::copy(file("systemd/node-guardian.socket"), &socket).unwrap();
    let socket = socket.display().to_string();
    // The manual pages are not installed here.
    let (sound, told) = analyze(&["verify", "--man=no", &slice, &service, &socket]);
    assert!(sound && told.is_empty(), "{told}");
}

#[test]
fn the_socket_unit_listens_where_the_guardian_does() {
    let listen = node_guardian::config::settings::Settings::default().http.listen.unwrap().to_string();
    assert_eq!(setting(&text("systemd/node-guardian.socket"), "ListenStream"), [listen]);
}

#[test]
fn the_sandbox_is_tight() {
    let (_folder, service) = installed();
    let threshold = format!("--threshold={MOST_EXPOSED}");
    let (tight, told) = analyze(&["security", "--no-pager", "--offline=yes", &threshold, &service]);
    assert!(tight, "{told}");
}

#[test]
fn no_point_of_exposure_is_without_its_reason() {
    let (_folder, service) = installed();
    let (_, told) = analyze(&["security", "--no-pager", "--offline=yes", &service]);
    let page = text("docs/security.md");
    let open = told.lines().filter_map(|line| line.strip_prefix('✗'));
    let counted = open.filter(|line| line.split_whitespace().last().is_some_and(|last| last.parse::<f64>().is_ok()));
    let settings: Vec<&str> = counted.filter_map(|line| line.trim().split('=').next()).collect();
    assert!(settings.len() > 10, "{told}");
    for setting in settings {
        assert!(page.contains(&format!("`{setting}=`")), "docs/security.md does not say why {setting} is open: {told}");
    }
}

#[test]
fn a_reload_checks_first_and_a_start_never_does() {
    let service = text("systemd/node-guardian.service");
    let check = "/usr/bin/node-guardian check";
    assert!(setting(&service, "ExecStartPre").is_empty(), "it would keep the node unguarded");
    assert_eq!(setting(&service, "ExecReload")[0], check);
    assert!(setting(&service, "ExecReload")[1].contains("kill -HUP"));
}

#[test]
fn an_installation_with_a_bad_configuration_warns_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let says = |code: u8| {
        let check = folder.path().join("node-guardian");
        fs::write(&check, format!("#!/bin/sh\necho 'config.toml:1:1: unknown key'\nexit {code}\n")).unwrap();
        fs::set_permissions(&check, fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let script = file("packaging/deb/debian/node-guardian.postinst");
        let output = Command::new("sh").arg(script).arg("configure").env("PATH", path).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(says(0), (true, String::new()));
    let (installed, told) = says(78);
    assert!(installed && told.contains("config.toml:1:1: unknown key") && told.contains("systemctl reload"), "{told}");
}

#[test]
fn the_slice_protects_as_much_as_the_service_asks_for() {
    let (service, slice) = (text("systemd/node-guardian.service"), text("systemd/guardian.slice"));
    assert_eq!(setting(&service, "Slice"), ["guardian.slice"]);
    assert_eq!(setting(&service, "MemoryMin"), setting(&slice, "MemoryMin"));
}

#[test]
fn the_examples_compile() {
    let mut seen = 0;
    for example in fs::read_dir(file("packaging/examples")).unwrap() {
        let source = node_guardian::config::Source { file: Some(example.unwrap().path()), ..Default::default() };
        node_guardian::config::load(&source).unwrap_or_else(|complaints| panic!("{complaints}"));
        seen += 1;
    }
    assert!(seen > 0);
}
