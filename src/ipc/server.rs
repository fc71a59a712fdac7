//! The issuer side: accepts, checks the peer and the hello, calls the `Service`.
//!
//! Whoever is at the other end may be taken over. It can close its own connection by nonsense, and it
//! can wait for its own answers; it cannot make this process allocate without bound, panic or stop
//! serving others.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::Service;
use super::frame::{self, Hello, Request, Response};
use super::listener::{Door, Listener};
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
    _listener: Listener,
}

impl Server {
    /// Binds and starts to serve. The text of an error is for the operator.
    pub fn start(options: Options, service: Arc<dyn Service>) -> Result<Self, String> {
        let Options { path, mode, digest, uids } = options;
        let door = Door { path, mode, uids, connections: MAX_CONNECTIONS, share: MAX_PER_PROCESS };
        let told = Arc::clone(&service);
        let shared = Shared { digest, service };
        let converse = move |stream: &Arc<UnixStream>, _: u32| shared.converse(stream);
        Ok(Self {
            _listener: Listener::start(
                door,
                Box::new(converse),
                Box::new(move |what| told.trespassed(what)),
            )?,
        })
    }
}

struct Shared {
    digest: [u8; 32],
    service: Arc<dyn Service>,
}

impl Shared {
    /// Hello, then requests until the peer leaves or breaks the rules.
    fn converse(&self, stream: &Arc<UnixStream>) -> io::Result<()> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let ours = Hello::new(self.digest);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One web process, its successor during a restart, and a few of the operator's tools.
const MAX_CONNECTIONS: usize = 8;
/// Of those, by one process. The web process needs one, and a second while it reconnects.
pub(super) const MAX_PER_PROCESS: usize = 4;
/// Requests under way per connection.
pub(super) const MAX_IN_FLIGHT: usize = 1024;
/// Octets of questions under way per connection; one larger question alone may pass.
const MAX_OCTETS: usize = 8 * 1024 * 1024;
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const COALESCE: usize = 64 * 1024;
const LOST_MS: u32 = 1000;
