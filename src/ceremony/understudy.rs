//! For rehearsals: a box like this one of which every key is another. Each is made on a throw-away token under the label and
//! the id of the one that it stands for, and what this box holds under its own keys (certificates, CRLs, what the log says of
//! roots and issuing CAs) is signed again under theirs. So any ceremony can be held on it to its end, and nothing that is made
//! there counts anywhere else. This box is read, and no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64ct::{Base64, Encoding};

use super::CeremonyError;
use super::keys::sign_error;
use super::later::{broken, refused, unchanged};
use super::settle::LogSigner;
use super::state::{Place, RootRecord};
use crate::hsm::Signer;
use crate::hsm::direct::{Direct, DirectKey};
use crate::id::LeafIndex;
use crate::log::keys::statement;
use crate::log::note::{Note, NoteSigner, VerifierKey};
use crate::log::reader::Reader;
use crate::log::record::{AuthorityRetiredV1, CeremonyV1, LogKeyRotatedV1, Record};
use crate::log::writer::Opening;
use crate::log::{Log, Release};
use crate::pki::authority::{Authority, KeyRecord};
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::pki::key::{PublicKey, SignatureAlgorithm};
use crate::pki::uri::Pkcs11Uri;
use crate::state::Format;

/// Throw-away tokens by label.
pub type Stage = BTreeMap<String, Arc<Direct>>;

/// Who stands for what.
pub struct Understudy {
    keys: Vec<StandIn>,
    /// Certificates of this box, and those that stand for them.
    certificates: Vec<(Certificate, Certificate)>,
}

struct StandIn {
    real: PublicKey,
    key: DirectKey,
    record: KeyRecord,
}

/// The labels of the tokens that `make` needs.
pub fn labels(real: &Place) -> Result<BTreeSet<String>, CeremonyError> {
    let mut labels = BTreeSet::from([ELSEWHERE.to_owned()]);
    for record in records(real)? {
        labels.extend(uri(&record)?.token);
    }
    Ok(labels)
}

/// The label of the token that an entry of a ceremony file names otherwise, as a key of this box knows it.
pub fn label_of_serial(real: &Place, serial: &str) -> Result<Option<String>, CeremonyError> {
    for record in records(real)? {
        let uri = uri(&record)?;
        if uri.serial.as_deref() == Some(serial) {
            return Ok(uri.token);
        }
    }
    Ok(None)
}

impl Understudy {
    /// Makes keys on the tokens of `stage` for all that `real` has, and a state for them in `copy`. With `ends`, also the
    /// log's leaves that retire issuing CAs, for which the log is read as a whole.
    pub fn make(
        real: &Place,
        copy: &Place,
        stage: &Stage,
        ends: bool,
    ) -> Result<Self, CeremonyError> {
        let mut this = Self { keys: Vec::new(), certificates: Vec::new() };
        for record in records(real)? {
            this.stand_in(&record, stage)?;
        }
        let authority = real.authority()?;
        for root in authority.iter().flat_map(Authority::roots).filter(|root| root.key.is_none()) {
            this.root_elsewhere(&parsed(root.certificate)?, stage)?;
        }
        this.copy_files(real, copy)?;
        if let Some(mut record) = real.read_json::<RootRecord>(&real.root_path())? {
            record.root_key = this.record(&record.root_key)?;
            this.recast(&mut record.root)?;
            copy.write_json(&copy.root_path(), &record).map_err(unchanged)?;
        }
        if let Some(authority) = &authority {
            let made = this.authority(authority)?;
            copy.write_json(&copy.authority_path(), &made).map_err(unchanged)?;
            if authority.issuing.is_some() {
                this.begin_log(real, copy, authority, &made, ends)?;
            }
        }
        for name in real.disk.list(&real.ca).unwrap_or_default() {
            if name.ends_with(".crl") {
                let der = read(real, &name, crl::MAX_DER as u64)?;
                copy.write(&copy.ca.join(&name), &this.crl(&der)?).map_err(unchanged)?;
            }
        }
        Ok(this)
    }

