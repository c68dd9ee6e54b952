//! A socket that a service manager made before the guardian: it is used where it is what was asked for, and told where not.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::http::house::exchange;
use crate::support::node::{Daemon, EXECUTABLE, Node};

/// As systemd does: descriptor 3, and whose it is by number.
fn start_with(node: &Node, socket: BorrowedFd<'_>) -> Daemon {
    let socket = socket.try_clone_to_owned().unwrap();
    let hand_over = move || {
        // SAFETY: two system calls, between fork and exec.
        match unsafe { (libc::dup2(socket.as_raw_fd(), 3), libc::fcntl(3, libc::F_SETFD, 0)) } {
            (3, 0) => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let mut command = Command::new("sh");
    command.args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"", EXECUTABLE]);
    // SAFETY: it allocates nothing.
    unsafe { command.pre_exec(hand_over) };
    let mut daemon = node.launch(command);
    daemon.until("the first tick", |daemon| (daemon.try_get("/status")?.json()["tick"].as_u64()? > 0).then_some(()));
    daemon
}

fn answers(address: SocketAddr) -> bool {
    let Ok(stream) = TcpStream::connect(address) else { return false };
    exchange(stream, b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").status == 200
}

#[test]
fn the_port_is_the_guardians_before_it_starts() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let node = Node::listening("", &address.to_string());
    let daemon = start_with(&node, socket.as_fd());
    assert!(answers(address));
    let lost = daemon.told("source_lost").concat();
    assert!(!lost.contains(&address.to_string()) && !lost.contains("service manager"), "{lost}");
    assert_eq!(daemon.stop(), 0);
    let again = start_with(&node, socket.as_fd());
    assert!(answers(address), "the same socket as before");
    assert_eq!(again.stop(), 0);
}

#[test]
fn what_was_not_asked_for_is_told_and_not_used() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let node = Node::listening("", &address.to_string());
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let elsewhere = format!("it listens at {}", other.local_addr().unwrap());
    let silent = TcpStream::connect(other.local_addr().unwrap()).unwrap();
    let local = UnixListener::bind(node.path("other.sock")).unwrap();
    let wrong =
        [(other.as_fd(), &*elsewhere), (silent.as_fd(), "does not listen"), (local.as_fd(), "is not a TCP socket")];
    for (socket, why) in wrong {
        let mut daemon = start_with(&node, socket);
        let told = daemon.until_told("source_lost", why);
        assert!(told.text().contains(&format!("ListenStream={address}")), "{}", told.text());
        daemon.until("its own port", |_| answers(address).then_some(()));
        assert_eq!(daemon.stop(), 0);
    }
}
