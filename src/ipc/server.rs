//! The issuer side: accepts, checks the peer and the hello, calls the `Service`.
//!
//! Whoever is at the other end may be taken over. It can close its own connection by nonsense, and it
//! can wait for its own answers; it cannot make this process allocate without bound, panic or stop
//! serving others.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::Service;
use super::frame::{self, Hello, Request, Response};
use super::message::{MAX_FRAME, Refusal};

/// Where to listen and whom to serve.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// Permission bits of the socket. The peer's user is checked besides.
    pub mode: u32,
    /// SHA-256 over the effective configuration; the peer must have read the same.
    pub digest: [u8; 32],
    /// Users that may connect.
    pub uids: Vec<u32>,
}

/// A listening socket and the threads behind it. Dropping it closes both.
pub struct Server {
    wake: UnixStream,
    listener: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Server {
    /// Binds and starts to serve. The text of an error is for the operator.
    pub fn start(options: Options, service: Arc<dyn Service>) -> Result<Self, String> {
        let failed = |what: &str, e: io::Error| {
            format!(
                "CHY-SOCKET: cannot {what} the socket {}: {e}; see that its directory exists and belongs to the issuer's user",
                options.path.display()
            )
        };
        clear_stale(&options)?;
        let listener = UnixListener::bind(&options.path).map_err(|e| failed("bind", e))?;
        // Until here the mode was what the umask left, which is never more.
        std::fs::set_permissions(&options.path, std::fs::Permissions::from_mode(options.mode))
            .map_err(|e| failed("set the mode of", e))?;
        listener.set_nonblocking(true).map_err(|e| failed("prepare", e))?;
        let (wake, woken) = UnixStream::pair().map_err(|e| failed("prepare", e))?;
        let path = options.path.clone();
        let shared = Arc::new(Shared {
            options,
            service,
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
        Ok(Self { wake, listener: Some(thread), shared, path })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = self.wake.shutdown(Shutdown::Both);
        if let Some(thread) = self.listener.take() {
            let _ = thread.join();
        }
        for stream in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

struct Shared {
    options: Options,
    service: Arc<dyn Service>,
    /// Connections by number, to close them at the end and to bound them.
    open: Mutex<HashMap<u64, Arc<UnixStream>>>,
    stopping: AtomicBool,
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
        match rustix::net::sockopt::socket_peercred(&stream) {
            Ok(peer) if self.options.uids.contains(&peer.uid.as_raw()) => {}
            Ok(peer) => {
                tracing::warn!(
                    uid = peer.uid.as_raw(),
                    "CHY-IPC-PEER: a user who may not ask the issuer tried to"
                );
                return;
            }
            Err(e) => {
                tracing::warn!(error = %e, "CHY-IPC-PEER: the peer's user is unknown");
                return;
            }
        }
        let stream = Arc::new(stream);
        {
            let mut open = lock(&self.open);
            if open.len() >= MAX_CONNECTIONS {
                tracing::warn!("too many connections to the issuer; one was closed");
                return;
            }
            open.insert(number, Arc::clone(&stream));
        }
        let shared = Arc::clone(self);
        let spawned = thread::Builder::new().name("ipc-read".into()).spawn(move || {
            let _open = Open { shared: &shared, number };
            if let Err(e) = shared.converse(&stream) {
                tracing::info!(error = %e, "connection to the issuer ended");
            }
        });
        if let Err(e) = spawned {
            tracing::warn!(error = %e, "no thread for a connection");
            lock(&self.open).remove(&number);
        }
    }

    /// Hello, then requests until the peer leaves or breaks the rules.
    fn converse(self: &Arc<Self>, stream: &Arc<UnixStream>) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let ours = Hello::new(self.options.digest);
        let theirs = frame::read_hello(&mut &**stream)?;
        (&**stream).write_all(&ours.frame())?;
        if theirs != ours {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "CHY-IPC-MISMATCH: the peer is of another version or has read another configuration",
            ));
        }
        stream.set_read_timeout(None)?;

        let gate = Arc::new(Gate::default());
        let (answers, queued) = mpsc::channel::<Queued>();
        let writer = {
            let (stream, gate) = (Arc::clone(stream), Arc::clone(&gate));
            thread::Builder::new().name("ipc-write".into()).spawn(move || {
                if let Err(e) = write_answers(&stream, &queued) {
                    tracing::info!(error = %e, "the peer takes no answers");
                }
                // Whichever side ends first ends the other.
                gate.close();
                let _ = stream.shutdown(Shutdown::Both);
            })?
        };
        let result = self.read_requests(stream, &gate, answers);
        // The writer ends when the last pending reply is gone; it needs no join.
        drop(writer);
        gate.close();
        result
    }

    fn read_requests(
        &self,
        stream: &UnixStream,
        gate: &Arc<Gate>,
        answers: mpsc::Sender<Queued>,
    ) -> io::Result<()> {
        let mut input = io::BufReader::with_capacity(16 * 1024, stream);
        let mut payload = Vec::new();
        while frame::read(&mut input, &mut payload)? {
            let Some(slot) = Gate::enter(gate, payload.len()) else {
                return Ok(());
            };
            let request: Request = frame::decode(&payload)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a request"))?;
            payload.shrink_to(64 * 1024);
            let pending = Pending { id: request.id, answer: Some((answers.clone(), slot)) };
            self.service.call(request.question, Box::new(move |result| pending.send(result)));
        }
        Ok(())
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
        if let Some(stream) = lock(&self.shared.open).remove(&self.number) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// An encoded answer and the place it holds until it is written.
type Queued = (Vec<u8>, Slot);

/// A reply that is owed. Dropped unsent, it tells the peer to ask again.
struct Pending {
    id: u64,
    answer: Option<(mpsc::Sender<Queued>, Slot)>,
}

impl Pending {
    fn send(mut self, result: Result<super::Answer, Refusal>) {
        self.queue(result);
    }

    fn queue(&mut self, result: Result<super::Answer, Refusal>) {
        let Some((answers, slot)) = self.answer.take() else {
            return;
        };
        let response = Response { id: self.id, result };
        let frame = frame::encode(&response).or_else(|e| {
            tracing::error!(error = ?e, limit = MAX_FRAME, "an answer does not fit a frame");
            frame::encode(&Response { id: self.id, result: Err(Refusal::Retry(LOST_MS)) })
        });
        if let Ok(frame) = frame {
            // Fails when the connection has ended: then nobody waits for it.
            let _ = answers.send((frame, slot));
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.queue(Err(Refusal::Retry(LOST_MS)));
    }
}

/// Bounds what one connection has under way: requests read whose answers are not yet written. Beyond,
/// nothing more is read from it.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    freed: Condvar,
}

#[derive(Default)]
struct GateState {
    requests: usize,
    octets: usize,
    closed: bool,
}

impl Gate {
    /// Waits for room. `None` once the connection is closed.
    fn enter(gate: &Arc<Self>, octets: usize) -> Option<Slot> {
        let mut state = lock(&gate.state);
        while !state.closed
            && (state.requests >= MAX_IN_FLIGHT
                || (state.requests > 0 && state.octets + octets > MAX_OCTETS))
        {
            state = gate.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return None;
        }
        state.requests += 1;
        state.octets += octets;
        Some(Slot { gate: Arc::clone(gate), octets })
    }

    fn close(&self) {
        lock(&self.state).closed = true;
        self.freed.notify_all();
    }
}

struct Slot {
    gate: Arc<Gate>,
    octets: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.gate.state);
        state.requests -= 1;
        state.octets -= self.octets;
        drop(state);
        self.gate.freed.notify_one();
    }
}

/// Writes answers as they come, those that wait together in one call.
fn write_answers(mut stream: &UnixStream, queued: &mpsc::Receiver<Queued>) -> io::Result<()> {
    let mut slots = Vec::new();
    while let Ok((mut octets, slot)) = queued.recv() {
        slots.push(slot);
        while octets.len() < COALESCE {
            let Ok((more, slot)) = queued.try_recv() else {
                break;
            };
            octets.extend_from_slice(&more);
            slots.push(slot);
        }
        stream.write_all(&octets)?;
        slots.clear();
    }
    Ok(())
}

/// Removes a socket nobody answers at. One that answers means another issuer runs.
fn clear_stale(options: &Options) -> Result<(), String> {
    let path = &options.path;
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

/// One web process, its successor during a restart, and a few of the operator's tools.
const MAX_CONNECTIONS: usize = 8;
/// Requests under way per connection.
pub(super) const MAX_IN_FLIGHT: usize = 1024;
/// Octets of questions under way per connection; one larger question alone may pass.
const MAX_OCTETS: usize = 8 * 1024 * 1024;
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const COALESCE: usize = 64 * 1024;
const LOST_MS: u32 = 1000;
