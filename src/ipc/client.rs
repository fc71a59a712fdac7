//! The web side: OS reader and writer threads over one socket, reconnecting by itself.
//!
//! While there is no connection every question is answered `Retry` at once; nothing is kept to be sent
//! later. A question whose connection breaks is answered `Retry` too: whether it was carried out is
//! unknown, and every question may be asked again.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::frame::{self, Hello, Request, Response};
use super::message::{Answer, Question, Refusal};
use super::peer::Peer;
use super::server::MAX_IN_FLIGHT;
use super::{AskError, Issuer};

/// Where the issuer listens and who it must be.
#[derive(Clone, Debug)]
pub struct Options {
    pub path: PathBuf,
    /// SHA-256 over the effective configuration; the issuer must have read the same.
    pub digest: [u8; 32],
    /// Users as whom the issuer may run.
    pub uids: Vec<u32>,
}

/// The issuer behind a unix socket. Cheap to share in an `Arc`; dropping it closes the connection.
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Starts to connect and goes on trying; does not wait for the issuer.
    pub fn start(options: Options) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            options,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("ipc-client".into())
            .spawn(move || thread.keep_connected())
            .map_err(|e| {
                format!("CHY-IPC-THREADS: cannot start a thread: {e}; raise the limit on tasks")
            })?;
        Ok(Self { shared })
    }

    /// Whether a question would be sent now.
    pub fn is_connected(&self) -> bool {
        lock(&self.shared.state).link.is_some()
    }

    /// Waits until connected, at most `deadline`, and says why not.
    pub fn wait_connected(&self, deadline: Duration) -> Result<(), AskError> {
        let state = lock(&self.shared.state);
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, deadline, |s| s.link.is_none() && s.broken.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        if state.link.is_some() { Ok(()) } else { Err(state.why_not()) }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.stopping = true;
        if let Some(link) = state.link.take() {
            let _ = link.stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Issuer for Client {
    fn ask(
        &self,
        question: Question,
    ) -> Pin<Box<dyn Future<Output = Result<Answer, AskError>> + Send + '_>> {
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            let _forget = self.shared.send(question, Waiter::Task(tell))?;
            told.await.unwrap_or(Err(AskError::Retry(AWAY)))
        })
    }

    fn ask_blocking(&self, question: Question, deadline: Duration) -> Result<Answer, AskError> {
        let (tell, told) = mpsc::sync_channel(1);
        let _forget = self.shared.send(question, Waiter::Thread(tell))?;
        told.recv_timeout(deadline).unwrap_or(Err(AskError::Retry(AWAY)))
    }
}

struct Shared {
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    link: Option<Link>,
    waiting: HashMap<u64, Waiter>,
    next: u64,
    /// Set while the other end is not one to talk to; for the operator.
    broken: Option<String>,
    stopping: bool,
}

/// A connection that has said hello.
struct Link {
    stream: Arc<UnixStream>,
    frames: mpsc::SyncSender<Vec<u8>>,
}

enum Waiter {
    Task(oneshot::Sender<Result<Answer, AskError>>),
    Thread(mpsc::SyncSender<Result<Answer, AskError>>),
}

impl Waiter {
    /// Fails when the asker has gone: then nobody waits for it.
    fn tell(self, result: Result<Answer, AskError>) {
        match self {
            Self::Task(tell) => drop(tell.send(result)),
            Self::Thread(tell) => drop(tell.try_send(result)),
        }
    }
}

impl State {
    fn why_not(&self) -> AskError {
        match &self.broken {
            Some(why) => AskError::Broken(why.clone()),
            None => AskError::Retry(AWAY),
        }
    }
}

/// Removes the entry of a question nobody waits for any more.
struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.shared.state).waiting.remove(&self.id);
    }
}

