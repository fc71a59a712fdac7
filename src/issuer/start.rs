//! From parts to a running issuer: what must hold is checked first, and a part that does not fit
//! refuses the start with what to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Settings;
use super::caps::Caps;
use super::ceremonies::{Ceremonies, Transcripts};
use super::clock::ClockRule;
use super::core::{Core, Counters, OnHalt, Problems, TokenProbe};
use super::cosigner::{Cosigner, CosignerKey};
use super::crls::Crls;
use super::epoch::BoxEpoch;
use super::formats::Formats;
use super::issuers::{Issuers, RootOf};
use super::keeper::Keeper;
use super::log_keys::KeyTurn;
use super::own::{self, Own};
use super::pipeline::Pipeline;
use super::publish;
use super::refusals::Refusals;
use super::refused_pin::RefusedPin;
use super::registry::Registry;
use super::revocation::Revoker;
use super::root_crl::RootCrl;
use super::service::Desk;
use super::signing::SignQueue;
use super::starts::{Configuration, Program, Starts, TokenIdentity};
use super::succession::Succession;
use super::tickets::Tickets;
use super::witnesses::Witnesses;
use super::workers::Workers;
use super::wrong_signatures::WrongSignatures;
use crate::acme::directory::Urls;
use crate::env::{Clock, Disk, Rng};
use crate::hsm::health::TokenHealth;
use crate::hsm::pool::{Access, Pin, Pool, TlsKey};
use crate::id::{LeafIndex, Timestamp, hex};
use crate::ipc::Service;
use crate::ipc::admin::AdminService;
use crate::ipc::message::Health;
use crate::log::Log;
use crate::log::record::CeremonyV1;
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::policy::{self, Policy};
use crate::pki::profile::Profile;
use crate::tlog::note::VerifierKey;

/// Everything an issuer is made of.
pub struct Parts {
    pub settings: Settings,
    pub policy: policy::Settings,
    pub profiles: Vec<Profile>,
    pub authority: Authority,
    /// `[web] base-url`: account and order URLs begin with it.
    pub base_url: String,
    /// Where ceremonies leave the root's CRL: taken over whenever there is another.
    pub root_crl: Option<PathBuf>,
    /// The keys of the issuing CAs by their names, as [`super::signing::issuing_keys`] says.
    pub issuing_keys: BTreeMap<String, Arc<dyn SignQueue>>,
    /// Where ceremonies leave their transcripts, and the log key that signs them.
    pub transcripts: Option<Transcripts>,
    pub tls_key: Arc<dyn SignQueue>,
    /// The one before it, while its certificate may be served.
    pub former_tls_key: Option<Arc<dyn SignQueue>>,
    pub token: TokenProbe,
    /// Which token and module it is, for the record of the start.
    pub identity: TokenIdentity,
    pub program: Program,
    pub configuration: Configuration,
    /// Opened with a [`super::CheckpointKey`] as its signer.
    pub log: Log,
    /// The witnesses of this log, in the order of `[[web.witnesses]]`.
    pub witnesses: Vec<VerifierKey>,
    /// What this box cosigns other logs with, where a ceremony has made it.
    pub cosigner: Option<CosignerKey>,
    pub clock: Arc<dyn Clock>,
    pub rng: Arc<dyn Rng>,
    pub disk: Arc<dyn Disk>,
    /// The issuer's own directory, mode 0700.
    pub dir: PathBuf,
    /// The published files.
    pub public: PathBuf,
    /// What ceremonies made, and `format.json`.
    pub ca: PathBuf,
    /// No honest clock shows less: [`super::build_date`] but in tests.
    pub build_date: Timestamp,
    pub on_halt: OnHalt,
}

/// A running issuer. Dropping it ends its threads; requests under way are told to ask again.
pub struct Running {
    desk: Arc<Desk>,
}

