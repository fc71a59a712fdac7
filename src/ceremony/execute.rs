//! The ceremony itself, in the order that makes a crash harmless: what will be made is written down; keys;
//! certificates, verified; transcript; log; public files; and `authority.json` last, which makes it all count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64, Encoding};

use super::plan::{Plan, Scope, published_as};
use super::state::{Place, RootRecord, Tokens, token, unhex};
use super::transcript::{CertificateLine, CrlLine, KeyLine, TokenLine, Transcript, hex};
use super::{CeremonyError, request};
use crate::env::random_16;
use crate::hsm::direct::DirectKey;
use crate::hsm::{SignError, Signer};
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{NoteSignError, NoteSigner, VerifierKey};
use crate::log::record::{CeremonyV1, Record};
use crate::log::tree::TreeHead;
use crate::log::writer::Opening;
use crate::log::{Log, recover::OpenError};
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::pki::key::PublicKey;
use crate::pki::rehearse::{self, Ca, CaTemplate, Tbs};
use crate::pki::uri::Pkcs11Uri;

/// What was made.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub transcript: Transcript,
    pub transcript_sha256: [u8; 32],
    /// PEM that travels on: the request after an export, the certificate after a signing.
    pub carry: Option<String>,
}

/// Holds a ceremony that has the root key: everything at once, or the root alone.
pub fn run(plan: &Plan, tokens: &Tokens, place: &Place) -> Result<Outcome, CeremonyError> {
    if plan.scope == Scope::Online {
        return Err(CeremonyError::Refused(
            "CHY-CEREMONY-FILE: this file makes no root key; use export-request, and import when the root has signed"
                .to_owned(),
        ));
    }
    let now = place.clock.now();
    place.refuse_if_held(plan, tokens)?;
    dress_rehearsal(plan, now)?;
    let keys = make_keys(plan, tokens, place)?;
    let root_key = keys.get("root")?;

    let root = certify(place, now, template(plan.document.root.as_ref())?, root_key, None)?;
    let root_crl = sign_root_crl(plan, now, root_key, &root)?;
    let mut transcript = begin_transcript(plan, tokens, &keys, "run", now);
    transcript.certificates.push(CertificateLine::of("root", &root));
    transcript.root_crl = Some(root_crl.line.clone());
    let root_record = keys.record("root")?;

    if plan.scope == Scope::Root {
        let sha256 = write_transcript(place, &transcript)?;
        publish(place, plan, &root, None, Some(&root_crl.der))?;
        let record = RootRecord {
            version: 1,
            root: root.pem(),
            root_key: root_record,
            root_crl_url: plan.document.urls.root_crl.clone(),
            transcript_sha256: hex(&sha256),
        };
        place.write_json(&place.root_path(), &record)?;
        place.end()?;
        return Ok(Outcome { transcript, transcript_sha256: sha256, carry: Some(root.pem()) });
    }

    let issuing = certify(
        place,
        now,
        template(plan.document.issuing.as_ref())?,
        root_key,
        Some(Subordinate {
            issuer: &root,
            key: keys.get("issuing")?.public_key(),
            crl_url: &plan.document.urls.root_crl,
        }),
    )?;
    transcript.certificates.push(CertificateLine::of("issuing", &issuing));
    let made = Made { root: &root, issuing: &issuing, root_crl: &root_crl.der };
    let sha256 = settle(plan, place, &transcript, &made, keys.get("log")?, now)?;
    let authority = authority(plan, &keys, &root, Some(&issuing), Some(root_record), &sha256)?;
    place.write_json(&place.authority_path(), &authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Makes the online keys and a request for the issuing one, to be signed where the root `root` is.
pub fn export_request(
    plan: &Plan,
    tokens: &Tokens,
    place: &Place,
    root: &Certificate,
) -> Result<Outcome, CeremonyError> {
    if plan.scope != Scope::Online {
        return Err(CeremonyError::Refused(
            "CHY-CEREMONY-FILE: this file makes the root key itself; use run".to_owned(),
        ));
    }
    if !root.is_ca() || !root.verify_issued_by(root) {
        return Err(CeremonyError::Refused(
            "CHY-CEREMONY-IMPORT: what was given as root is no self-signed CA certificate"
                .to_owned(),
        ));
    }
    let now = place.clock.now();
    place.refuse_if_held(plan, tokens)?;
    let keys = make_keys(plan, tokens, place)?;
    let pem = request::make(keys.get("issuing")?)?;
    let mut transcript = begin_transcript(plan, tokens, &keys, "export-request", now);
    transcript.certificates.push(CertificateLine::of("root (given)", root));
    let sha256 = write_transcript(place, &transcript)?;
    place.write(&place.ca.join("issuing.csr"), pem.as_bytes())?;
    let authority = authority(plan, &keys, root, None, None, &sha256)?;
    place.write_json(&place.authority_path(), &authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: Some(pem) })
}

/// Signs a request with the root key of this box, by the `[issuing]` table of the root's own file.
pub fn sign_request(
    plan: &Plan,
    tokens: &Tokens,
    place: &Place,
    pem: &str,
) -> Result<Outcome, CeremonyError> {
    let refused = |why: String| CeremonyError::Refused(why);
    let record: RootRecord = place.read_json(&place.root_path())?.ok_or_else(|| {
        refused(format!(
            "CHY-CA-ABSENT: {} does not exist: no root ceremony was held here",
            place.root_path().display()
        ))
    })?;
    let broken =
        |why: String| refused(format!("CHY-CA-BROKEN: {}: {why}", place.root_path().display()));
    let root = Certificate::parse_pem(&record.root).map_err(|why| broken(why.0))?;
    if record.root_crl_url != plan.document.urls.root_crl {
        return Err(refused(
            "CHY-CEREMONY-FILE: urls.root-crl is not what the root's ceremony fixed".to_owned(),
        ));
    }
    let key = request::parse(pem)?;
    let uri = Pkcs11Uri::parse(&record.root_key.uri).map_err(&broken)?;
    let id = uri.id.ok_or_else(|| broken("the URI of the root key has no id".to_owned()))?;
    let role = plan
        .keys
        .iter()
        .find(|key| key.name == "root")
        .ok_or_else(|| refused("CHY-CEREMONY-FILE: this file has no root key".to_owned()))?;
    let signer = token(tokens, &role.token)?
        .key(&id, root.public_key().clone())
        .map_err(|why| refused(why.to_string()))?;
    signer
        .attributes
        .check("root", token(tokens, &role.token)?.allows_clones())
        .map_err(|why| refused(why.to_string()))?;
    let now = place.clock.now();
    let issuing = certify(
        place,
        now,
        template(plan.document.issuing.as_ref())?,
        &signer,
        Some(Subordinate { issuer: &root, key: &key, crl_url: &record.root_crl_url }),
    )?;
    let mut transcript =
        begin_transcript(plan, tokens, &Keys(BTreeMap::new()), "sign-request", now);
    transcript.certificates.push(CertificateLine::of("root", &root));
    transcript.certificates.push(CertificateLine::of("issuing", &issuing));
    let sha256 = write_transcript(place, &transcript)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: Some(issuing.pem()) })
}

