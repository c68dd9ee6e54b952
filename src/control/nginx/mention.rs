//! Whether nginx's configuration looks for the flags, as far as that can be told: where Debian keeps it, and no further.
//! Whoever keeps it elsewhere is not contradicted.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

const FOLDERS: [&str; 5] = ["", "conf.d", "sites-enabled", "snippets", "modules-enabled"];
/// More than that is not looked through.
const FILES: usize = 256;
const BYTES: u64 = 256 << 10;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mention {
    In(PathBuf),
    /// All of it could be read, and none names them.
    Nowhere,
    Unknown,
}

pub fn of(flags: &Path, root: &Path) -> Mention {
    let mut files = Vec::new();
    for folder in FOLDERS.map(|folder| root.join(folder)) {
        match fs::read_dir(&folder) {
            Ok(entries) => files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder != root => {}
            Err(_) => return Mention::Unknown,
        }
        if files.len() > FILES {
            return Mention::Unknown;
        }
    }
    let wanted = flags.as_os_str().as_encoded_bytes();
    let mut unread = false;
    for file in files {
        match read(&file) {
            Some(text) if text.windows(wanted.len().max(1)).any(|window| window == wanted) => return Mention::In(file),
            Some(_) => {}
            None => unread = true,
        }
    }
    if unread { Mention::Unknown } else { Mention::Nowhere }
}

/// `None` where it cannot be read whole.
fn read(file: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(file).ok()?.take(BYTES).read_to_end(&mut text).ok()?;
    ((text.len() as u64) < BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mention_is_found_or_ruled_out_or_neither() {
        let etc = tempfile::tempdir().unwrap();
        let flags = Path::new("/run/node-guardian/nginx");
        let look = || of(flags, etc.path());
        fs::write(etc.path().join("nginx.conf"), "http { include /etc/nginx/conf.d/*.conf; }").unwrap();
        assert_eq!(look(), Mention::Nowhere);
        fs::create_dir(etc.path().join("conf.d")).unwrap();
        let site = etc.path().join("conf.d/site.conf");
        fs::write(&site, "if (-f /run/node-guardian/nginx/shed-$ngb) { return 503; }").unwrap();
        assert_eq!(look(), Mention::In(site.clone()));
        fs::write(&site, vec![b' '; BYTES as usize]).unwrap();
        assert_eq!(look(), Mention::Unknown, "not read to its end");
        assert_eq!(of(flags, &etc.path().join("elsewhere")), Mention::Unknown);
    }
}