impl Running {
    /// What `ipc::server` or `ipc::local` serves.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::clone(&self.desk) as Arc<dyn Service>
    }

    /// What `ipc::admin::server` serves.
    pub fn admin(&self) -> Arc<dyn AdminService> {
        Arc::clone(&self.desk) as Arc<dyn AdminService>
    }

    /// As `Question::Health` answers.
    pub fn health(&self) -> Health {
        self.desk.health()
    }

    /// Records now what was refused since the last record; the last record before the end.
    pub fn record_refusals(&self) {
        let core = &self.desk.core;
        if core.halted.load(Ordering::SeqCst) || core.log.halted().is_some() {
            return;
        }
        if let Err(why) = self.desk.refusals.flush() {
            tracing::warn!(?why, "the refusals since the last record were not recorded");
        }
    }

    /// Remembers that this process ended as it should; the very last thing to do.
    fn end(&self) {
        let core = &self.desk.core;
        if !core.halted.load(Ordering::SeqCst) && core.log.halted().is_none() {
            self.desk.starts.end();
        }
    }

    /// Looks at once at what comes due by itself: recovery, CRL, TLS certificate, an accepted clock.
    pub fn nudge(&self) {
        self.desk.keeper.nudge();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.record_refusals();
        self.end();
    }
}

