//! Sockets, permits and timeouts: everything between the kernel and a whole HTTP request.
//!
//! Each kind of listener, a [`Door`], has permits of its own, taken before a connection is accepted: who
//! fills one door leaves the others open. A connection that panics takes nothing with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tracing::Instrument;

use super::sockets::Listeners;
use super::{Phase, Server, Settings};
use crate::env::Clock;

/// Which kind of listener a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// ACME, over TLS.
    Https,
    /// What certificates point at, and the page for people.
    Http,
    /// Probes.
    Metrics,
}

impl Door {
    /// In one word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Metrics => "metrics",
        }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) door: Door,
    pub(crate) peer: IpAddr,
}

impl Origin {
    /// Whether it may see health and metrics.
    pub(crate) fn may_probe(self) -> bool {
        self.door == Door::Metrics || self.peer.to_canonical().is_loopback()
    }
}

/// The doors of a running server and the permits of each.
pub(crate) struct Doors {
    permits: [(Arc<Semaphore>, u32); 3],
}

impl Doors {
    /// Starts accepting on every listener.
    pub(crate) fn open(server: &Arc<Server>, listeners: Listeners) -> io::Result<Self> {
        let [https, http, metrics] = listeners.start()?;
        let connections = u32::try_from(server.settings.connections).unwrap_or(u32::MAX >> 4);
        let permits = [
            (Door::Https, https, connections),
            (Door::Http, http, connections),
            (Door::Metrics, metrics, 16),
        ]
        .map(|(door, sockets, limit)| {
            // An accepting task holds the permit of the connection it waits for: all tasks but one
            // can wait while the limit is reached through that one.
            let waiting = u32::try_from(sockets.len()).unwrap_or(0).saturating_sub(1);
            let limit = limit.max(1).saturating_add(waiting);
            let semaphore = Arc::new(Semaphore::new(limit as usize));
            let peers = Arc::new(Peers::new(server.settings.connections_per_peer));
            for socket in sockets {
                let (server, permits, peers) = (server.clone(), semaphore.clone(), peers.clone());
                tokio::spawn(accept(server, door, socket, permits, peers));
            }
            (semaphore, limit)
        });
        Ok(Self { permits })
    }

    /// Waits until the last connection has ended and nothing accepts any more.
    pub(crate) async fn closed(&self) {
        for (semaphore, limit) in &self.permits {
            let _ = semaphore.acquire_many(*limit).await;
        }
    }
}

/// Connections of each address at one door: without a bound, one machine could take all permits.
struct Peers {
    most: usize,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// One connection's place among its peer's.
struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Peers {
    fn new(most: usize) -> Self {
        Self { most: most.max(1), open: Mutex::default() }
    }

    fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        // An IPv4 peer of an IPv6 socket is the same peer.
        let peer = peer.to_canonical();
        let mut open = self.open();
        let count = open.entry(peer).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { peers: self.clone(), peer })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.peers.open();
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

async fn accept(
    server: Arc<Server>,
    door: Door,
    listener: TcpListener,
    permits: Arc<Semaphore>,
    peers: Arc<Peers>,
) {
    let mut phase = server.phase.subscribe();
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = phase.wait_for(|phase| *phase >= Phase::Stopping) => return,
        };
        let Ok(permit) = permit else { return };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the client left between SYN and accept.
                tracing::warn!(code = "CHY-OS", %error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(place) = peers.enter(peer.ip()) else {
            server.metrics.turned_away(door);
            tracing::debug!(%peer, ?door, "closed: the peer has as many connections as it may");
            continue;
        };
        let open = server.metrics.connected(door);
        let origin = Origin { door, peer: peer.ip() };
        let span = tracing::debug_span!("connection", %peer, ?door);
        let server = server.clone();
        tokio::spawn(
            async move {
                connection(server, origin, stream).await;
                drop((place, permit, open));
            }
            .instrument(span),
        );
    }
}

