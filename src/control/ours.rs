//! Whether an address is one of this node's, in the network namespace of the guardian: only then is a port at it one of
//! the ports that rules are about.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};

/// Whatever the kernel does not clearly deny may be ours.
#[must_use]
pub fn is_ours(address: IpAddr) -> bool {
    // Binding sends nothing.
    let denied = |error: std::io::Error| error.kind() == ErrorKind::AddrNotAvailable;
    address.is_loopback() || !UdpSocket::bind((address, 0)).is_err_and(denied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_ours_and_what_is_set_aside_for_documentation_is_not() {
        for (address, ours) in [("127.0.0.1", true), ("127.8.9.10", true), ("192.0.2.7", false), ("203.0.113.9", false)]
        {
            assert_eq!(is_ours(address.parse().unwrap()), ours, "{address}");
        }
    }
}
