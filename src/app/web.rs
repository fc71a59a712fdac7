//! The web process: its parts, built once, after it has confined itself.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;

use super::notify::Manager;
use super::signals::Stop;
use super::{Failure, confine, directories, snapshot};
use crate::config::Config;
use crate::env::system::{
    Resolving, SystemClock, SystemDialer, SystemDisk, SystemResolver, SystemRng, ZoneServers,
};
use crate::env::{Clock, Dialer, Disk, Resolver};
use crate::ipc::client::{Client, Options};
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::pki::cross::{self, Tied};
use crate::pki::policy::Policy;
use crate::store::StoreError;
use crate::store::embedded::Embedded;
use crate::validate::Validator;
use crate::web::witness::{Courier, Target};
use crate::web::{BindError, Issuing, Listeners, Parts, StartError, Web};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), Failure> {
    super::begin(c"chancery-web")?;
    confine::no_dumps()?;
    let manager = Manager::from_env();
    let given = given_sockets()?;
    let stop = Stop::new()?;
    super::refuse_half_restored(&config)?;
    let authority = super::require_authority(&config)?.clone();
    directories::prepare_web(&config.paths)?;
    let issuers = issuer_uids(&config)?;
    let witnesses = config.web.witnesses.iter().map(Target::new);
    let witnesses = witnesses.collect::<Result<Vec<_>, _>>().map_err(Failure::operator)?;
    // From here on this process reaches nothing but what it serves. No thread exists yet.
    let confinement = confine::web(&config, &given)?;
    tracing::info!(%confinement, "confined");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(WORKERS)
        .thread_name("web")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("CHY-OS: no threads: {error}")))?;
    let reach = Reach { issuers, witnesses, manager, given };
    let outcome = runtime.block_on(serve(&config, &authority, reach, stop));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Whom this process talks to, found before it confined itself.
struct Reach {
    /// Users as whom the issuer may answer.
    issuers: Vec<u32>,
    witnesses: Vec<Target>,
    manager: Manager,
    given: Vec<TcpListener>,
}

/// The sockets that a service manager listens on for this process (sd_listen_fds(3)), in its order.
fn given_sockets() -> Result<Vec<TcpListener>, Failure> {
    let mut given = listenfd::ListenFd::from_env();
    let sockets: Result<Vec<_>, _> =
        (0..given.len()).filter_map(|index| given.take_tcp_listener(index).transpose()).collect();
    sockets.map_err(|error| Failure::operator(BindError::Unfit(error).to_string()))
}

async fn serve(
    config: &Config,
    authority: &Authority,
    reach: Reach,
    stop: Stop,
) -> Result<(), Failure> {
    let Reach { issuers, witnesses, manager, given } = reach;
    let listeners = outwait(|| Listeners::open(&config.web, &given), BindError::is_in_use)
        .await
        .map_err(|error| Failure::operator(error.to_string()))?;
    let path = config.paths.web().join("store.redb");
    let locked = |error: &StoreError| *error == StoreError::Busy;
    let store = outwait(|| Embedded::open(&path, Arc::new(SystemDisk)), locked).await.map_err(|error| {
        match error {
            // Room may come by itself.
            StoreError::Halt(text) if is_full(config) => Failure::retry(format!(
                "CHY-DISK-FULL: the disk of {} is full, and the store cannot be opened: {text}",
                path.display()
            )),
            StoreError::Halt(text) => Failure::operator(text),
            StoreError::Conflict | StoreError::Busy => Failure::retry(format!(
                "CHY-STORE-LOCKED: {} is in use by another process; is chancery running already?",
                path.display()
            )),
        }
    })?;
    let store = Arc::new(store);
    let copies = copy_when_asked(Arc::clone(&store), config.paths.web());
    let web = Web::start(parts(config, authority, (issuers, witnesses), store)?, listeners)
        .map_err(|error| match error {
            StartError::Settings(_) => Failure::operator(error.to_string()),
            StartError::System(_) => Failure::failed(error.to_string()),
        })?;
    let stopped = stop.into_future()?;
    manager.ready("serving");
    let mut beats = manager.rhythm().map(tokio::time::interval);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => break,
            why = web.halted() => return Err(Failure::failed(why)),
            () = beat(&mut beats) => {
                tokio::select! {
                    () = &mut stopped => break,
                    why = web.halted() => return Err(Failure::failed(why)),
                    summary = async { web.turns().await; web.summary().await } => manager.alive(&summary),
                }
            }
        }
    }
    manager.stopping();
    tracing::info!("stopping");
    copies.abort();
    web.shutdown().await;
    Ok(())
}

/// Returns at each beat; never where nobody listens.
async fn beat(beats: &mut Option<tokio::time::Interval>) {
    match beats {
        Some(beats) => drop(beats.tick().await),
        None => std::future::pending().await,
    }
}

/// Copies the store whenever a backup asks for it.
fn copy_when_asked(store: Arc<Embedded>, dir: PathBuf) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        snapshot::tidy(&dir);
        loop {
            tokio::time::sleep(snapshot::STEP).await;
            if dir.join(snapshot::WANTED).exists() {
                let (store, dir) = (Arc::clone(&store), dir.clone());
                // A panic there is one copy less.
                let _ = tokio::task::spawn_blocking(move || snapshot::answer(&store, &dir)).await;
            }
        }
    })
}

/// Tries again for a while what a process that is just ending may still hold: after the supervisor was killed, its
/// children end by themselves, and the next supervisor does not wait for them.
async fn outwait<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        match attempt() {
            Err(error) if is_held(&error) => tokio::time::sleep(STEP).await,
            result => return result,
        }
    }
    attempt()
}