    /// The SubjectPublicKeyInfo that stands for one of this box.
    pub fn spki(&self, real: &[u8]) -> Option<&[u8]> {
        let stand_in = self.keys.iter().find(|stand_in| stand_in.real.spki() == real)?;
        Some(stand_in.key.public_key().spki())
    }

    /// The certificate as it stands for one of this box, or was signed for it; what no key here or of its roots has
    /// signed comes back as it is.
    pub fn certificate(&self, real: &Certificate) -> Result<Certificate, CeremonyError> {
        let (algorithm, signature) = real.signature();
        let by = |it: &&StandIn| it.real.verify(algorithm, real.tbs(), signature);
        let Some(signer) = self.keys.iter().find(by) else { return Ok(real.clone()) };
        let mut tbs = real.tbs().to_vec();
        for StandIn { real, key, .. } in &self.keys {
            let key = key.public_key();
            replace(&mut tbs, real.spki(), key.spki());
            replace(&mut tbs, &real.key_id(), &key.key_id());
        }
        let signature = signer.sign(algorithm, &tbs)?;
        Certificate::assemble(&tbs, algorithm, &signature).map_err(|why| {
            refused(&format!("CHY-INTERNAL: a certificate of the rehearsal: {}", why.0))
        })
    }

    /// The same for a root that this box does not have yet, which gets a stand-in for its key.
    pub fn root(&mut self, real: Certificate, stage: &Stage) -> Result<Certificate, CeremonyError> {
        // What is no root is for the ceremony to refuse.
        if real.verify_issued_by(&real) {
            self.root_elsewhere(&real, stage)?;
        }
        let made = self.certificate(&real)?;
        self.certificates.push((real, made.clone()));
        Ok(made)
    }

    /// The same for a CRL of a root.
    pub fn crl(&self, der: &[u8]) -> Result<Vec<u8>, CeremonyError> {
        for (real, made) in &self.certificates {
            let (Ok(list), Some(signer)) =
                (crl::parse_verified(der, real), self.key_of(real.public_key()))
            else {
                continue;
            };
            let crl::Crl { number, this_update, next_update, ref revoked, .. } = list;
            let public = signer.key.public_key();
            let issuer = made.clone().whose_key_signs_as(public);
            let tbs = crl::tbs(&issuer, number, this_update, next_update, revoked);
            let algorithm = public.preferred_algorithm();
            return Ok(crl::assemble(&tbs, algorithm, &signer.sign(algorithm, &tbs)?));
        }
        Ok(der.to_vec())
    }

    fn key_of(&self, real: &PublicKey) -> Option<&StandIn> {
        self.keys.iter().find(|stand_in| stand_in.real.spki() == real.spki())
    }

    fn stand_in(&mut self, record: &KeyRecord, stage: &Stage) -> Result<(), CeremonyError> {
        let real = record.public_key().map_err(broken)?;
        if self.key_of(&real).is_some() {
            return Ok(());
        }
        let named = uri(record)?;
        let token = named.token.unwrap_or_default();
        let label = named.object.unwrap_or_default();
        let id = named.id.ok_or_else(|| broken("a key's URI has no id"))?;
        self.generate(real, &token, &label, id, stage)
    }

    /// The stand-in for a root key that is on another box.
    fn root_elsewhere(&mut self, root: &Certificate, stage: &Stage) -> Result<(), CeremonyError> {
        let (algorithm, _) = root.signature();
        let real = root.public_key().clone();
        let real = real.signing_with(algorithm).ok_or_else(|| broken("a root's signature"))?;
        if self.key_of(&real).is_some() {
            return Ok(());
        }
        let id = real.key_id().to_vec();
        self.generate(real, ELSEWHERE, &format!("root {}", self.keys.len()), id, stage)
    }