/// Takes in the certificate that the root signed for this box's request, and begins the log.
pub fn import(
    plan: &Plan,
    tokens: &Tokens,
    place: &Place,
    issuing: &Certificate,
    root_crl: &[u8],
) -> Result<Outcome, CeremonyError> {
    let refuse = |why: &str| CeremonyError::Refused(format!("CHY-CEREMONY-IMPORT: {why}"));
    let mut authority =
        place.authority()?.ok_or_else(|| refuse("no request was exported from this box"))?;
    if authority.issuing.is_some() {
        return Err(CeremonyError::Refused(format!(
            "CHY-CEREMONY-DONE: {} has its issuing certificate already; nothing was changed",
            place.authority_path().display()
        )));
    }
    let root = Certificate::parse_pem(&authority.root).map_err(|why| {
        CeremonyError::Refused(format!("CHY-CA-BROKEN: ca/authority.json: {}", why.0))
    })?;
    let now = place.clock.now();
    if Base64::encode_string(issuing.public_key().spki()) != authority.issuing_key.spki {
        return Err(refuse(
            "the certificate is for another key than the one this box's token holds",
        ));
    }
    if !issuing.verify_issued_by(&root) {
        return Err(refuse(
            "the certificate was not signed by the root that was named at the export",
        ));
    }
    if !issuing.is_ca() || issuing.path_length() != Some(0) {
        return Err(refuse("the certificate is not one of an issuing CA with path length 0"));
    }
    let (_, not_after) = issuing.validity();
    if not_after < now {
        return Err(refuse("the certificate has expired"));
    }
    let urls = &plan.document.urls;
    let names_crl =
        issuing.der().windows(urls.root_crl.len()).any(|w| w == urls.root_crl.as_bytes());
    if !names_crl {
        return Err(refuse(
            "the certificate does not name urls.root-crl of this file; make the two files agree",
        ));
    }
    let list = crl::parse_verified(root_crl, &root)
        .map_err(|why| refuse(&format!("the root's CRL does not stand: {why}")))?;
    if list.next_update < now {
        return Err(refuse("the root's CRL has expired"));
    }
    if (&authority.aia_url, &authority.crl_url, authority.origin.as_str())
        != (&urls.aia, &urls.crl, plan.origin())
    {
        return Err(refuse("[urls] or [log] differ from what the export fixed"));
    }

    let mut keys = Keys(BTreeMap::new());
    for (name, record) in [
        ("issuing", &authority.issuing_key),
        ("log", &authority.log_key),
        ("tls", &authority.tls_key),
    ] {
        keys.0.insert(name.to_owned(), find_key(plan, tokens, name, record)?);
    }
    let mut transcript = begin_transcript(plan, tokens, &keys, "import", now);
    transcript.certificates.push(CertificateLine::of("root (given)", &root));
    transcript.certificates.push(CertificateLine::of("issuing (given)", issuing));
    let made = Made { root: &root, issuing, root_crl };
    let sha256 = settle(plan, place, &transcript, &made, keys.get("log")?, now)?;
    authority.issuing = Some(issuing.pem());
    authority.transcript_sha256 = hex(&sha256);
    place.write_json(&place.authority_path(), &authority)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// The words of a signer that did not sign.
pub(super) fn sign_error(error: SignError) -> String {
    match error {
        SignError::Refuse(why) | SignError::Halt(why) => why,
        SignError::Retry(_) => "CHY-TOKEN-ERROR: the token is away".to_owned(),
    }
}

/// The keys at hand, by name.
struct Keys(BTreeMap<String, AtHand>);

struct AtHand {
    key: DirectKey,
    label: String,
    uri: Pkcs11Uri,
}

impl Keys {
    fn get(&self, name: &str) -> Result<&DirectKey, CeremonyError> {
        self.at_hand(name).map(|at_hand| &at_hand.key)
    }

    fn at_hand(&self, name: &str) -> Result<&AtHand, CeremonyError> {
        self.0.get(name).ok_or_else(|| {
            CeremonyError::Unfinished(format!("CHY-INTERNAL: the plan has no key {name:?}"))
        })
    }

    fn record(&self, name: &str) -> Result<KeyRecord, CeremonyError> {
        let AtHand { key, uri, .. } = self.at_hand(name)?;
        let spki = Base64::encode_string(key.public_key().spki());
        Ok(KeyRecord { uri: uri.to_string(), spki })
    }
}

fn make_keys(plan: &Plan, tokens: &Tokens, place: &Place) -> Result<Keys, CeremonyError> {
    let planned = place.begin(plan)?;
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let mut keys = BTreeMap::new();
    for (file, planned) in plan.keys.iter().zip(&planned.keys) {
        let direct = token(tokens, &file.token)?;
        let id = unhex(&planned.id)
            .ok_or_else(|| unfinished("CHY-INTERNAL: an id is not hexadecimal".to_owned()))?;
        tracing::info!(key = file.name, label = file.label, "generating");
        let key = direct
            .generate(file.kind.into(), &file.label, &id)
            .map_err(|why| unfinished(why.to_string()))?;
        key.attributes.check(&file.name, false).map_err(|why| {
            unfinished(format!(
                "CHY-CEREMONY-ATTRIBUTES: the token made a key that reads back otherwise than asked for: {}",
                why.message
            ))
        })?;
        let uri = Pkcs11Uri {
            token: Some(direct.token.label.clone()),
            serial: Some(direct.token.serial.clone()),
            object: Some(file.label.clone()),
            object_type: Some("private".to_owned()),
            id: Some(id),
            ..Pkcs11Uri::default()
        };
        keys.insert(file.name.clone(), AtHand { key, label: file.label.clone(), uri });
    }
    Ok(Keys(keys))
}

fn find_key(
    plan: &Plan,
    tokens: &Tokens,
    name: &str,
    record: &KeyRecord,
) -> Result<AtHand, CeremonyError> {
    let refused = |why: String| CeremonyError::Refused(why);
    let broken =
        |why: &str| refused(format!("CHY-CA-BROKEN: ca/authority.json: key {name:?}: {why}"));
    let file = plan
        .keys
        .iter()
        .find(|key| key.name == name)
        .ok_or_else(|| refused(format!("CHY-CEREMONY-FILE: no key {name:?}")))?;
    let uri = Pkcs11Uri::parse(&record.uri).map_err(|why| broken(&why))?;
    let id = uri.id.clone().ok_or_else(|| broken("its URI has no id"))?;
    let spki = Base64::decode_vec(&record.spki).map_err(|_| broken("its spki is not base64"))?;
    let public = PublicKey::from_spki(&spki).map_err(|why| broken(why.0))?;
    let direct = token(tokens, &file.token)?;
    let key = direct.key(&id, public).map_err(|why| refused(why.to_string()))?;
    key.attributes.check(name, direct.allows_clones()).map_err(|why| refused(why.to_string()))?;
    Ok(AtHand { key, label: file.label.clone(), uri })
}

/// Writes both CA certificates for a key that nobody has, so that a template which no lint lets through is
/// refused before a key exists.
fn dress_rehearsal(plan: &Plan, now: Timestamp) -> Result<(), CeremonyError> {
    let key = PublicKey::from_spki(GENERATOR)
        .map_err(|why| CeremonyError::Refused(format!("CHY-INTERNAL: {}", why.0)))?;
    let refused = |why: rehearse::RehearsalError| {
        CeremonyError::Refused(format!(
            "CHY-CEREMONY-FILE: such a certificate cannot be made: {why}"
        ))
    };
    let mut ca = Ca {
        template: template(plan.document.root.as_ref())?,
        key: &key,
        serial: Serial::from_random([1; 16]),
        now,
        issuer: None,
        aia_url: None,
        crl_url: None,
    };
    let tbs = rehearse::ca(&ca).map_err(refused)?;
    let root = Certificate::assemble(tbs.der(), key.preferred_algorithm(), FILLER)
        .map_err(|why| CeremonyError::Refused(format!("CHY-INTERNAL: {}", why.0)))?;
    ca.template = template(plan.document.issuing.as_ref())?;
    ca.serial = Serial::from_random([2; 16]);
    ca.issuer = Some(&root);
    ca.crl_url = Some(&plan.document.urls.root_crl);
    rehearse::ca(&ca).map(|_| ()).map_err(refused)
}

struct Subordinate<'a> {
    issuer: &'a Certificate,
    key: &'a PublicKey,
    crl_url: &'a str,
}