/// Users as whom the issuer may answer. Found while /etc/passwd can still be read.
fn issuer_uids(config: &Config) -> Result<Vec<u32>, Failure> {
    match &config.process.issuer_user {
        Some(user) => Ok(vec![directories::owner(user)?.uid]),
        None => Ok(vec![geteuid().as_raw()]),
    }
}

/// What asks for names, as `[validation]` says.
pub fn resolver(config: &Config) -> Result<Arc<dyn Resolver>, Failure> {
    let validation = &config.validation;
    let zones = validation.resolvers.iter().map(|zone| ZoneServers {
        zone: zone.zone.clone(),
        servers: zone.servers.clone(),
        tcp: zone.tcp,
    });
    let resolver = SystemResolver::new(&Resolving {
        zones: zones.collect(),
        multicast: validation.mdns_interfaces.clone(),
        timeout: Duration::from_secs(validation.connect_timeout_seconds),
    })
    .map_err(Failure::operator)?;
    Ok(Arc::new(resolver))
}

fn parts(
    config: &Config,
    authority: &Authority,
    (uids, witnesses): (Vec<u32>, Vec<Target>),
    store: Arc<Embedded>,
) -> Result<Parts, Failure> {
    let issuer =
        Client::start(Options { path: config.paths.socket(), digest: config.digest, uids })
            .map_err(Failure::failed)?;
    let validation = &config.validation;
    let resolver = resolver(config)?;
    let dialer: Arc<dyn Dialer> = Arc::new(SystemDialer);
    let courier = (!witnesses.is_empty())
        .then(|| Courier::new(witnesses, Arc::clone(&resolver), Arc::clone(&dialer)));
    let validator =
        Validator::new(validation.clone(), resolver, dialer).map_err(Failure::operator)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let broken =
        |why: String| Failure::operator(format!("CHY-CA-BROKEN: ca/authority.json: {why}"));
    let roots = authority.roots().map(|root| Tied::read(&root));
    let roots = roots.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let root = roots.iter().find(|root| !root.done).or_else(|| roots.last());
    let root = root.ok_or_else(|| broken("it names no root".into()))?.certificate.clone();
    Ok(Parts {
        issuers: issuers(authority, &roots, &config.paths.cross())?,
        settings: config.web.clone(),
        issuer: Arc::new(issuer),
        store,
        validator: Arc::new(validator),
        clock,
        rng: Arc::new(SystemRng),
        policy: Policy::new(&config.policy).map_err(|bad| {
            Failure::operator(format!("CHY-CONFIG-POLICY: `{}`: {}", bad.entry, bad.why))
        })?,
        profiles: config.profiles.clone(),
        default_profile: config.default_profile.clone(),
        external_account_required: config.issuer.external_account_required,
        root,
        public: config.paths.public(),
        cosigns: !config.issuer.watched_logs.is_empty(),
        courier,
    })
}

/// The issuing CAs with their chains: those that follow from the roots, and those that the operator added.
fn issuers(authority: &Authority, roots: &[Tied], dir: &Path) -> Result<Vec<Issuing>, Failure> {
    let tied: Vec<&Tied> = roots.iter().collect();
    let mut issuers = Vec::new();
    for issuing in authority.issuers() {
        let Some(pem) = issuing.certificate else { continue };
        let certificate = Certificate::parse_pem(pem).map_err(|why| {
            Failure::operator(format!("CHY-CA-BROKEN: ca/authority.json: a certificate: {}", why.0))
        })?;
        let chains = cross::ways(&certificate, &tied);
        let (name, line) = (issuing.name.to_owned(), issuing.line.to_owned());
        issuers.push(Issuing { name, line, certificate, chains });
    }
    for (path, bundle) in bundles(dir)? {
        let mut fits = Err("there is no issuing certificate".to_owned());
        let mut fitted = false;
        for issuing in &mut issuers {
            for root in
                roots.iter().filter(|root| issuing.certificate.verify_issued_by(&root.certificate))
            {
                fits = cross::chain(bundle.clone(), &issuing.certificate, &root.certificate);
                if let Ok(chain) = &fits {
                    issuing.chains.push(chain.clone());
                    fitted = true;
                }
            }
        }
        if !fitted {
            return Err(refused(&path, &fits.err().unwrap_or_default()));
        }
    }
    Ok(issuers)
}

/// The cross-certificates that the operator added: a `*.pem` each, in the order of their names.
fn bundles(dir: &Path) -> Result<Vec<(PathBuf, Vec<Certificate>)>, Failure> {
    let mut files = match std::fs::read_dir(dir) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| refused(dir, &error))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(refused(dir, &error)),
    };
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pem"));
    files.sort();
    let read = files.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path).map_err(|error| refused(&path, &error))?;
        let bundle = cross::parse_bundle(&text).map_err(|why| refused(&path, &why.0))?;
        Ok((path, bundle))
    });
    read.collect()
}

fn refused(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::operator(format!(
        "CHY-CA-CROSS: {}: {why}; put cross-certificates of this CA there and nothing else",
        path.display()
    ))
}

/// How long a predecessor may take to end.
const PATIENCE: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_millis(50);
fn is_full(config: &Config) -> bool {
    SystemDisk.free(&config.paths.web()).is_ok_and(|free| free < FULL)
}

/// Less is as good as nothing.
const FULL: u64 = 1 << 20;

/// Two cores' worth; the token is the limit long before.
const WORKERS: usize = 2;