/// Starts an issuer. The text of an error begins with a code. An absent token or an implausible clock
/// is no error: they are states, and show in the health.
pub fn start(parts: Parts) -> Result<Running, String> {
    let authority = &parts.authority;
    let roots = roots(authority)?;
    let keys = |name: &str| parts.issuing_keys.get(name).cloned();
    let issuers = Issuers::open(authority, &roots, &keys, &parts.log)?;
    let tls_spki = spki("tls", &authority.tls_key)?;
    if !parts.tls_key.is_in_memory() {
        same_key("tls", &*parts.tls_key, &tls_spki)?;
    }
    let log_spki = spki("log", &authority.log_key)?;
    own_log(&parts.log, authority, &roots, &issuers, &log_spki)?;

    let policy = Policy::new(&parts.policy)
        .map_err(|e| format!("CHY-CONFIG-POLICY: [policy] {}: {:?}: {}", e.list, e.entry, e.why))?;
    let mut names = Vec::new();
    for issuer in issuers.newest() {
        policy.check_within(&issuer.certificate).map_err(|why| {
            format!("CHY-CONFIG-POLICY: the policy allows what the issuing certificate of {} does not permit: {why}; narrow [policy], or hold a ceremony for another issuing certificate", issuer.name)
        })?;
        if issuer.line == Authority::FIRST_ISSUING {
            names = own::names(&parts.settings.tls_names, &issuer.certificate)?;
        }
    }
    for profile in &parts.profiles {
        if !issuers.newest().any(|issuer| issuer.line == profile.issuer) {
            return Err(no_line(profile));
        }
    }
    let urls = Urls::new(&parts.base_url)
        .map_err(|why| format!("CHY-CONFIG-VALUE: [web] base-url: {why}"))?;

    let mut own_keys = vec![log_spki, tls_spki, parts.tls_key.public_key().spki().to_vec()];
    own_keys.extend(roots.iter().map(|root| root.tied.certificate.public_key().spki().to_vec()));
    let issuing = issuers.all().iter().map(|issuer| &issuer.certificate);
    own_keys.extend(issuing.map(|issuing| issuing.public_key().spki().to_vec()));
    if let (Some(key), Some(record)) = (&parts.former_tls_key, authority.former_tls_key()) {
        let former = spki("tls", record)?;
        same_key("tls", &**key, &former)?;
        own_keys.push(former);
    }
    own_keys.extend(parts.cosigner.iter().map(CosignerKey::spki));
    for record in authority.log_keys_ever() {
        own_keys.push(spki("log", record)?);
    }
    own_keys.dedup();
    let rule =
        ClockRule::new(Arc::clone(&parts.clock), parts.build_date, parts.settings.clock_jump_hours);
    let started = parts.clock.now();
    let build_date = parts.build_date;
    let workers = Workers::start(parts.settings.workers, parts.settings.queue)?;
    let watched = parts.settings.watched_keys()?;
    let core = Arc::new(Core {
        caps: Caps::new(&parts.settings),
        settings: parts.settings,
        urls,
        policy,
        profiles: parts.profiles,
        roots,
        issuers,
        tls_key: parts.tls_key,
        former_tls_key: parts.former_tls_key,
        own_keys,
        origin: authority.origin.clone(),
        token: parts.token,
        log: parts.log,
        rule,
        rng: parts.rng,
        disk: parts.disk,
        dir: parts.dir,
        public: parts.public,
        on_halt: parts.on_halt,
        halted: AtomicBool::new(false),
        forked: AtomicBool::new(false),
        counters: Counters::default(),
        problems: Problems::default(),
    });
    publish::publish_chains(&core)?;
    let root_crls = core.roots.iter().map(|root| {
        RootCrl::open(Arc::clone(&core), root, parts.root_crl.as_deref()).map(Arc::new)
    });
    let root_crls: Arc<[Arc<RootCrl>]> = root_crls.collect::<Result<Vec<_>, String>>()?.into();
    let succession = Arc::new(Succession::new(Arc::clone(&core)));
    let key_turn = Arc::new(KeyTurn::new(Arc::clone(&core), authority)?);

    let formats = Arc::new(Formats::open(Arc::clone(&core), parts.ca, parts.program.version)?);

    super::fork::recall(&core);
    let witnesses = Arc::new(Witnesses::new(Arc::clone(&core), parts.witnesses));
    let cosigner = Arc::new(Cosigner::new(Arc::clone(&core), parts.cosigner, &watched)?);
    let tickets = Arc::new(Tickets::open(Arc::clone(&core))?);
    let registry = Arc::new(Registry::new(Arc::clone(&core), tickets));
    let refusals = Arc::new(Refusals::new(Arc::clone(&core)));
    let pipeline = Pipeline::new(Arc::clone(&core), Arc::clone(&registry), Arc::clone(&refusals));
    let pipeline = Arc::new(pipeline);
    let own = Arc::new(Own::new(Arc::clone(&core), names));
    let crls = Arc::new(Crls::new(Arc::clone(&core)));
    let starts = Starts::begin(
        Arc::clone(&core),
        parts.program,
        build_date,
        parts.identity,
        parts.configuration,
    )?;
    let starts = Arc::new(starts);
    let keeper = Keeper::start(
        Arc::clone(&core),
        Arc::clone(&starts),
        Arc::clone(&own),
        Arc::clone(&crls),
        Arc::clone(&root_crls),
        succession,
        Arc::clone(&key_turn),
        Arc::clone(&formats),
        Ceremonies::new(Arc::clone(&core), parts.transcripts),
        Arc::clone(&refusals),
    )?;
    let revoker =
        Arc::new(Revoker::new(Arc::clone(&core), Arc::clone(&registry), Arc::clone(&refusals)));
    let desk = Desk {
        core,
        registry,
        pipeline,
        own,
        crls,
        revoker,
        refusals,
        starts,
        recalls: Arc::default(),
        witnesses,
        cosigner,
        keeper,
        workers,
        root_crls,
        key_turn,
        formats,
        started,
    };
    Ok(Running { desk: Arc::new(desk) })
}

/// Starts the pool of the issuer's keys: a PIN that the token refused before is not tried again, and
/// what the token says of this one is remembered in `dir`, as are wrong signatures.
#[expect(clippy::too_many_arguments, reason = "called once, by the one who builds all parts")]
pub fn start_pool(
    settings: crate::hsm::pool::Settings,
    authority: &Authority,
    pin: Pin,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    disk: Arc<dyn Disk>,
    dir: &std::path::Path,
    observe: impl Fn(&TokenHealth) + Send + Sync + 'static,
) -> Result<Pool, String> {
    let wrong = WrongSignatures::read(Arc::clone(&disk), dir)?;
    let ca = ca_of(authority)?;
    let own = BoxEpoch::open(Arc::clone(&disk), &*rng, dir, ca)?;
    let refused = RefusedPin::new(disk, rng, dir);
    let access = Access {
        refused: refused.is_refused(&pin),
        offences: Some(Arc::new(wrong)),
        fencing: Some(Arc::new(own)),
        ..Access::from(pin.clone())
    };
    let before = access.refused;
    let observer = move |health: &TokenHealth| {
        // Said by the token just now, not repeated from the file.
        if health.is_pin_refused() && !before {
            if let Err(e) = refused.remember(&pin) {
                tracing::error!(error = %e, path = %refused.path().display(), "CHY-PIN-MEMORY: the refused PIN could not be remembered; do not restart before it is corrected");
            }
        } else if health.signs() {
            refused.forget();
        }
        observe(health);
    };
    let mut pins = super::signing::pins(authority)?;
    if settings.tls_key == TlsKey::Memory {
        pins.retain(|pin| pin.name != super::signing::TLS_KEY);
    }
    Pool::start(settings, pins, access, clock, Box::new(observer))
}

