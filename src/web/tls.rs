//! TLS with a key that lives elsewhere: the issuer is asked for every handshake signature and for
//! the chain. Handshakes run on a small runtime of their own, because rustls signs synchronously.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm as TlsAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::id::Timestamp;
use crate::ipc::{Answer, AskError, Issuer, Question};
use crate::pki::certificate::Certificate;
use crate::pki::key::KeyKind;

/// How long a handshake waits for its signature.
const SIGN_DEADLINE: Duration = Duration::from_secs(10);
/// How soon a signature is asked for again, at least and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Threads of the handshake runtime; a signing one hands its place over while it waits.
const THREADS: usize = 2;
/// At start the issuer may take as long to come up: nothing worth a word.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long after an answer that was none, at most: with a chain, and without.
const RELAXED: Duration = Duration::from_secs(5);
const URGENT: Duration = Duration::from_millis(500);
/// How often the chain is asked for while nothing says that there is another.
const SOONEST: Duration = Duration::from_secs(30);
const LATEST: Duration = Duration::from_secs(60);

/// The server's half of TLS 1.3 and 1.2.
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    chain: Arc<Chain>,
    known: watch::Sender<bool>,
    /// Told when the issuer has another certificate.
    stale: Arc<Notify>,
    issuer: Arc<dyn Issuer>,
    permits: Arc<Semaphore>,
    patience: Duration,
    /// Taken out when dropped: a runtime must not wait for its threads inside another one.
    runtime: Option<Runtime>,
}

impl Tls {
    /// `handshakes` bounds those that compute at once, `patience` each one's whole time.
    pub(crate) fn new(
        issuer: Arc<dyn Issuer>,
        handshakes: usize,
        patience: Duration,
    ) -> io::Result<Self> {
        let chain = Arc::new(Chain::default());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(chain.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets keep the state with the client; nothing is remembered per session here.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("tls")
            .worker_threads(THREADS)
            .max_blocking_threads(handshakes.saturating_add(THREADS))
            .enable_all()
            .build()?;
        Ok(Self {
            config: Arc::new(config),
            chain,
            known: watch::Sender::new(false),
            stale: Arc::new(Notify::new()),
            issuer,
            permits: Arc::new(Semaphore::new(handshakes.max(1))),
            patience,
            runtime: Some(runtime),
        })
    }

    /// Whether there is a certificate to serve.
    pub(crate) fn is_ready(&self) -> bool {
        *self.known.borrow()
    }

    /// Handshakes with a client. Call on the runtime that will use the stream.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let whole = tokio::time::timeout(self.patience, self.handshake(stream)).await;
        whole.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        // At start the issuer may be away: the client waits, as it does for a slow signature.
        let mut known = self.known.subscribe();
        known.wait_for(|known| *known).await.map_err(io::Error::other)?;
        let permit = self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let Some(runtime) = &self.runtime else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let config = self.config.clone();
        let task = runtime.spawn(async move {
            // The answer to the ClientHello is made, and signed, in this call; what follows waits
            // for the client, who must not be able to keep a permit by being slow.
            let accept = hello.into_stream(config);
            drop(permit);
            accept.await
        });
        Cancelling(task).await
    }

    /// Fetches the chain, and again before it expires; never ends.
    pub(crate) async fn keep_chain(&self, clock: &dyn crate::env::Clock) {
        let mut retry = Duration::from_millis(100);
        // Said when it begins, when it becomes another, and when it ends; not at every attempt.
        let mut said: Option<&'static str> = None;
        loop {
            let wait = match self.fetch_chain().await {
                Ok(not_after) => {
                    retry = Duration::from_millis(100);
                    if let Some(code) = said.take() {
                        tracing::info!(%not_after, "{code} is over: there is a TLS certificate");
                    }
                    let left = not_after.since(clock.now());
                    (left / 20).clamp(SOONEST, LATEST)
                }
                Err(why) => {
                    let code = why.code();
                    if said != Some(code) && (said.is_some() || retry >= PATIENCE) {
                        let keeps =
                            if self.is_ready() { "; the present one is served on" } else { "" };
                        tracing::warn!("{code}: no TLS certificate: {why}{keeps}; asking again");
                        said = Some(code);
                    }
                    // While handshakes wait for it, the issuer may come back at any moment.
                    let longest = if self.is_ready() { RELAXED } else { URGENT };
                    retry = (retry * 2).min(longest);
                    retry
                }
            };
            // A handshake that notices it first, or the time.
            let _ = tokio::time::timeout(wait, self.stale.notified()).await;
        }
    }

    async fn fetch_chain(&self) -> Result<Timestamp, NoChain> {
        match self.issuer.ask(Question::TlsChain).await {
            Ok(Answer::TlsChain { chain, not_after }) => {
                let chain: Vec<Vec<u8>> =
                    chain.into_iter().map(serde_bytes::ByteBuf::into_vec).collect();
                let key = certified(&self.issuer, &self.stale, chain).map_err(NoChain::Unfit)?;
                if self.chain.0.swap(Some(Arc::new(key))).is_none() {
                    tracing::info!(%not_after, "TLS certificate in place");
                }
                self.known.send_replace(true);
                Ok(not_after)
            }
            Ok(_) => Err(NoChain::Unfit("another answer than the TLS chain".into())),
            // Away altogether, or there but without a certificate: only another question tells.
            Err(AskError::Retry(_)) => match self.issuer.ask(Question::Health).await {
                Ok(_) => Err(NoChain::Pending),
                Err(_) => Err(NoChain::Away),
            },
            Err(AskError::Refused(problem) | AskError::Limited(problem, _)) => {
                Err(NoChain::Unfit(problem.detail))
            }
            Err(AskError::Broken(why)) => Err(NoChain::Unfit(why)),
        }
    }
}

