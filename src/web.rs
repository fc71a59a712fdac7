//! The network-facing process: listens, parses, validates, owns orders. Has no PIN, no module, no key.
//!
//! A request passes `listen` (permits, timeouts), `tls`, `route` and the pipeline of `flow`, which hands
//! it to one file per ACME request. What outlives a request runs in `validation` (probing challenges),
//! `issuance` (asking the issuer for certificates) and `upkeep`; all three are begun again from the store
//! after a restart, so nothing of them needs to be stopped with care.

mod caa;
pub mod chains;
pub mod flow;
mod issuance;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod page;
mod patience;
mod permits;
mod public;
pub mod route;
mod sockets;
mod standing;
mod tiles;
pub mod tls;
mod upkeep;
mod validation;
pub mod witness;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper_util::rt::TokioExecutor;
use tokio::sync::{Semaphore, watch};

use crate::acme::directory::{Meta, Resource, Urls};
use crate::acme::nonce::Nonces;
use crate::env::{Clock, Rng};
use crate::ipc::{Answer, Issuer, Question};
use crate::pki::certificate::Certificate;
use crate::pki::policy::{Network, Policy};
use crate::pki::profile::Profile;
use crate::store::Store;
use crate::tlog::note::VerifierKey;
use crate::validate::Validator;

pub use chains::Issuing;
pub use sockets::{Addresses, BindError, Listeners};

use serde::{Deserialize, Serialize};

/// The `[web]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// The https URL clients are given, without trailing slash. Fixed for life: account URLs contain it.
    pub base_url: String,
    /// Addresses of the ACME listener (HTTPS).
    pub listen: Vec<std::net::SocketAddr>,
    /// Addresses of the plain HTTP listener for CRLs, chains and /root.pem. Port 80 but in labs.
    pub listen_http: Vec<std::net::SocketAddr>,
    /// Where /metrics, /healthz and /readyz answer besides; empty: on the HTTPS listener only for loopback peers.
    pub listen_metrics: Vec<std::net::SocketAddr>,
    pub terms_of_service: Option<String>,
    pub website: Option<String>,
    /// Connections open at once on the HTTPS listeners, and as many again on the plain ones.
    pub connections: usize,
    /// Of those, connections of one address; what is beyond is closed.
    pub connections_per_peer: usize,
    /// TLS handshakes that wait for a signature at once.
    pub handshakes: usize,
    /// A whole TLS handshake, the wait for its signature included.
    pub handshake_timeout_seconds: u64,
    /// A request's header; for HTTP/1.1 the wait for the next request counts too.
    pub header_timeout_seconds: u64,
    /// A request's body.
    pub body_timeout_seconds: u64,
    /// A connection without a request under way is closed after so long.
    pub idle_timeout_seconds: u64,
    /// How long requests under way may take when the server stops.
    pub grace_seconds: u64,
    /// Lifetime of a pending order and authorization.
    pub order_hours: u64,
    /// Lifetime of a valid authorization.
    pub authorization_hours: u64,
    /// How long ended orders are kept.
    pub retention_days: u64,
    /// After how long clients ask again when to renew.
    pub renewal_info_hours: u64,
    /// Who may read the log's entries, which name every host; nobody if empty, and then they are not published.
    pub log_entries_for: Vec<Network>,
    pub limits: limits::Settings,
    /// Whom this log's checkpoints are brought to.
    pub witnesses: Vec<witness::Settings>,
}

impl Settings {
    /// The vkeys of `witnesses`. The text of an error is for the operator.
    pub fn witness_keys(&self) -> Result<Vec<VerifierKey>, String> {
        self.witnesses.iter().map(witness::Settings::key).collect()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            base_url: "https://localhost:8443".into(),
            listen: Vec::new(),
            listen_http: Vec::new(),
            listen_metrics: Vec::new(),
            terms_of_service: None,
            website: None,
            connections: 1024,
            connections_per_peer: 256,
            handshakes: 32,
            handshake_timeout_seconds: 10,
            header_timeout_seconds: 10,
            body_timeout_seconds: 10,
            idle_timeout_seconds: 60,
            grace_seconds: 10,
            order_hours: 168,
            authorization_hours: 720,
            retention_days: 30,
            renewal_info_hours: 6,
            log_entries_for: Vec::new(),
            limits: limits::Settings::default(),
            witnesses: Vec::new(),
        }
    }
}

