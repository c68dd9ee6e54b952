//! A secret that a file holds: read at each use and never kept, so that a new one needs no reload. Reading it never waits,
//! and never takes more than a secret is long: all controls share one thread, and the file is the operator's mistake to make.

use std::fs::OpenOptions;
use std::io::{Error, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::failure::Failure;

/// Longer than any token or password.
const MOST_BYTES: usize = 4096;

/// `what` is what sentences call the file: `token file`.
pub fn read(what: &str, file: &Path) -> Result<String, Failure> {
    text(file).map_err(|error| Failure::refused(format!("cannot read the {what} {}: {error}", file.display())))
}

/// At each use, so that a new one is taken without a reload.
pub(crate) fn token(file: &Path) -> Result<String, Failure> {
    Ok(read("token file", file)?.trim().to_owned())
}

fn text(file: &Path) -> Result<String, Error> {
    // To open a pipe waits for whoever writes to it, else.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MOST_BYTES as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MOST_BYTES {
        return Err(Error::other(format!("it is longer than {MOST_BYTES} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn nothing_but_a_short_file_is_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("token"), "abc\n").unwrap();
        assert_eq!(read("token file", &path("token")).unwrap(), "abc\n");
        assert_eq!(token(&path("token")).unwrap(), "abc");
        std::fs::write(path("long"), "x".repeat(MOST_BYTES + 1)).unwrap();
        mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        let writer = path("pipe");
        // Else a reader that waits would do so for ever.
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(5));
            OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(writer).ok()
        });
        let began = Instant::now();
        for (file, why) in [
            (path("long"), "longer than 4096 bytes"),
            (path("pipe"), "not a regular file"),
            ("/dev/zero".into(), "not a regular file"),
            (path("absent"), "cannot read the token file"),
        ] {
            let told = read("token file", &file).unwrap_err().detail;
            assert!(told.contains(why), "{told}");
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}
