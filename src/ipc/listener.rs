//! A listening unix socket: who may connect, how many at once, and an end that reaches every connection.
//!
//! No process may hold more than its share of the connections: whoever took one over cannot shut out the
//! successor that a supervisor starts, nor the operator.
//!
//! What is said on a connection is for whoever converses; see `server` and `admin::server`.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

use super::Trespass;
use super::peer::Peer;

/// Where to listen and whom to accept.
#[derive(Clone, Debug)]
pub(super) struct Door {
    pub(super) path: PathBuf,
    /// Permission bits of the socket. The peer's user is checked besides.
    pub(super) mode: u32,
    /// Users that may connect.
    pub(super) uids: Vec<u32>,
    /// At once.
    pub(super) connections: usize,
    /// Of those, by one process.
    pub(super) share: usize,
}

/// Hears who was turned away.
pub(super) type OnTrespass = dyn Fn(Trespass) + Send + Sync;

/// Says all there is to say on one connection; runs on a thread of its own. The second argument is the
/// peer's user, by the kernel's word.
pub(super) type Converse = dyn Fn(&Arc<UnixStream>, u32) -> io::Result<()> + Send + Sync;

/// The socket and the threads behind it. Dropping it closes both.
pub(super) struct Listener {
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds and starts to accept. The text of an error is for the operator.
    pub(super) fn start(
        door: Door,
        converse: Box<Converse>,
        trespassed: Box<OnTrespass>,
    ) -> Result<Self, String> {
        let failed = |what: &str, e: io::Error| {
            format!(
                "CHY-SOCKET: cannot {what} the socket {}: {e}; see that its directory exists and belongs to the issuer's user",
                door.path.display()
            )
        };
        clear_stale(&door.path)?;
        let listener = UnixListener::bind(&door.path).map_err(|e| failed("bind", e))?;
        // Until here the mode was what the umask left, which is never more.
        std::fs::set_permissions(&door.path, std::fs::Permissions::from_mode(door.mode))
            .map_err(|e| failed("set the mode of", e))?;
        listener.set_nonblocking(true).map_err(|e| failed("prepare", e))?;
        let (wake, woken) = UnixStream::pair().map_err(|e| failed("prepare", e))?;
        let shared = Arc::new(Shared {
            door,
            converse,
            trespassed,
            open: Mutex::new(HashMap::new()),
            stopping: AtomicBool::new(false),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("ipc-listen".into())
                .spawn(move || shared.listen(&listener, &woken))
                .map_err(|e| {
                    format!(
                        "CHY-SOCKET-THREADS: cannot start a thread: {e}; raise the limit on tasks"
                    )
                })?
        };
        Ok(Self { wake, thread: Some(thread), shared })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = self.wake.shutdown(Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in lock(&self.shared.open).values() {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        let _ = std::fs::remove_file(&self.shared.door.path);
    }
}

struct Shared {
    door: Door,
    converse: Box<Converse>,
    trespassed: Box<OnTrespass>,
    /// Connections by number, to close them at the end and to bound them.
    open: Mutex<HashMap<u64, Connection>>,
    stopping: AtomicBool,
}

struct Connection {
    stream: Arc<UnixStream>,
    /// The process that made it, by the kernel's word.
    process: i32,
}

impl Shared {
    fn listen(self: &Arc<Self>, listener: &UnixListener, woken: &UnixStream) {
        let mut number = 0u64;
        while !self.stopping.load(Ordering::SeqCst) {
            let mut waiting =
                [PollFd::new(listener, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
            match poll(&mut waiting, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    tracing::error!(error = %e, "the listener ended: poll failed");
                    return;
                }
            }
            match listener.accept() {
                Ok((stream, _)) => {
                    number += 1;
                    self.accepted(stream, number);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // Out of descriptors, or the peer went away: neither ends the listener. The wake
                // channel doubles as a timer here, so that a lack of descriptors is no busy loop.
                Err(e) => {
                    tracing::warn!(error = %e, "accept failed");
                    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
                    let _ = poll(&mut [PollFd::new(woken, PollFlags::IN)], Some(&pause));
                }
            }
        }
    }

    fn accepted(self: &Arc<Self>, stream: UnixStream, number: u64) {
        let Peer { uid, process } = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(e) => {
                tracing::warn!(error = %e, "CHY-IPC-PEER: the peer's user is unknown");
                return (self.trespassed)(Trespass::Peer);
            }
        };
        if !self.door.uids.contains(&uid) {
            tracing::warn!(uid, "CHY-IPC-PEER: a user who may not ask the issuer tried to");
            return (self.trespassed)(Trespass::Peer);
        }
        let stream = Arc::new(stream);
        if !self.enter(number, &stream, process) {
            tracing::warn!(process, "too many connections to the issuer; one was closed");
            return (self.trespassed)(Trespass::Connections);
        }
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new().name("ipc-read".into()).spawn(move || {
            let _open = Open { shared: &shared, number };
            let said = stream.set_nonblocking(false).and_then(|()| (shared.converse)(&stream, uid));
            if let Err(e) = said {
                tracing::info!(error = %e, "connection to the issuer ended");
                if e.kind() == io::ErrorKind::InvalidData {
                    (shared.trespassed)(Trespass::Frame);
                }
            }
        });
        if let Err(e) = spawned {
            tracing::warn!(error = %e, "no thread for a connection");
            lock(&self.open).remove(&number);
        }
    }

    /// Whether there is room, for this process too.
    fn enter(&self, number: u64, stream: &Arc<UnixStream>, process: i32) -> bool {
        let mut open = lock(&self.open);
        let own = open.values().filter(|connection| connection.process == process).count();
        if open.len() >= self.door.connections || own >= self.door.share {
            return false;
        }
        open.insert(number, Connection { stream: Arc::clone(stream), process });
        true
    }
}

/// Ends a connection and takes it off the list, also when its thread panics: the peer must not wait
/// for answers that cannot come.
struct Open<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(connection) = lock(&self.shared.open).remove(&self.number) {
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Removes a socket nobody answers at. One that answers means another issuer runs.
fn clear_stale(path: &Path) -> Result<(), String> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !metadata.file_type().is_socket() {
        return Err(format!(
            "CHY-SOCKET: {} exists and is not a socket; remove it or configure another state directory",
            path.display()
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!(
            "CHY-SOCKET-IN-USE: another issuer answers at {}; stop it first",
            path.display()
        ));
    }
    std::fs::remove_file(path)
        .map_err(|e| format!("CHY-SOCKET: cannot remove the stale socket {}: {e}", path.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