/// What a server is made of.
pub struct Parts {
    pub settings: Settings,
    pub issuer: Arc<dyn Issuer>,
    pub store: Arc<dyn Store>,
    pub validator: Arc<Validator>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub policy: Policy,
    pub profiles: Vec<Profile>,
    /// Profile of orders that name none; one of `profiles`.
    pub default_profile: String,
    /// `[issuer] external-account-required`; said here, held there.
    pub external_account_required: bool,
    pub root: Certificate,
    /// The issuing CAs, oldest first.
    pub issuers: Vec<Issuing>,
    /// The directory the issuer publishes into.
    pub public: PathBuf,
    /// Whether this box is a witness of other logs.
    pub cosigns: bool,
    /// What reaches the witnesses of this log; `None`: it has none.
    pub courier: Option<witness::Courier>,
}

/// Why a server cannot be made. `Display` is for the operator.
#[derive(Debug)]
pub enum StartError {
    /// The base URL or the default profile makes no sense.
    Settings(String),
    /// No threads, no TLS.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(why) => write!(f, "CHY-CONFIG-VALUE: {why}"),
            Self::System(error) => write!(f, "CHY-OS: the web server cannot start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// How far a server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Accepts nothing; requests under way are answered.
    Stopping,
    /// Connections that still live are cut.
    Stopped,
}

/// A server that runs on the current tokio runtime.
pub struct Web {
    server: Arc<Server>,
    doors: listen::Doors,
    addresses: Addresses,
}

impl Web {
    /// Starts serving. Must be called on a multi-threaded tokio runtime. What an earlier process left unfinished in the store is taken up.
    pub fn start(mut parts: Parts, listeners: Listeners) -> Result<Self, StartError> {
        let addresses = listeners.addresses();
        let courier = parts.courier.take();
        let server = Arc::new(Server::new(parts)?);
        let doors = listen::Doors::open(&server, listeners).map_err(StartError::System)?;
        upkeep::start(&server);
        if let Some(courier) = courier {
            let carries = server.clone();
            server.spawn(async move { courier.keep(&carries).await });
        }
        tracing::info!(
            directory = %server.urls.url(Resource::Directory),
            https = ?addresses.https,
            http = ?addresses.http,
            metrics = ?addresses.metrics,
            "serving"
        );
        Ok(Self { server, doors, addresses })
    }

    /// Where it really listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until nothing more can be served: the store no longer knows what it holds. The text is
    /// for the operator; the process should end, and recovers when it is started again.
    pub async fn halted(&self) -> String {
        let mut halt = self.server.halt.subscribe();
        match halt.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns when threads of every kind that serves have had their turn: the proof that none of them hangs.
    pub async fn turns(&self) {
        // A store call waits for a blocking thread, everything else for a worker.
        let turn = tokio::spawn(async { tokio::task::spawn_blocking(|| ()).await });
        let _ = turn.await;
    }

    /// What this process is doing, in one line.
    pub async fn summary(&self) -> String {
        let issuer = match self.server.issuer.ask(Question::Health).await {
            Ok(Answer::Health(health)) if health.ready => "the issuer is ready".to_owned(),
            Ok(Answer::Health(health)) => match health.problems.first() {
                Some((code, _)) => format!("the issuer is not ready: {code}"),
                None => "the issuer is not ready".to_owned(),
            },
            _ => "the issuer does not answer".to_owned(),
        };
        format!("serving; {issuer}")
    }

    /// Accepts nothing more, answers what is under way, and cuts what is left after `grace-seconds`.
    pub async fn shutdown(self) {
        self.server.phase.send_replace(Phase::Stopping);
        let grace = Duration::from_secs(self.server.settings.grace_seconds);
        if tokio::time::timeout(grace, self.doors.closed()).await.is_err() {
            tracing::info!("cutting connections that outlasted the grace period");
        }
        self.server.phase.send_replace(Phase::Stopped);
        let _ = tokio::time::timeout(Duration::from_secs(1), self.doors.closed()).await;
    }
}

/// What every connection and task shares.
pub(crate) struct Server {
    pub(crate) settings: Settings,
    pub(crate) urls: Urls,
    pub(crate) issuer: Arc<dyn Issuer>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) validator: Arc<Validator>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) policy: Policy,
    pub(crate) profiles: Vec<Profile>,
    pub(crate) default_profile: String,
    pub(crate) external_account_required: bool,
    pub(crate) chains: chains::Chains,
    pub(crate) public: PathBuf,
    pub(crate) cosigns: bool,
    /// Requests to this box as a witness that the issuer has.
    pub(crate) cosigning: Semaphore,
    pub(crate) shelf: public::Shelf,
    pub(crate) nonces: Nonces,
    pub(crate) limits: limits::Limits,
    /// Where a client finds what the limits are.
    pub(crate) help: String,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) tls: tls::Tls,
    pub(crate) http: hyper_util::server::conn::auto::Builder<TokioExecutor>,
    pub(crate) validations: validation::Validations,
    pub(crate) issuances: issuance::Issuances,
    /// Of those who are told to come back.
    pub(crate) spread: patience::Spread,
    /// Renewal information that is being asked for.
    pub(crate) renewals: Semaphore,
    /// Tiles, entries and proofs that are being read.
    pub(crate) tiles: Semaphore,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) halt: watch::Sender<Option<String>>,
    /// The directory object and the page: they never change.
    pub(crate) directory: Bytes,
    pub(crate) page: Bytes,
    /// The Link header back to the directory.
    pub(crate) index: HeaderValue,
}