async fn connection(server: Arc<Server>, origin: Origin, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    if origin.door != Door::Https {
        return converse(&server, origin, TokioIo::new(stream)).await;
    }
    let (mut stopping, mut stopped) = (server.phase.subscribe(), server.phase.subscribe());
    let handshake = tokio::select! {
        handshake = server.tls.accept(stream) => handshake,
        () = leave(&mut stopping) => return,
        _ = stopped.wait_for(|phase| *phase >= Phase::Stopped) => return,
    };
    match handshake {
        Ok(stream) => converse(&server, origin, TokioIo::new(stream)).await,
        Err(error) => {
            server.metrics.handshake_failures.inc();
            tracing::debug!(%error, "handshake failed");
        }
    }
}

/// Serves requests until the client leaves, idles too long or the server stops.
async fn converse<S>(server: &Arc<Server>, origin: Origin, stream: S)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let pulse = Arc::new(Pulse::new(server.clock.clone()));
    let service = service_fn({
        let (server, pulse) = (server.clone(), pulse.clone());
        move |request| {
            let beat = pulse.begin();
            let server = server.clone();
            async move {
                let response = super::flow::answer(&server, origin, request).await;
                drop(beat);
                Ok::<_, Infallible>(response)
            }
        }
    });
    let idle = Duration::from_secs(server.settings.idle_timeout_seconds.max(1));
    let (mut stopping, mut stopped) = (server.phase.subscribe(), server.phase.subscribe());
    let mut connection = pin!(server.http.serve_connection(stream, service));
    // Who was let in is answered once: what hyper has not read yet when it is told to shut down, it drops.
    let mut last_word = pin!(async {
        let stopping = stopping.wait_for(|phase| *phase >= Phase::Stopping).await.is_ok();
        if stopping {
            let _ = tokio::time::timeout(LAST_WORD, pulse.first.notified()).await;
        }
    });
    let mut closing = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = last_word.as_mut(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = stopped.wait_for(|phase| *phase >= Phase::Stopped) => return,
            () = tokio::time::sleep(pulse.quiet_after(idle)) => {
                if !pulse.quiet_after(idle).is_zero() {
                    continue;
                }
                if closing {
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
                pulse.touch();
            }
        }
    }
}

/// The HTTP/1.1 and HTTP/2 limits of every connection.
pub(crate) fn http(settings: &Settings) -> Builder<TokioExecutor> {
    let header = Duration::from_secs(settings.header_timeout_seconds.max(1));
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_headers(64)
        .max_buf_size(32 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(16 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(64)
        .initial_stream_window_size(128 * 1024)
        .initial_connection_window_size(256 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(header);
    builder
}

/// Returns when the server stops and a connection has had its time to say what it came for.
async fn leave(phase: &mut tokio::sync::watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase >= Phase::Stopping).await;
    tokio::time::sleep(LAST_WORD).await;
}

/// How long a stopping server waits for the handshake, and then for the first request, of a connection that it has accepted.
const LAST_WORD: Duration = Duration::from_secs(2);

/// When a connection last had a request. Control frames do not count.
struct Pulse {
    clock: Arc<dyn Clock>,
    under_way: AtomicUsize,
    /// Told at the first request, and at every other.
    first: Notify,
    /// Milliseconds of the monotonic clock.
    last: AtomicU64,
}

/// A request under way.
struct Beat(Arc<Pulse>);

impl Pulse {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let pulse = Self {
            clock,
            under_way: AtomicUsize::new(0),
            first: Notify::new(),
            last: AtomicU64::new(0),
        };
        pulse.touch();
        pulse
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    fn begin(self: &Arc<Self>) -> Beat {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.first.notify_one();
        Beat(self.clone())
    }

    /// How long until the connection has been without a request for `idle`; zero when it has.
    fn quiet_after(&self, idle: Duration) -> Duration {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            return idle;
        }
        let since = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        idle.saturating_sub(Duration::from_millis(since))
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.0.touch();
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