/// Rehearses, signs and verifies one CA certificate.
fn certify(
    place: &Place,
    now: Timestamp,
    template: &CaTemplate,
    signer: &DirectKey,
    subordinate: Option<Subordinate<'_>>,
) -> Result<Certificate, CeremonyError> {
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let tbs: Tbs = rehearse::ca(&Ca {
        template,
        key: subordinate.as_ref().map_or_else(|| signer.public_key(), |s| s.key),
        serial: Serial::from_random(random_16(&*place.rng)),
        now,
        issuer: subordinate.as_ref().map(|s| s.issuer),
        aia_url: None,
        crl_url: subordinate.as_ref().map(|s| s.crl_url),
    })
    .map_err(|why| unfinished(format!("CHY-CEREMONY-FILE: {:?}: {why}", template.common_name)))?;
    let signature = signer.sign(tbs.der()).map_err(|why| unfinished(sign_error(why)))?;
    let algorithm = signer.public_key().preferred_algorithm();
    let certificate = Certificate::assemble(tbs.der(), algorithm, &signature).map_err(|why| {
        unfinished(format!("CHY-INTERNAL: the certificate does not parse: {}", why.0))
    })?;
    let verified = match &subordinate {
        Some(s) => certificate.verify_issued_by(s.issuer),
        None => certificate.verify_issued_by(&certificate),
    };
    if !verified {
        return Err(unfinished(format!(
            "CHY-KEY-MISMATCH: the certificate {:?} does not verify under its issuer",
            template.common_name
        )));
    }
    Ok(certificate)
}