    fn generate(
        &mut self,
        real: PublicKey,
        token: &str,
        label: &str,
        id: Vec<u8>,
        stage: &Stage,
    ) -> Result<(), CeremonyError> {
        let said = |why: crate::hsm::token::TokenError| refused(&why.to_string());
        let (kind, algorithm) = (real.kind(), real.preferred_algorithm());
        let cannot = |why: &str| {
            refused(&format!(
                "CHY-REHEARSAL: no throw-away key can stand for {label:?}, which is {kind}: {why}; nothing was rehearsed"
            ))
        };
        let direct = stage.get(token).ok_or_else(|| cannot("it has no token"))?;
        let lacks = direct.lacks(kind, algorithm).map_err(said)?;
        if !lacks.is_empty() {
            return Err(cannot(&format!("SoftHSM2 has no {}", lacks.join(" and no "))));
        }
        let key = direct.generate(kind, label, &id).map_err(said)?;
        let key = key.signing_with(algorithm).ok_or_else(|| cannot("it does not sign so"))?;
        if key.public_key().spki().len() != real.spki().len() {
            return Err(cannot("one is written in another length"));
        }
        let uri = Pkcs11Uri {
            object: Some(label.to_owned()),
            object_type: Some("private".to_owned()),
            id: Some(id),
            ..direct.token.uri()
        };
        let record = KeyRecord::new(&uri, key.public_key());
        self.keys.push(StandIn { real, key, record });
        Ok(())
    }

    /// What no key of this box has signed.
    fn copy_files(&self, real: &Place, copy: &Place) -> Result<(), CeremonyError> {
        copy.disk
            .create_dir(&copy.ca)
            .map_err(|why| refused(&format!("CHY-STATE-DIR: {}: {why}", copy.ca.display())))?;
        for name in real.disk.list(&real.ca).unwrap_or_default() {
            let made = name.ends_with(".crl") || name == "authority.json" || name == "root.json";
            // Directories are no files; none of them matters to a ceremony.
            if !made && let Ok(octets) = read(real, &name, LARGEST) {
                copy.write(&copy.ca.join(&name), &octets).map_err(unchanged)?;
            }
        }
        Ok(())
    }

    fn record(&self, real: &KeyRecord) -> Result<KeyRecord, CeremonyError> {
        let key = real.public_key().map_err(broken)?;
        let stand_in = self.key_of(&key).ok_or_else(|| broken("a key of it has no stand-in"))?;
        Ok(stand_in.record.clone())
    }

    /// Another certificate in the place of a PEM text.
    fn recast(&mut self, pem: &mut String) -> Result<(), CeremonyError> {
        let real = parsed(pem)?;
        let made = self.certificate(&real)?;
        *pem = made.pem();
        self.certificates.push((real, made));
        Ok(())
    }

    fn authority(&mut self, real: &Authority) -> Result<Authority, CeremonyError> {
        let mut made = real.clone();
        for record in made.root_key.iter_mut().chain([
            &mut made.issuing_key,
            &mut made.log_key,
            &mut made.tls_key,
        ]) {
            *record = self.record(record)?;
        }
        let tls = made.former_tls.iter_mut().map(|former| &mut former.key);
        let others = made.witness.iter_mut().map(|witness| &mut witness.key);
        let logs = made.former_logs.iter_mut().flat_map(|log| &mut log.keys);
        for record in tls.chain(&mut made.older_tls).chain(logs).chain(others) {
            *record = self.record(record)?;
        }
        self.recast(&mut made.root)?;
        if let Some(issuing) = &mut made.issuing {
            self.recast(issuing)?;
        }
        for root in &mut made.further_roots {
            if let Some(record) = &mut root.key {
                *record = self.record(record)?;
            }
            for pem in [&mut root.certificate, &mut root.by_former, &mut root.of_former] {
                self.recast(pem)?;
            }
        }
        for issuing in &mut made.further_issuers {
            issuing.key = self.record(&issuing.key)?;
            if let Some(pem) = &mut issuing.certificate {
                self.recast(pem)?;
            }
        }
        let mut former = real.log_key.clone();
        for rotation in &mut made.log_key_rotations {
            let key = std::mem::replace(&mut former, rotation.key.clone());
            let text = statement(
                &self.verifier(&real.origin, &key)?,
                &self.verifier(&real.origin, &former)?,
            );
            rotation.endorsement = Base64::encode_string(&self.signed(&key, &text)?);
            rotation.possession = Base64::encode_string(&self.signed(&former, &text)?);
            rotation.key = self.record(&former)?;
        }
        Ok(made)
    }