/// Which CA it is, whatever becomes of its certificates and its log: SHA-256 over the transcript of its first ceremony.
pub fn ca_of(authority: &Authority) -> Result<[u8; 32], String> {
    super::issuers::digest(&authority.transcript_sha256).ok_or_else(|| {
        "CHY-CA-BROKEN: ca/authority.json: its transcript_sha256 is none; restore it from a backup"
            .to_owned()
    })
}

fn roots(authority: &Authority) -> Result<Vec<RootOf>, String> {
    if authority.version != authority.least_version() {
        return Err(format!(
            "CHY-CA-BROKEN: ca/authority.json: version {} is not known here; restore it from the ceremony's backup",
            authority.version
        ));
    }
    if authority.issuing.is_none() {
        return Err("CHY-CA-INCOMPLETE: the issuing certificate has been requested but not imported; run `chancery ceremony import FILE`".into());
    }
    RootOf::read(authority)
}

fn no_line(profile: &Profile) -> String {
    format!(
        "CHY-CONFIG-PROFILE: profile {:?}: issuer = {:?}: no ceremony here made an issuing CA of that line; hold one that does, or take the profile out of `profiles`",
        profile.name, profile.issuer
    )
}

fn spki(name: &str, record: &KeyRecord) -> Result<Vec<u8>, String> {
    record.spki_der().map_err(|why| {
        format!("CHY-CA-BROKEN: ca/authority.json: the {name} key: {why}; restore it from the ceremony's backup")
    })
}

fn same_key(name: &str, key: &dyn SignQueue, expected: &[u8]) -> Result<(), String> {
    if key.public_key().spki() == expected {
        return Ok(());
    }
    Err(format!(
        "CHY-KEY-MISMATCH: the {name} key of the token is not the one the ceremony fixed; use the token of this CA"
    ))
}

/// The log's first record must be this CA's ceremony.
fn own_log(
    log: &Log,
    authority: &Authority,
    roots: &[RootOf],
    issuers: &Issuers,
    log_key: &[u8],
) -> Result<(), String> {
    let foreign = |why: &str| {
        format!(
            "CHY-LOG-FOREIGN: the log belongs to another CA: {why}; put the log of this CA in place, or ca/authority.json of the log's"
        )
    };
    let record = log.read(LeafIndex(0)).map_err(|why| foreign(&why))?;
    let Some(record) = record.first() else {
        return Err(foreign("its first record is no ceremony"));
    };
    let CeremonyV1 { origin, root_sha256, issuing_sha256, log_key: logged, .. } = record;
    if *origin != authority.origin {
        return Err(foreign(&format!("its origin is {origin:?}, not {:?}", authority.origin)));
    }
    let root = roots.first().map(|root| root.tied.certificate.fingerprint());
    let issuing = issuers.all().first().map(|issuer| issuer.sha256);
    if Some(*root_sha256) != root || Some(*issuing_sha256) != issuing {
        return Err(foreign("its ceremony made other certificates"));
    }
    if logged != log_key {
        return Err(foreign("its ceremony made another log key"));
    }
    if hex(&record.transcript_sha256) != authority.transcript_sha256.to_ascii_lowercase() {
        return Err(foreign("its ceremony has another transcript"));
    }
    Ok(())
}