struct RootCrl {
    der: Vec<u8>,
    line: CrlLine,
}

fn sign_root_crl(
    plan: &Plan,
    now: Timestamp,
    signer: &DirectKey,
    root: &Certificate,
) -> Result<RootCrl, CeremonyError> {
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let days = u64::from(plan.document.root_crl_days.unwrap_or_default());
    let (_, root_ends) = root.validity();
    let next_update = now.plus(Duration::from_secs(days * 86_400)).min(root_ends);
    let tbs = crl::tbs(root, 1, now, next_update, &[]);
    let signature = signer.sign(&tbs).map_err(|why| unfinished(sign_error(why)))?;
    let der = crl::assemble(&tbs, signer.public_key().preferred_algorithm(), &signature);
    let read = crl::parse_verified(&der, root).map_err(|why| {
        unfinished(format!("CHY-INTERNAL: the root's CRL does not verify: {why}"))
    })?;
    let line = CrlLine {
        number: read.number,
        this_update: read.this_update.to_string(),
        next_update: read.next_update.to_string(),
        sha256: hex(digest(&SHA256, &der).as_ref()),
    };
    Ok(RootCrl { der, line })
}

fn begin_transcript(
    plan: &Plan,
    tokens: &Tokens,
    keys: &Keys,
    act: &str,
    now: Timestamp,
) -> Transcript {
    let understood = serde_json::to_vec(&(&plan.document, &plan.keys)).unwrap_or_default();
    let origin = plan.origin().to_owned();
    let log_key = keys
        .get("log")
        .ok()
        .and_then(|key| VerifierKey::from_spki(&origin, key.public_key().spki()).ok())
        .map_or_else(String::new, |key| key.to_string());
    Transcript {
        version: 1,
        act: act.to_owned(),
        ceremony: plan.document.name.clone(),
        description: plan.document.description.clone(),
        plan_sha256: hex(digest(&SHA256, &understood).as_ref()),
        program: concat!("chancery ", env!("CARGO_PKG_VERSION")).to_owned(),
        at: now.to_string(),
        tokens: tokens
            .iter()
            .map(|(role, direct)| TokenLine {
                role: role.clone(),
                module: direct.module.clone(),
                token: direct.token.clone(),
            })
            .collect(),
        keys: keys
            .0
            .iter()
            .map(|(name, at_hand)| KeyLine {
                name: name.clone(),
                label: at_hand.label.clone(),
                uri: at_hand.uri.to_string(),
                spki: Base64::encode_string(at_hand.key.public_key().spki()),
                spki_sha256: hex(&at_hand.key.public_key().spki_sha256()),
                attributes: at_hand.key.attributes.clone(),
            })
            .collect(),
        certificates: Vec::new(),
        root_crl: None,
        log_origin: origin,
        log_key,
        urls: plan.document.urls.clone(),
    }
}

