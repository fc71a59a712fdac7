//! The certificate of the box itself, for its TLS key: made by the issuer for the configured names, with
//! the same records as any other. No question can ask for it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_bytes::ByteBuf;

use super::core::{Core, NotNow, Part, count, lock};
use super::issuers::Issuer;
use super::signing::sign_and_wait;
use crate::env::random_16;
use crate::hsm::Class;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::ipc::{Answer, Refusal};
use crate::log::Release;
use crate::log::index::Issuance;
use crate::log::record::{IntentV1, IssuedV1, Record, Requester};
use crate::pki::authority::Authority;
use crate::pki::certificate::Certificate;
use crate::pki::name::Identifier;
use crate::pki::policy::{self, Policy};
use crate::pki::profile::{ExtendedUsage, Profile};
use crate::pki::rehearse::{self, Leaf};

pub(super) struct Own {
    core: Arc<Core>,
    names: Vec<Identifier>,
    profile: Profile,
    /// Names the serial in use, so that a restart finds it again instead of making another.
    file: PathBuf,
    current: Mutex<Option<Certificate>>,
    /// An intent that is not yet signed: it is signed before another is made.
    pending: Mutex<Option<Pending>>,
}

#[derive(Clone)]
struct Pending {
    issuer: Arc<Issuer>,
    intent: LeafIndex,
    serial: Serial,
    tbs: Vec<u8>,
}

impl Own {
    /// `names` as [`names`] parsed them.
    pub(super) fn new(core: Arc<Core>, names: Vec<Identifier>) -> Self {
        let profile = Profile {
            name: "own-tls".into(),
            description: "this box's own TLS certificate".into(),
            lifetime_hours: days(&core).saturating_mul(24),
            backdate_minutes: 60,
            usages: vec![ExtendedUsage::Server],
            max_names: names.len().max(1),
            common_name: false,
            ..Profile::server()
        };
        let file = core.dir.join("tls-serial");
        let (current, pending) = (Mutex::new(None), Mutex::new(None));
        Self { core, names, profile, file, current, pending }
    }

    /// Answers `Question::TlsChain`.
    pub(super) fn chain(&self) -> Result<Answer, Refusal> {
        let current = lock(&self.current);
        let leaf = current.as_ref().ok_or(Refusal::Retry(1000))?;
        let issuer = self.core.issuers.of_certificate(leaf).ok_or(Refusal::Retry(1000))?;
        let behind = self.core.usual_chain(issuer);
        Ok(Answer::TlsChain {
            chain: std::iter::once(leaf).chain(&behind).map(|c| ByteBuf::from(c.der())).collect(),
            not_after: leaf.validity().1,
        })
    }

    /// The epoch while there is none.
    pub(super) fn not_after(&self) -> Timestamp {
        lock(&self.current).as_ref().map_or(Timestamp(0), |c| c.validity().1)
    }

    /// Takes up the certificate that an earlier process made. Asks neither the clock nor the token: a box
    /// that may not issue can still say so over TLS.
    pub(super) fn take_up(&self) {
        let mut current = lock(&self.current);
        if current.is_none() {
            *current = self.found();
        }
    }

    /// Finds, makes or renews the certificate. Waits for log and token.
    pub(super) fn tend(&self) -> Result<(), NotNow> {
        if self.names.is_empty() {
            self.core.problems.set(Part::Tls, "CHY-TLS-NAMES", "[issuer] tls-names is empty, so this box has no certificate for itself; name it as devices reach it".into());
            return Ok(());
        }
        let now = self.core.now()?;
        self.take_up();
        {
            let current = lock(&self.current);
            if current.as_ref().is_some_and(|c| self.is_current(c) && !self.is_due(c, now)) {
                return Ok(());
            }
        }
        let made = self.make(now);
        match &made {
            Ok(()) => self.core.problems.clear(Part::Tls),
            // Said already, and better.
            Err(NotNow::Never) => {}
            Err(_) if self.not_after() < now.plus(SOON) => {
                self.core.problems.set(Part::Tls, "CHY-TLS-CERTIFICATE", "this box has no TLS certificate, or it ends within three days, and none can be made; see the other problems".into());
            }
            Err(_) => {}
        }
        made
    }

    /// Whether handshakes of this key belong to the certificate that is served.
    pub(super) fn serves(&self, spki_sha256: &[u8; 32]) -> bool {
        let current = lock(&self.current);
        current.as_ref().is_some_and(|c| c.public_key().spki_sha256() == *spki_sha256)
    }

    /// Whether it is for the present TLS key: a ceremony may have made another.
    fn is_current(&self, certificate: &Certificate) -> bool {
        certificate.public_key().spki() == self.core.tls_key.public_key().spki()
    }

    fn is_due(&self, certificate: &Certificate, now: Timestamp) -> bool {
        let (not_before, not_after) = certificate.validity();
        not_after.since(now) <= not_after.since(not_before) / 3
    }

    /// The certificate an earlier process made, if it is for this key, these names and this issuer.
    fn found(&self) -> Option<Certificate> {
        let text = self.core.disk.read(&self.file, 64).ok()?;
        let serial: Serial = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
        let Ok(Some(Issuance::Issued { intent, issued, .. })) =
            self.core.log.index().by_serial(serial)
        else {
            return None;
        };
        if self.core.covered() <= issued.0 {
            return None;
        }
        let intent = self.core.intent(intent).ok()?;
        let certificate = self.core.certificate(&intent, &self.core.issued(issued).ok()?).ok()?;
        let mut named = certificate.identifiers();
        let mut wanted = self.names.clone();
        named.sort();
        wanted.sort();
        (intent.requester == Requester::Own
            && named == wanted
            && self.core.tls_key_of(&certificate.public_key().spki_sha256()).is_some()
            && self.core.issuers.all().iter().any(|issuer| {
                !issuer.is_retired()
                    && !issuer.is_revoked()
                    && certificate.verify_issued_by(&issuer.certificate)
            }))
        .then_some(certificate)
    }

