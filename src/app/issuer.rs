//! The issuer process: its parts, built once.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;

use super::notify::{Manager, Watchdog};
use super::signals::Stop;
use super::{Failure, confine, directories, pin};
use crate::config::Config;
use crate::env::system::{SystemClock, SystemDisk, SystemRng};
use crate::env::{Clock, Disk, KeepsRoom, Rng};
use crate::hsm::health::TokenHealth;
use crate::hsm::pool::{Key, Pool, TlsKey};
use crate::ipc::admin::{self, AdminKey};
use crate::ipc::server::{Options, Server};
use crate::ipc::{Answer, Question, Service};
use crate::issuer::{
    CheckpointKey, Configuration, CosignerKey, MemoryKey, Parts, Program, SignQueue, Transcripts,
    signing,
};
use crate::log::note::NoteSigner;
use crate::log::writer::Opening;
use crate::log::{Log, recover::OpenError};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<(), Failure> {
    super::begin(c"chancery-issuer")?;
    confine::no_dumps()?;
    let manager = Manager::from_env();
    let stop = Stop::new()?;
    super::refuse_half_restored(&config)?;
    let authority = super::require_authority(&config)?.clone();
    super::refuse_retired(&config)?;
    directories::prepare_issuer(&config.paths)?;
    let pin = pin::read(&config.pin)?;

    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let rng: Arc<dyn Rng> = Arc::new(SystemRng);
    let disk: Arc<dyn Disk> =
        Arc::new(KeepsRoom::new(Arc::new(SystemDisk), config.paths.issuer().join("room"), ROOM));
    let pool = crate::issuer::start_pool(
        config.token.clone(),
        &authority,
        pin,
        Arc::clone(&clock),
        Arc::clone(&rng),
        Arc::clone(&disk),
        &config.paths.issuer(),
        observe,
    )
    .map_err(Failure::operator)?;
    let pool = Arc::new(pool);
    let key = |name: &str| -> Result<Arc<Key>, Failure> {
        pool.key(name).map(Arc::new).ok_or_else(|| {
            Failure::failed(format!("CHY-INTERNAL: the pool does not know the {name} key"))
        })
    };
    let mut signers: Vec<Arc<dyn NoteSigner>> = Vec::new();
    for name in [signing::LOG_KEY, signing::FORMER_LOG_KEY] {
        if name == signing::LOG_KEY || authority.former_log_key().is_some() {
            let signer = CheckpointKey::new(&authority.origin, key(name)?);
            signers.push(Arc::new(signer.map_err(Failure::operator)?));
        }
    }
    let newest = Arc::clone(&signers[0]);
    let log = Log::open(Opening {
        disk: Arc::clone(&disk),
        dir: config.paths.log(),
        public: config.paths.public(),
        settings: config.log.clone(),
        format: config.written.format,
        signers,
        clock: Arc::clone(&clock),
        read_tbs: crate::issuer::read_tbs,
        on_halt: Box::new(halt),
    })
    .map_err(|error| match error {
        OpenError::Retry(text) => Failure::retry(text),
        OpenError::Refuse(text) | OpenError::Halt(text) => Failure::operator(text),
    })?;
    await_token(&pool)?;

    let (token, named) = (Arc::clone(&pool), Arc::clone(&pool));
    let running = crate::issuer::start(Parts {
        settings: config.issuer.clone(),
        policy: config.policy.clone(),
        profiles: config.profiles.clone(),
        base_url: config.web.base_url.clone(),
        root_crl: Some(config.paths.root_crl()),
        issuing_keys: signing::issuing_keys(&authority)
            .map(|(name, _)| Ok((name.to_owned(), key(name)? as Arc<dyn SignQueue>)))
            .collect::<Result<_, Failure>>()?,
        transcripts: Some(Transcripts { dir: config.paths.ca(), signer: newest }),
        tls_key: match config.token.tls_key {
            TlsKey::Token => key(signing::TLS_KEY)?,
            TlsKey::Memory => Arc::new(MemoryKey::generate().map_err(Failure::failed)?),
        },
        former_tls_key: match authority.former_tls_key() {
            Some(_) => Some(key(signing::FORMER_TLS_KEY)? as Arc<dyn SignQueue>),
            None => None,
        },
        token: Arc::new(move || token.health()),
        identity: Arc::new(move || named.identity()),
        program: Program { version: env!("CARGO_PKG_VERSION"), digest: program_digest },
        ca: config.paths.ca(),
        configuration: Configuration::of(
            config.digest,
            &config.to_json().map_err(|error| Failure::failed(error.to_string()))?,
        ),
        log: log.clone(),
        witnesses: config.web.witness_keys().map_err(Failure::operator)?,
        cosigner: match &authority.witness {
            Some(witness) => {
                let key: Arc<dyn SignQueue> = key(signing::WITNESS_KEY)?;
                Some(CosignerKey::new(&witness.name, key).map_err(Failure::operator)?)
            }
            None => None,
        },
        clock,
        rng: Arc::clone(&rng),
        disk,
        dir: config.paths.issuer(),
        public: config.paths.public(),
        build_date: crate::issuer::build_date(),
        on_halt: Arc::new(halt),
        authority,
    })
    .map_err(Failure::operator)?;

    let ours = geteuid().as_raw();
    let admin = admin_socket(&config, ours, &*rng, &running)?;
    let web = match &config.process.web_user {
        Some(user) => directories::owner(user)?.uid,
        None => ours,
    };
    let server = Server::start(
        Options {
            path: config.paths.socket(),
            // With two users the directory decides who gets this far, and the peer's user is checked besides.
            mode: if web != ours { 0o666 } else { 0o600 },
            digest: config.digest,
            uids: vec![web],
        },
        running.service(),
    )
    .map_err(Failure::operator)?;

    let service = running.service();
    let (alive, watched) = (log.clone(), Arc::clone(&pool));
    let look = move || look(&alive, &watched, &*service);
    manager.ready(&look().unwrap_or_else(|why| why));
    let watchdog = Watchdog::start(&manager, Box::new(look));
    tracing::info!(socket = %config.paths.socket().display(), log_size = log.head().size, "the issuer is ready");
    stop.wait();
    manager.stopping();
    tracing::info!("stopping");
    drop((watchdog, server, admin, running, log));
    Ok(())
}

