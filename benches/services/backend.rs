//! The application behind the proxies: every request takes as long, however many there are, so that what a proxy adds
//! shows.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// Long beside what a proxy takes, and what a small page from a database does.
pub const WORK: Duration = Duration::from_millis(20);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// Ends with the bench.
pub fn serve(socket: &Path) -> Result<(), String> {
    let listener = UnixListener::bind(socket).map_err(|error| format!("no socket for the backend: {error}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // 64 KB hold what a thread needs here.
            std::thread::Builder::new().stack_size(64 << 10).spawn(move || work(stream)).ok();
        }
    });
    Ok(())
}

fn work(mut stream: UnixStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).is_ok_and(|length| length > 0) {
        std::thread::sleep(WORK);
        if stream.write_all(ANSWER).is_err() {
            return;
        }
    }
}