fn write_transcript(place: &Place, transcript: &Transcript) -> Result<[u8; 32], CeremonyError> {
    let bytes = transcript.to_json();
    let mut sha256 = [0u8; 32];
    sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    let stem: String = transcript.at.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let path = place.ca.join(format!("transcript-{}-{stem}.json", transcript.act));
    place.write(&path, &bytes)?;
    place.write(&path.with_extension("txt"), transcript.to_text(&sha256).as_bytes())?;
    Ok(sha256)
}

/// What the log's first record and the public files are about.
struct Made<'a> {
    root: &'a Certificate,
    issuing: &'a Certificate,
    root_crl: &'a [u8],
}

impl Made<'_> {
    fn is_of(&self, first: &CeremonyV1, log_key: &PublicKey) -> bool {
        first.root_sha256 == self.root.fingerprint()
            && first.issuing_sha256 == self.issuing.fingerprint()
            && first.log_key == log_key.spki()
    }
}

/// Transcript, log with its first checkpoint, public files: all but the commit.
fn settle(
    plan: &Plan,
    place: &Place,
    transcript: &Transcript,
    made: &Made<'_>,
    log_key: &DirectKey,
    now: Timestamp,
) -> Result<[u8; 32], CeremonyError> {
    let unfinished = |why: String| CeremonyError::Unfinished(why);
    let verifier =
        VerifierKey::from_spki(plan.origin(), log_key.public_key().spki()).map_err(|why| {
            unfinished(format!("CHY-CEREMONY-FILE: the log key cannot sign notes: {}", why.0))
        })?;
    let opening = || Opening {
        disk: Arc::clone(&place.disk),
        dir: place.log.clone(),
        public: place.public.clone(),
        settings: place.log_settings.clone(),
        signer: Arc::new(LogSigner { key: log_key.clone(), verifier: verifier.clone() }),
        clock: Arc::clone(&place.clock),
        on_halt: Box::new(|why| tracing::error!(%why, "the log halted")),
    };
    let failed = |why: OpenError| match why {
        OpenError::Retry(why) | OpenError::Refuse(why) | OpenError::Halt(why) => unfinished(why),
    };
    // An import that was cut short has begun the log already, and signed a checkpoint over it: the same log
    // is then gone on with, never another one in its place.
    let begun = place.disk.list(&place.log).is_ok_and(|names| !names.is_empty());
    let begun = if begun { Log::open(opening()).ok() } else { None };
    let (log, sha256) = match begun {
        Some(log) => {
            let first = log.read(LeafIndex(0)).map_err(unfinished)?;
            let sha256 = match first {
                Record::CeremonyV1(first) if made.is_of(&first, log_key.public_key()) => {
                    first.transcript_sha256
                }
                _ => {
                    return Err(unfinished(format!(
                        "CHY-LOG-EXISTS: {} holds the log of another CA",
                        place.log.display()
                    )));
                }
            };
            (log, sha256)
        }
        None => {
            let sha256 = write_transcript(place, transcript)?;
            let first = CeremonyV1 {
                at: now,
                origin: plan.origin().to_owned(),
                root_sha256: made.root.fingerprint(),
                issuing_sha256: made.issuing.fingerprint(),
                log_key: log_key.public_key().spki().to_vec(),
                transcript_sha256: sha256,
            };
            (Log::create(opening(), first).map_err(failed)?, sha256)
        }
    };
    // Its threads end with the value, and what was due is signed and published by then.
    drop(log);
    let checkpoint = place.disk.read(&place.public.join("checkpoint"), 65_536).map_err(|e| {
        unfinished(format!("CHY-STATE-DIR: the first checkpoint was not published: {e}"))
    })?;
    let checkpoint = Checkpoint::open(&checkpoint, &verifier).map_err(|why| {
        unfinished(format!("CHY-INTERNAL: the first checkpoint does not verify: {why:?}"))
    })?;
    if checkpoint.head.size != 1 {
        return Err(unfinished(
            "CHY-INTERNAL: the first checkpoint is not of one record".to_owned(),
        ));
    }
    publish(place, plan, made.root, Some(made.issuing), Some(made.root_crl))?;
    Ok(sha256)
}

