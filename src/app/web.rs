//! The web process: its parts, built once, after it has confined itself.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;

use super::signals::Stop;
use super::{Failure, confine, directories, notify};
use crate::config::Config;
use crate::env::Clock;
use crate::env::system::{SystemClock, SystemDialer, SystemDisk, SystemResolver, SystemRng};
use crate::ipc::client::{Client, Options};
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::pki::policy::Policy;
use crate::store::StoreError;
use crate::store::embedded::Embedded;
use crate::validate::Validator;
use crate::web::{Listeners, Parts, StartError, Web};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), Failure> {
    super::begin(c"chancery-web")?;
    confine::no_dumps()?;
    let stop = Stop::new()?;
    let authority = super::require_authority(&config)?.clone();
    directories::prepare_web(&config.paths)?;
    // From here on this process reaches nothing but what it serves. No thread exists yet.
    let confinement = confine::web(&config)?;
    tracing::info!(%confinement, "confined");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(WORKERS)
        .thread_name("web")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("CHY-OS: no threads: {error}")))?;
    let outcome = runtime.block_on(serve(&config, &authority, stop));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn serve(config: &Config, authority: &Authority, stop: Stop) -> Result<(), Failure> {
    let listeners =
        Listeners::bind(&config.web).map_err(|error| Failure::operator(error.to_string()))?;
    let web = Web::start(parts(config, authority)?, listeners).map_err(|error| match error {
        StartError::Settings(_) => Failure::operator(error.to_string()),
        StartError::System(_) => Failure::failed(error.to_string()),
    })?;
    let stopped = stop.into_future()?;
    notify::ready("serving");
    let mut heartbeat = notify::heartbeat();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            why = web.halted() => return Err(Failure::failed(why)),
            () = heartbeat.beat() => {}
        }
    }
    notify::stopping();
    tracing::info!("stopping");
    web.shutdown().await;
    Ok(())
}

fn parts(config: &Config, authority: &Authority) -> Result<Parts, Failure> {
    let mut uids = vec![geteuid().as_raw()];
    if let Some(user) = &config.process.issuer_user {
        uids.push(directories::owner(user)?.uid);
    }
    let issuer =
        Client::start(Options { path: config.paths.socket(), digest: config.digest, uids })
            .map_err(Failure::failed)?;
    let store =
        Embedded::open(&config.paths.web().join("store.redb"), &SystemDisk).map_err(|error| {
            match error {
                StoreError::Halt(text) => Failure::operator(text),
                StoreError::Conflict | StoreError::Busy => Failure::retry(
                    "CHY-STORE: the store is in use by another process; stop it first".into(),
                ),
            }
        })?;
    let validation = &config.validation;
    let zones: Vec<_> =
        validation.resolvers.iter().map(|zone| (zone.zone.clone(), zone.servers.clone())).collect();
    let timeout = Duration::from_secs(validation.connect_timeout_seconds);
    let resolver = SystemResolver::new(&zones, timeout).map_err(Failure::operator)?;
    let validator = Validator::new(validation.clone(), Arc::new(resolver), Arc::new(SystemDialer))
        .map_err(Failure::operator)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let certificate = |pem: &str| {
        Certificate::parse_pem(pem).map_err(|why| {
            Failure::operator(format!("CHY-CA-BROKEN: ca/authority.json: a certificate: {}", why.0))
        })
    };
    Ok(Parts {
        settings: config.web.clone(),
        issuer: Arc::new(issuer),
        store: Arc::new(store),
        validator: Arc::new(validator),
        validation_concurrency: validation.concurrency,
        clock,
        rng: Arc::new(SystemRng),
        policy: Policy::new(&config.policy).map_err(|bad| {
            Failure::operator(format!("CHY-CONFIG-POLICY: `{}`: {}", bad.entry, bad.why))
        })?,
        profiles: config.profiles.clone(),
        default_profile: config.default_profile.clone(),
        root: certificate(&authority.root)?,
        issuing: certificate(authority.issuing.as_deref().unwrap_or_default())?,
        public: config.paths.public(),
    })
}

/// Two cores' worth; the token is the limit long before.
const WORKERS: usize = 2;
