//! Who is at the other end of a socket, by the kernel's word.

use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};

/// The process that connected, or listened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) uid: u32,
    /// 0 for one that has no number here, as in another container. `rustix` cannot say that.
    pub(super) process: i32,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let found = getsockopt(stream, sockopt::PeerCredentials)?;
        Ok(Self { uid: found.uid(), process: found.pid() })
    }
}