/// `root.pem`, and what the URLs name.
fn publish(
    place: &Place,
    plan: &Plan,
    root: &Certificate,
    issuing: Option<&Certificate>,
    root_crl: Option<&[u8]>,
) -> Result<(), CeremonyError> {
    let urls = &plan.document.urls;
    if let Some(bytes) = root_crl {
        // The issuer publishes it again from here: the root key is not at hand every day.
        place.write(&place.ca.join(ROOT_CRL), bytes)?;
    }
    place.write(&place.public.join("root.pem"), root.pem().as_bytes())?;
    let named = [(&urls.aia, issuing.map(Certificate::der)), (&urls.root_crl, root_crl)];
    for (url, bytes) in named {
        if let (Some(file), Some(bytes)) = (published_as(url), bytes) {
            place.write(&place.public.join(file), bytes)?;
        }
    }
    Ok(())
}

fn authority(
    plan: &Plan,
    keys: &Keys,
    root: &Certificate,
    issuing: Option<&Certificate>,
    root_key: Option<KeyRecord>,
    sha256: &[u8; 32],
) -> Result<Authority, CeremonyError> {
    let urls = &plan.document.urls;
    Ok(Authority {
        version: 1,
        origin: plan.origin().to_owned(),
        aia_url: urls.aia.clone(),
        crl_url: urls.crl.clone(),
        root_crl_url: urls.root_crl.clone(),
        root: root.pem(),
        issuing: issuing.map(Certificate::pem),
        root_key,
        issuing_key: keys.record("issuing")?,
        log_key: keys.record("log")?,
        tls_key: keys.record("tls")?,
        transcript_sha256: hex(sha256),
    })
}

/// The root's CRL, kept in `ca/`.
const ROOT_CRL: &str = "root.crl";

/// Signs the log's first checkpoint.
struct LogSigner {
    key: DirectKey,
    verifier: VerifierKey,
}

impl NoteSigner for LogSigner {
    fn verifier_key(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign_checkpoint(
        &self,
        note_text: &[u8],
        head: &TreeHead,
        now: Timestamp,
    ) -> Result<Vec<u8>, NoteSignError> {
        let message = self.verifier.message(note_text, head, now);
        let signature =
            self.key.sign(&message).map_err(|why| NoteSignError::Halt(sign_error(why)))?;
        Ok(self.verifier.signature_octets(&signature, now))
    }
}

fn template(template: Option<&CaTemplate>) -> Result<&CaTemplate, CeremonyError> {
    template.ok_or_else(|| {
        CeremonyError::Refused("CHY-CEREMONY-FILE: [root] or [issuing] is missing".to_owned())
    })
}

/// A P-256 key that is nobody's: the generator of the curve.
const GENERATOR: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1,
    0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d,
    0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
    0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b,
    0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5,
];

/// In a signature's place where none is made.
const FILLER: &[u8] = &[0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01];