    /// The stand-in of a log key, as it signs notes.
    fn verifier(&self, origin: &str, real: &KeyRecord) -> Result<VerifierKey, CeremonyError> {
        let key = real.public_key().map_err(broken)?;
        let spki = self.spki(key.spki()).unwrap_or_default();
        VerifierKey::from_spki(origin, spki).map_err(|why| broken(why.0))
    }

    fn signed(&self, real: &KeyRecord, text: &str) -> Result<Vec<u8>, CeremonyError> {
        let key = real.public_key().map_err(broken)?;
        let stand_in = self.key_of(&key).ok_or_else(|| broken("a log key has no stand-in"))?;
        stand_in.sign(stand_in.key.public_key().preferred_algorithm(), text.as_bytes())
    }

    /// A log of its own, as far along as the real one: which of its keys sign, and, with `ends`, which issuing CAs are
    /// retired.
    fn begin_log(
        &self,
        real: &Place,
        copy: &Place,
        authority: &Authority,
        made: &Authority,
        ends: bool,
    ) -> Result<(), CeremonyError> {
        let keys: Vec<&KeyRecord> = authority.log_keys().collect();
        let newest = authority.newest_log_key();
        let former = keys.len().checked_sub(2).and_then(|at| keys.get(at).copied());
        let published = real.disk.read(&real.public.join("checkpoint"), LARGEST);
        let note = published.ok().and_then(|octets| Note::parse(&octets).ok());
        let signs = |record: &KeyRecord| {
            let spki = record.spki_der().unwrap_or_default();
            let key = VerifierKey::from_spki(&authority.origin, &spki);
            note.as_ref().zip(key.ok()).is_some_and(|(note, key)| note.by(&key).next().is_some())
        };
        let crossing = former.filter(|former| signs(former));
        let first = crossing.unwrap_or(newest);
        let now = copy.clock.now();
        let fingerprint = |pem: &str| parsed(pem).map(|certificate| certificate.fingerprint());
        let spki = |record: &KeyRecord| self.record(record)?.spki_der().map_err(broken);
        let mut records = Vec::new();
        if let (Some(former), true, Some(rotation)) =
            (crossing, signs(newest), made.log_key_rotations.last())
        {
            let octets =
                |text: &str| Base64::decode_vec(text).map_err(|why| broken(&why.to_string()));
            records.push(Record::LogKeyRotatedV1(LogKeyRotatedV1 {
                at: now,
                former: spki(former)?,
                key: spki(newest)?,
                endorsement: octets(&rotation.endorsement)?,
                possession: octets(&rotation.possession)?,
                until: now.plus(DAY * rotation.cross_over_days),
                transcript_sha256: [0; 32],
            }));
        }
        if ends {
            for certificate_sha256 in self.retired(real)? {
                let record = AuthorityRetiredV1 { at: now, certificate_sha256, by: None };
                records.push(Record::AuthorityRetiredV1(record));
            }
        }
        let mut signers: Vec<Arc<dyn NoteSigner>> = Vec::new();
        // A log begins with the key of the first signer.
        let others = [Some(newest), former].into_iter().flatten().filter(|key| *key != first);
        for record in std::iter::once(first).chain(others) {
            let public = record.public_key().map_err(broken)?;
            let Some(stand_in) = self.key_of(&public) else { continue };
            let verifier = self.verifier(&authority.origin, record)?;
            signers.push(Arc::new(LogSigner { key: stand_in.key.clone(), verifier }));
        }
        let log = Log::create(
            Opening {
                disk: Arc::clone(&copy.disk),
                dir: copy.log.clone(),
                public: copy.public.clone(),
                settings: copy.log_settings.clone(),
                format: Format::OWN,
                signers,
                clock: Arc::clone(&copy.clock),
                read_tbs: |_| None,
                on_halt: Box::new(|why| tracing::error!(%why, "the rehearsal's log halted")),
            },
            CeremonyV1 {
                at: now,
                origin: authority.origin.clone(),
                root_sha256: fingerprint(&made.root)?,
                issuing_sha256: fingerprint(made.issuing.as_deref().unwrap_or_default())?,
                log_key: spki(first)?,
                transcript_sha256: [0; 32],
            },
        )
        .map_err(|why| refused(&why.to_string()))?;
        for record in records {
            log.append_wait(record, Release::Durable)
                .map_err(|why| refused(&format!("CHY-LOG-WAITS: the rehearsal's log: {why:?}")))?;
        }
        // Its threads end with it, and what was due is signed and published by then.
        drop(log);
        Ok(())
    }