    fn make(&self, now: Timestamp) -> Result<(), NotNow> {
        let core = &self.core;
        let active = core.issuing(Authority::FIRST_ISSUING)?;
        let pending = match lock(&self.pending).take() {
            Some(pending) => pending,
            None => self.intend(active, now)?,
        };
        *lock(&self.pending) = Some(pending.clone());
        let Pending { issuer, intent, serial, tbs } = pending;
        let key = core.key_of(&issuer)?;
        let signature = sign_and_wait(&*key, Class::Certificate, tbs.clone(), DEADLINE)
            .map_err(|e| core.unsigned(e))?;
        let certificate = issuer.assemble(&tbs, &signature).ok_or_else(|| {
            tracing::error!(%serial, "CHY-SIGNATURE: the token's signature does not verify under the issuing certificate; it was thrown away");
            NotNow::Wait(Duration::from_secs(5))
        })?;
        let algorithm = issuer.algorithm().identifier_der().to_vec();
        let at = core.now()?;
        let record = IssuedV1 { at, intent, serial, algorithm, signature };
        let leaf = core.append_wait(Record::IssuedV1(record), Release::Covered)?.leaf;
        *lock(&self.pending) = None;
        // Lost, the certificate is made once more at the next start.
        if let Err(e) = core.disk.replace(&self.file, format!("{serial}\n").as_bytes(), true) {
            tracing::warn!(error = %e, "the serial of the TLS certificate was not noted");
        }
        count(&core.counters.issued);
        tracing::info!(%serial, leaf = leaf.0, not_after = %certificate.validity().1, "TLS certificate of this box issued");
        *lock(&self.current) = Some(certificate);
        Ok(())
    }

    fn intend(&self, issuer: &Arc<Issuer>, now: Timestamp) -> Result<Pending, NotNow> {
        let core = &self.core;
        let serial = Serial::from_random(random_16(&*core.rng));
        let leaf = Leaf {
            profile: &self.profile,
            identifiers: &self.names,
            key: core.tls_key.public_key(),
            serial,
            now,
            not_before: None,
            not_after: None,
            issuer: &issuer.certificate,
            aia_url: &issuer.aia_url,
            crl_url: &core.crl_of(issuer, serial),
        };
        let tbs =
            rehearse::leaf(&leaf).map_err(|why| {
                core.problems.set(Part::Tls, "CHY-TLS-CERTIFICATE", format!(
                "the certificate of this box cannot be written: {why}; check [issuer] tls-names"
            ));
                NotNow::Wait(Duration::from_secs(60))
            })?;
        let serial = tbs.serial();
        let record = IntentV1 {
            at: now,
            serial,
            requester: Requester::Own,
            profile: PROFILE.into(),
            issuer_sha256: issuer.sha256,
            tbs: tbs.der().to_vec(),
            validations: Vec::new(),
        };
        let appended = core.append_wait(Record::IntentV1(record), Release::Durable)?;
        Ok(Pending {
            issuer: Arc::clone(issuer),
            intent: appended.leaf,
            serial,
            tbs: tbs.der().to_vec(),
        })
    }
}

/// How long its certificate is good for: a key in memory is gone with the process, and what may have been read from
/// there is not of use for long.
fn days(core: &Core) -> u32 {
    let days = core.settings.tls_days.max(1);
    if core.tls_key.is_in_memory() { days.min(MEMORY_DAYS) } else { days }
}

/// The configured names, parsed, and within the issuing certificate's constraints.
pub(super) fn names(
    configured: &[String],
    issuing: &Certificate,
) -> Result<Vec<Identifier>, String> {
    let refused = |name: &str, why: &dyn std::fmt::Display| {
        format!(
            "CHY-TLS-NAMES: [issuer] tls-names: {name:?}: {why}; name this box as devices reach it, within what the issuing certificate permits"
        )
    };
    let mut names = Vec::with_capacity(configured.len());
    let mut settings = policy::Settings {
        allow_names: Vec::new(),
        allow_networks: Vec::new(),
        deny_names: Vec::new(),
        deny_networks: Vec::new(),
        wildcards: false,
        subdomains: false,
    };
    for text in configured {
        let address = text.parse::<std::net::IpAddr>();
        let kind = if address.is_ok() { "ip" } else { "dns" };
        let name = Identifier::parse(kind, text).map_err(|e| refused(text, &e))?;
        if name.is_wildcard() {
            return Err(refused(text, &"a box has a name of its own"));
        }
        match address {
            Ok(ip) => {
                settings
                    .allow_networks
                    .push(format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }));
            }
            Err(_) => settings.allow_names.push(name.value()),
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Policy::new(&settings)
        .map_err(|e| refused(&e.entry, &e.why))?
        .check_within(issuing)
        .map_err(|why| refused("", &why))?;
    Ok(names)
}

/// As it stands in the log; `config` refuses names that begin with `_`.
pub(super) const PROFILE: &str = "_own-tls";
const MEMORY_DAYS: u32 = 7;
const SOON: Duration = Duration::from_secs(3 * 24 * 3600);
const DEADLINE: Duration = Duration::from_secs(60);
