//! The ceremony itself, in the order that makes a crash harmless: what will be made is written down; keys;
//! certificates, verified; transcript; log; public files; and `authority.json` last, which makes it all count.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};

use super::certificates::{
    NextCrl, Subordinate, certify, dress_rehearsal, sign_root_crl, template,
};
use super::keys::{Keys, find_key, make_keys};
use super::plan::{Plan, Scope};
use super::settle::{Made, publish, settle};
use super::state::{Place, RootRecord, Tokens, token};
use super::transcript::{CertificateLine, Transcript};
use super::{CeremonyError, request};
use crate::hsm::Signer;
use crate::id::hex;
use crate::pki::authority::{Authority, KeyRecord, WitnessRecord};
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::tlog::note::VerifierKey;

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
    if plan.scope == Scope::Witness {
        return add_witness(plan, tokens, place);
    }
    let now = place.clock.now();
    place.refuse_if_held(plan, tokens)?;
    dress_rehearsal(plan, now)?;
    let keys = make_keys(&plan.document.name, &plan.keys, tokens, place)?;
    let root_key = keys.get("root")?;

    let root = certify(place, now, template(plan.document.root.as_ref())?, root_key, None)?;
    let root_crl = sign_root_crl(&first_root_crl(plan), now, root_key, &root)?;
    let mut transcript = Transcript::begin(plan, tokens, &keys, "run", now);
    transcript.certificates.push(CertificateLine::of("root", &root));
    transcript.root_crl = Some(root_crl.line.clone());
    let root_record = keys.record("root")?;

    if plan.scope == Scope::Root {
        let sha256 = transcript.store(place)?;
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
    let sha256 = settle(plan, place, &mut transcript, &made, keys.get("log")?, now)?;
    let authority = authority(plan, &keys, &root, Some(&issuing), Some(root_record), &sha256)?;
    place.write_json(&place.authority_path(), &authority)?;
    place.end()?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// Makes the key that a box which has its CA cosigns other logs with.
fn add_witness(plan: &Plan, tokens: &Tokens, place: &Place) -> Result<Outcome, CeremonyError> {
    let refused = |why: &str| CeremonyError::Refused(why.to_owned());
    place.refuse_keys(&plan.keys, tokens)?;
    let mut authority =
        place.authority()?.filter(|authority| authority.issuing.is_some()).ok_or_else(|| {
            refused(
                "CHY-CA-ABSENT: this box has no CA yet: hold its own ceremony first, then this one",
            )
        })?;
    if let Some(witness) = &authority.witness {
        return Err(CeremonyError::Refused(format!(
            "CHY-CEREMONY-DONE: this box is the witness {} already; nothing was changed",
            witness.name
        )));
    }
    let entry = plan.document.witness.as_ref();
    let name = entry.map(|entry| entry.name.clone()).unwrap_or_default();
    let keys = make_keys(&plan.document.name, &plan.keys, tokens, place)?;
    let verifier = VerifierKey::cosigner(&name, keys.get("witness")?.public_key().spki())
        .map_err(|why| CeremonyError::Unfinished(format!("CHY-CEREMONY-FILE: {why}")))?;
    let mut transcript = Transcript::begin(plan, tokens, &keys, "run", place.clock.now());
    transcript.witness_key = Some(verifier.to_string());
    let sha256 = transcript.store(place)?;
    authority.witness = Some(WitnessRecord { name, key: keys.record("witness")? });
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
    let keys = make_keys(&plan.document.name, &plan.keys, tokens, place)?;
    let pem = request::make(keys.get("issuing")?)?;
    let mut transcript = Transcript::begin(plan, tokens, &keys, "export-request", now);
    transcript.certificates.push(CertificateLine::of("root (given)", root));
    let sha256 = transcript.store(place)?;
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
    let id = record.root_key.id().map_err(|why| broken(format!("the root key: {why}")))?;
    let role = plan
        .keys
        .iter()
        .find(|key| key.name == "root")
        .ok_or_else(|| refused("CHY-CEREMONY-FILE: this file has no root key".to_owned()))?;
    let public = record.root_key.public_key().map_err(|why| broken(why.to_owned()))?;
    if public != *root.public_key() {
        return Err(broken("the root key is not the root certificate's".to_owned()));
    }
    let signer = token(tokens, &role.token)?
        .key("root", &id, public)
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
        Transcript::begin(plan, tokens, &Keys(BTreeMap::new()), "sign-request", now);
    transcript.certificates.push(CertificateLine::of("root", &root));
    transcript.certificates.push(CertificateLine::of("issuing", &issuing));
    let sha256 = transcript.store(place)?;
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
    let mut transcript = Transcript::begin(plan, tokens, &keys, "import", now);
    transcript.certificates.push(CertificateLine::of("root (given)", &root));
    transcript.certificates.push(CertificateLine::of("issuing (given)", issuing));
    let made = Made { root: &root, issuing, root_crl };
    let sha256 = settle(plan, place, &mut transcript, &made, keys.get("log")?, now)?;
    authority.issuing = Some(issuing.pem());
    authority.transcript_sha256 = hex(&sha256);
    place.write_json(&place.authority_path(), &authority)?;
    Ok(Outcome { transcript, transcript_sha256: sha256, carry: None })
}

/// The root's first CRL: empty.
fn first_root_crl(plan: &Plan) -> NextCrl {
    let days = plan.document.root_crl_days.unwrap_or_default();
    NextCrl { number: 1, days, revoked: Vec::new() }
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
        log_key_rotations: Vec::new(),
        further_issuers: Vec::new(),
        further_roots: Vec::new(),
        done: Vec::new(),
        former_tls: None,
        older_tls: Vec::new(),
        former_logs: Vec::new(),
        transcript_sha256: hex(sha256),
        witness: None,
    })
}