impl Shared {
    fn send(&self, question: Question, waiter: Waiter) -> Result<Forget<'_>, AskError> {
        let id = {
            let mut state = lock(&self.state);
            if state.link.is_none() {
                return Err(state.why_not());
            }
            state.next += 1;
            state.next
        };
        let frame = frame::encode(&Request { id, question })
            .map_err(|e| AskError::Broken(format!("a question does not fit a frame: {e:?}")))?;
        let mut state = lock(&self.state);
        if state.waiting.len() >= MAX_IN_FLIGHT {
            return Err(AskError::Retry(BUSY));
        }
        let Some(link) = &state.link else {
            return Err(state.why_not());
        };
        match link.frames.try_send(frame) {
            Ok(()) => {
                state.waiting.insert(id, waiter);
                Ok(Forget { shared: self, id })
            }
            Err(mpsc::TrySendError::Full(_)) => Err(AskError::Retry(BUSY)),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(AskError::Retry(AWAY)),
        }
    }

    fn keep_connected(self: &Arc<Self>) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.connect() {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    match self.converse(&stream) {
                        Ok(()) => tracing::info!("the issuer closed the connection"),
                        Err(e) => tracing::warn!(error = %e, "the connection to the issuer broke"),
                    }
                    self.disconnected(&stream);
                }
                Err(NoConnection::Away(e)) => {
                    tracing::debug!(error = %e, "the issuer is away");
                    self.set_broken(None);
                }
                Err(NoConnection::Broken(why)) => {
                    tracing::error!("{why}");
                    self.set_broken(Some(why));
                }
            }
            let state = lock(&self.state);
            let (state, _) = self
                .changed
                .wait_timeout_while(state, pause, |s| !s.stopping)
                .unwrap_or_else(PoisonError::into_inner);
            if state.stopping {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A stream on which both sides have said the same hello.
    fn connect(&self) -> Result<Arc<UnixStream>, NoConnection> {
        let mut stream = UnixStream::connect(&self.options.path)?;
        let peer = Peer::of(&stream)?;
        if !self.options.uids.contains(&peer.uid) {
            return Err(NoConnection::Broken(format!(
                "CHY-IPC-PEER: user {} answers at {}, which is not the issuer's; find out who listens there",
                peer.uid,
                self.options.path.display()
            )));
        }
        stream.set_write_timeout(Some(HELLO_TIMEOUT))?;
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        let ours = Hello::new(self.options.digest);
        stream.write_all(&ours.frame())?;
        let theirs = match frame::read_hello(&mut stream) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                return Err(NoConnection::Broken(format!(
                    "CHY-IPC-MISMATCH: what answers at {} is not an issuer",
                    self.options.path.display()
                )));
            }
            other => other?,
        };
        if theirs.version != ours.version {
            return Err(NoConnection::Broken(format!(
                "CHY-IPC-MISMATCH: this process speaks version {} and the issuer {}; restart both",
                ours.version, theirs.version
            )));
        }
        if theirs.digest != ours.digest {
            return Err(NoConnection::Broken(
                "CHY-IPC-MISMATCH: the issuer has read another configuration; restart both".into(),
            ));
        }
        stream.set_read_timeout(None)?;
        Ok(Arc::new(stream))
    }

    /// Publishes the link and reads answers until the stream ends.
    fn converse(&self, stream: &Arc<UnixStream>) -> io::Result<()> {
        let (frames, queued) = mpsc::sync_channel::<Vec<u8>>(MAX_IN_FLIGHT);
        let writing = Arc::clone(stream);
        thread::Builder::new().name("ipc-ask".into()).spawn(move || {
            if let Err(e) = write_frames(&writing, &queued) {
                tracing::warn!(error = %e, "the issuer takes no questions");
            }
            // Ends the reader too, which makes the connection anew.
            let _ = writing.shutdown(Shutdown::Both);
        })?;
        {
            let mut state = lock(&self.state);
            if state.stopping {
                return Ok(());
            }
            state.broken = None;
            state.link = Some(Link { stream: Arc::clone(stream), frames });
        }
        self.changed.notify_all();
        tracing::info!("connected to the issuer");

        let mut input = io::BufReader::with_capacity(16 * 1024, &**stream);
        let mut payload = Vec::new();
        while frame::read(&mut input, &mut payload)? {
            let response: Response = frame::decode(&payload)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a response"))?;
            let waiter = lock(&self.state).waiting.remove(&response.id);
            if let Some(waiter) = waiter {
                waiter.tell(response.result.map_err(AskError::from));
            }
        }
        Ok(())
    }

    fn disconnected(&self, stream: &UnixStream) {
        let _ = stream.shutdown(Shutdown::Both);
        let waiting = {
            let mut state = lock(&self.state);
            state.link = None;
            std::mem::take(&mut state.waiting)
        };
        self.changed.notify_all();
        for waiter in waiting.into_values() {
            waiter.tell(Err(AskError::from(Refusal::Retry(LOST_MS))));
        }
    }

    fn set_broken(&self, why: Option<String>) {
        lock(&self.state).broken = why;
        self.changed.notify_all();
    }
}

enum NoConnection {
    /// Worth trying again; nothing unusual.
    Away(io::Error),
    /// Tried again too, but an operator should know.
    Broken(String),
}

impl From<io::Error> for NoConnection {
    fn from(e: io::Error) -> Self {
        Self::Away(e)
    }
}

/// Writes questions as they come, those that wait together in one call.
fn write_frames(mut stream: &UnixStream, queued: &mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Ok(mut octets) = queued.recv() {
        while octets.len() < COALESCE {
            let Ok(more) = queued.try_recv() else {
                break;
            };
            octets.extend_from_slice(&more);
        }
        stream.write_all(&octets)?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a client of ours is told while the issuer is away.
const AWAY: Duration = Duration::from_secs(2);
const BUSY: Duration = Duration::from_secs(1);
const LOST_MS: u32 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const COALESCE: usize = 64 * 1024;