    /// The stand-ins of the certificates that this box's log has retired.
    fn retired(&self, real: &Place) -> Result<Vec<[u8; 32]>, CeremonyError> {
        let unread = |why: crate::log::OpenError| refused(&why.to_string());
        let reader = Reader::open(Arc::clone(&real.disk), &real.log).map_err(unread)?;
        let mut retired = Vec::new();
        for entry in reader.entries(LeafIndex(0)) {
            if let Ok(Record::AuthorityRetiredV1(leaf)) = entry.map_err(unread)?.record {
                let of = |(certificate, _): &&(Certificate, Certificate)| {
                    certificate.fingerprint() == leaf.certificate_sha256
                };
                retired
                    .extend(self.certificates.iter().find(of).map(|(_, made)| made.fingerprint()));
            }
        }
        Ok(retired)
    }
}

impl StandIn {
    fn sign(
        &self,
        algorithm: SignatureAlgorithm,
        message: &[u8],
    ) -> Result<Vec<u8>, CeremonyError> {
        let key = self.key.clone().signing_with(algorithm);
        let key = key.ok_or_else(|| broken("a signature that its key cannot make"))?;
        key.sign(message).map_err(|why| refused(&sign_error(why)))
    }
}

/// Every key that this box names.
fn records(real: &Place) -> Result<Vec<KeyRecord>, CeremonyError> {
    let root: Option<RootRecord> = real.read_json(&real.root_path())?;
    let mut records: Vec<KeyRecord> = root.map(|root| root.root_key).into_iter().collect();
    if let Some(authority) = real.authority()? {
        records.extend(authority.keys().cloned());
    }
    Ok(records)
}

fn uri(record: &KeyRecord) -> Result<Pkcs11Uri, CeremonyError> {
    record.parsed_uri().map_err(|why| broken(&why))
}

fn parsed(pem: &str) -> Result<Certificate, CeremonyError> {
    Certificate::parse_pem(pem).map_err(|why| broken(&why.0))
}

fn read(real: &Place, name: &str, limit: u64) -> Result<Vec<u8>, CeremonyError> {
    let path = real.ca.join(name);
    real.disk
        .read(&path, limit)
        .map_err(|why| refused(&format!("CHY-STATE-DIR: {}: {why}", path.display())))
}

/// Puts `new` wherever `old` stands, which is as long: what encloses it stays well-formed.
fn replace(octets: &mut [u8], old: &[u8], new: &[u8]) {
    if old.len() != new.len() || old.is_empty() {
        return;
    }
    let mut rest = octets;
    while let Some(at) = rest.windows(old.len()).position(|found| found == old) {
        let (found, after) = rest.split_at_mut(at).1.split_at_mut(old.len());
        found.copy_from_slice(new);
        rest = after;
    }
}

/// Where roots sign whose keys are on another box.
const ELSEWHERE: &str = "REHEARSAL-ROOT-ELSEWHERE";
const LARGEST: u64 = 1 << 20;
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_replaced_wherever_they_stand_and_nothing_grows() {
        let mut octets = *b"key, then keykey and ke";
        replace(&mut octets, b"key", b"new");
        assert_eq!(&octets, b"new, then newnew and ke");
        replace(&mut octets, b"new", b"longer");
        assert_eq!(&octets, b"new, then newnew and ke");
        // What comes out is not looked at again.
        let mut octets = *b"aab";
        replace(&mut octets, b"aa", b"ba");
        assert_eq!(&octets, b"bab");
    }
}