impl Server {
    fn new(parts: Parts) -> Result<Self, StartError> {
        let settings = parts.settings;
        let started = parts.clock.now();
        let urls = Urls::new(&settings.base_url)
            .map_err(|why| StartError::Settings(format!("[web] base-url: {why}")))?;
        if !parts.profiles.iter().any(|profile| profile.name == parts.default_profile) {
            let name = &parts.default_profile;
            return Err(StartError::Settings(format!("default-profile: no profile {name:?}")));
        }
        let index = flow::link(&urls.url(Resource::Directory), "index")
            .ok_or_else(|| StartError::Settings("[web] base-url is no header text".into()))?;
        let meta = Meta {
            terms_of_service: settings.terms_of_service.clone(),
            website: settings.website.clone(),
            caa_identities: parts.validator.caa_identities().to_vec(),
            issuer_domain_names: parts.validator.issuer_domain_names().to_vec(),
            external_account_required: parts.external_account_required,
            subdomain_auth_allowed: parts.policy.subdomains(),
            profiles: parts
                .profiles
                .iter()
                .map(|profile| (profile.name.clone(), profile.description.clone()))
                .collect(),
        };
        let mut nonce_key = [0; 32];
        parts.rng.fill(&mut nonce_key);
        let tls = tls::Tls::new(
            parts.issuer.clone(),
            settings.handshakes,
            Duration::from_secs(settings.handshake_timeout_seconds.max(1)),
        )
        .map_err(StartError::System)?;
        Ok(Self {
            directory: urls.directory(&meta, &[Resource::NewAuthz, Resource::RenewalInfo]).into(),
            page: page::render(
                &urls,
                &parts.root,
                &parts.profiles,
                meta.terms_of_service.as_deref(),
                &settings.limits,
            )
            .into(),
            chains: chains::Chains::new(parts.issuers)?,
            help: format!("{}/#limits", urls.base()),
            index,
            http: listen::http(&settings),
            limits: limits::Limits::new(settings.limits.clone()),
            settings,
            urls,
            issuer: parts.issuer,
            store: parts.store,
            validator: parts.validator,
            clock: parts.clock,
            rng: parts.rng,
            policy: parts.policy,
            profiles: parts.profiles,
            default_profile: parts.default_profile,
            external_account_required: parts.external_account_required,
            public: parts.public,
            cosigns: parts.cosigns,
            cosigning: Semaphore::new(flow::COSIGNING),
            shelf: public::Shelf::default(),
            nonces: Nonces::new(nonce_key),
            metrics: metrics::Metrics::new(started),
            tls,
            validations: validation::Validations::default(),
            issuances: issuance::Issuances::new(),
            spread: patience::Spread::default(),
            renewals: Semaphore::new(flow::RENEWALS),
            tiles: Semaphore::new(tiles::CONCURRENCY),
            phase: watch::Sender::new(Phase::Serving),
            halt: watch::Sender::new(None),
        })
    }

    /// Runs a task until it ends or the server stops. The store must be able to begin it again.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let mut phase = self.phase.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                _ = phase.wait_for(|phase| *phase >= Phase::Stopping) => {}
            }
        });
    }

    /// The store no longer knows what it holds: nothing more is served.
    pub(crate) fn halt(&self, why: String) {
        tracing::error!(code = "CHY-STORE", %why, "the store halted");
        self.halt.send_replace(Some(why));
    }
}