/// Whether this process lives, and what it does. Fails, or does not return, while a part hangs that only a new start
/// would free; a token that is away or a full disk is none of these.
fn look(log: &Log, pool: &Pool, service: &dyn Service) -> Result<String, String> {
    if let Some(why) = log.halted() {
        return Err(format!("halted: {why}"));
    }
    if let TokenHealth::Halted { error } = pool.health() {
        return Err(format!("halted: {error}"));
    }
    if !log.turns(WRITER_PATIENCE) {
        return Err("the log's writer has not come round: does its disk answer?".into());
    }
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    service.call(Question::Health, Box::new(move |answer| drop(sender.try_send(answer))));
    let Ok(Ok(Answer::Health(health))) = receiver.try_recv() else {
        return Err("the issuer does not say how it is".into());
    };
    let log = format!("{} records, covered {}", health.log_size, health.checkpoint_size);
    Ok(match health.problems.first() {
        _ if health.ready => format!("issuing; token {}; {log}", health.token),
        Some((code, _)) => format!("not issuing: {code}; token {}; {log}", health.token),
        None => format!("not issuing; token {}; {log}", health.token),
    })
}

/// The socket for the operator: the issuer's user and root, and none but who can read the key.
fn admin_socket(
    config: &Config,
    ours: u32,
    rng: &dyn Rng,
    running: &crate::issuer::Running,
) -> Result<admin::server::Server, Failure> {
    let mut key = [0; 32];
    rng.fill(&mut key);
    let options = admin::server::Options {
        path: config.paths.admin_socket(),
        key_file: config.paths.admin_key(),
        key: AdminKey(key),
        uids: vec![ours, 0],
        name: directories::user_name,
    };
    admin::server::Server::start(options, running.admin()).map_err(Failure::operator)
}

/// SHA-256 over the program as it was started, also if its file has been replaced since.
fn program_digest() -> Option<[u8; 32]> {
    let mut file = std::fs::File::open("/proc/self/exe").ok()?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    context.finish().as_ref().try_into().ok()
}

/// Waits a little for the token. A token that is merely away is a state; one that waits for an operator is
/// not worth a running process.
fn await_token(pool: &Pool) -> Result<(), Failure> {
    match pool.wait_ready(TOKEN_PATIENCE) {
        TokenHealth::Stopped { code, message } => {
            Err(Failure::operator(with_code(&code, &message)))
        }
        TokenHealth::Halted { error } => Err(Failure::failed(error)),
        TokenHealth::Ready | TokenHealth::Degraded { .. } => {
            if let Some((_, token)) = pool.identity() {
                tracing::info!(
                    label = token.label,
                    serial = token.serial,
                    model = token.model,
                    "the token is ready"
                );
            }
            Ok(())
        }
        TokenHealth::Starting | TokenHealth::Recovering { .. } => {
            tracing::warn!(
                "CHY-TOKEN-RECOVERING: the token is not ready yet; serving without it, signing when it is"
            );
            Ok(())
        }
    }
}

/// Says every change of the token's state. Runs on the pool's own thread.
fn observe(health: &TokenHealth) {
    match health {
        TokenHealth::Starting | TokenHealth::Ready => tracing::info!(token = %health, "token"),
        TokenHealth::Recovering { step, error, .. } => tracing::warn!(step, "{error}"),
        TokenHealth::Stopped { code, message } | TokenHealth::Degraded { code, message, .. } => {
            tracing::error!("{}", with_code(code, message));
        }
        TokenHealth::Halted { error } => halt(error),
    }
}

fn with_code(code: &str, message: &str) -> String {
    if message.starts_with(code) { message.to_owned() } else { format!("{code}: {message}") }
}

/// Ends the process where it stands: what is on disk or in the token is unknown, and only a new start reads it.
fn halt(why: &str) {
    tracing::error!("{why}");
    std::process::abort();
}

/// For checkpoint and CRL on a full disk: each is there twice while it is replaced.
const ROOM: u64 = 1 << 20;
/// Well below the units' WatchdogSec=, well above a disk that is merely slow.
const WRITER_PATIENCE: Duration = Duration::from_secs(15);
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);