/// Why there is no chain to fetch.
enum NoChain {
    Away,
    /// The issuer answers, but has no certificate for this box.
    Pending,
    Unfit(String),
}

impl NoChain {
    fn code(&self) -> &'static str {
        match self {
            Self::Away => "CHY-ISSUER-AWAY",
            Self::Pending => "CHY-TLS-PENDING",
            Self::Unfit(_) => "CHY-IPC-BROKEN",
        }
    }
}

impl fmt::Display for NoChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away => f.write_str("the issuer does not answer"),
            Self::Pending => {
                f.write_str("the issuer answers but has made none yet; its own problems say why")
            }
            Self::Unfit(why) => f.write_str(why),
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves one certificate to everyone, with SNI and without.
#[derive(Default)]
struct Chain(ArcSwapOption<CertifiedKey>);

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}

impl ResolvesServerCert for Chain {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }
}

/// The chain with the key that answers for it; leaf first, DER.
fn certified(
    issuer: &Arc<dyn Issuer>,
    stale: &Arc<Notify>,
    chain: Vec<Vec<u8>>,
) -> Result<CertifiedKey, String> {
    let leaf = chain.first().ok_or("an empty TLS chain")?;
    let leaf = Certificate::parse(leaf).map_err(|e| e.0)?;
    let key = leaf.public_key();
    let (scheme, algorithm) = match key.kind() {
        KeyKind::EcP256 => (SignatureScheme::ECDSA_NISTP256_SHA256, TlsAlgorithm::ECDSA),
        KeyKind::EcP384 => (SignatureScheme::ECDSA_NISTP384_SHA384, TlsAlgorithm::ECDSA),
        KeyKind::EcP521 => (SignatureScheme::ECDSA_NISTP521_SHA512, TlsAlgorithm::ECDSA),
        KeyKind::Ed25519 => (SignatureScheme::ED25519, TlsAlgorithm::ED25519),
        // As the issuer has RSA keys sign handshakes: TLS 1.3 takes no PKCS#1 v1.5, and 1.2 takes PSS too.
        KeyKind::Rsa(_) => (SignatureScheme::RSA_PSS_SHA256, TlsAlgorithm::RSA),
        KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => {
            return Err("an ML-DSA key answers no handshakes here".to_owned());
        }
    };
    let key = RemoteKey {
        issuer: issuer.clone(),
        stale: stale.clone(),
        spki: key.spki().to_vec().into(),
        spki_sha256: key.spki_sha256(),
        scheme,
        algorithm,
    };
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    Ok(CertifiedKey::new(chain, Arc::new(key)))
}

/// A key whose every signature is asked for.
#[derive(Clone)]
struct RemoteKey {
    issuer: Arc<dyn Issuer>,
    stale: Arc<Notify>,
    spki: Arc<[u8]>,
    spki_sha256: [u8; 32],
    scheme: SignatureScheme,
    algorithm: TlsAlgorithm,
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKey").field("scheme", &self.scheme).finish_non_exhaustive()
    }
}

impl RemoteKey {
    /// An issuer that restarts, or whose token is busy, has the client wait, as a slow signature does.
    async fn ask(&self, message: &[u8]) -> Result<Answer, AskError> {
        let asked = async {
            loop {
                let (spki_sha256, message) = (self.spki_sha256, message.to_vec());
                let question = Question::SignTlsBy { spki_sha256, message };
                match self.issuer.ask(question).await {
                    Err(AskError::Retry(after)) => {
                        tokio::time::sleep(after.clamp(AGAIN.0, AGAIN.1)).await;
                    }
                    other => return other,
                }
            }
        };
        let timed = tokio::time::timeout(SIGN_DEADLINE, asked).await;
        timed.unwrap_or(Err(AskError::Retry(SIGN_DEADLINE)))
    }
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(&*self.spki))
    }

    fn algorithm(&self) -> TlsAlgorithm {
        self.algorithm
    }
}

impl Signer for RemoteKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        // Other handshakes, resumed ones above all, go on while this thread waits.
        let answer = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.ask(message))
        });
        match answer {
            Ok(Answer::TlsSignature { signature, stale }) => {
                if stale {
                    self.stale.notify_one();
                }
                Ok(signature)
            }
            other => {
                if matches!(other, Err(AskError::Refused(_))) {
                    // The key is gone; its certificate must not be served once more.
                    self.stale.notify_one();
                }
                tracing::warn!(
                    code = "CHY-ISSUER-AWAY",
                    why = ?other.err(),
                    "no signature for a TLS handshake"
                );
                Err(rustls::Error::General("no signature".into()))
            }
        }
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// Awaits a task, and stops it when nobody awaits it any more.
struct Cancelling<T>(JoinHandle<io::Result<T>>);

impl<T> Future for Cancelling<T> {
    type Output = io::Result<T>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0)
            .poll(context)
            .map(|joined| joined.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

impl<T> Drop for Cancelling<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
