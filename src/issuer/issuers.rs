//! The issuing CAs of this box: which of them issues, which only answers for what it issued, and which is done with.
//!
//! They stand in *lines*: of each line the newest issues, those before it are superseded. What counts is the log: an
//! issuing CA issues from the leaf on that adds it, and signs nothing after the leaf that retires it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::publish::Places;
use super::signing::SignQueue;
use crate::id::{Timestamp, unhex};
use crate::log::Log;
use crate::log::record::{IssuerAddedV1, Record, RootAddedV1};
use crate::pki::authority::{Authority, Issuing, Root};
use crate::pki::certificate::Certificate;
use crate::pki::crl;
use crate::pki::cross::Tied;
use crate::pki::key::SignatureAlgorithm;

/// One of them.
pub(super) struct Issuer {
    pub(super) name: String,
    pub(super) line: String,
    pub(super) certificate: Certificate,
    pub(super) sha256: [u8; 32],
    pub(super) root_sha256: [u8; 32],
    /// Whose place it takes.
    pub(super) supersedes: Option<[u8; 32]>,
    pub(super) transcript_sha256: [u8; 32],
    pub(super) aia_url: String,
    pub(super) crl_url: String,
    /// `None` where `ca/authority.json` says that it is done with: then the token need not hold it.
    key: Option<Arc<dyn SignQueue>>,
    /// The log has the leaf that adds it.
    added: AtomicBool,
    /// The log has the leaf that retires it.
    retired: AtomicBool,
    /// Its root's CRL lists it.
    revoked: AtomicBool,
}

impl Issuer {
    /// The key, as long as it may sign at all.
    pub(super) fn key(&self) -> Option<&Arc<dyn SignQueue>> {
        self.key.as_ref().filter(|_| !self.is_retired())
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    pub(super) fn is_added(&self) -> bool {
        self.added.load(Ordering::SeqCst)
    }

    pub(super) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst)
    }

    /// Its root has revoked it: there is no way back.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
    }

    /// The log says so now.
    pub(super) fn add(&self) {
        self.added.store(true, Ordering::SeqCst);
    }

    /// The log says so now.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub(super) fn algorithm(&self) -> SignatureAlgorithm {
        self.certificate.public_key().preferred_algorithm()
    }

    /// Puts a fresh signature to a TBSCertificate's bytes and verifies it under this certificate. The pool verified
    /// under the key it pinned; this does not rely on that.
    pub(super) fn assemble(&self, tbs: &[u8], signature: &[u8]) -> Option<Certificate> {
        let certificate = Certificate::assemble(tbs, self.algorithm(), signature).ok()?;
        certificate.verify_issued_by(&self.certificate).then_some(certificate)
    }

    /// Whether the CRL at `url` is this one's: the complete one or a shard, of whatever number.
    pub(super) fn has_crl(&self, url: &str) -> bool {
        url == self.crl_url || crl::is_shard_of(&self.crl_url, url)
    }
}

/// All of them, oldest first.
pub(super) struct Issuers {
    all: Vec<Arc<Issuer>>,
}

impl Issuers {
    /// Reads what the ceremonies fixed and holds it against what the log says. `keys` has a key for each that is not
    /// done with, by its name.
    pub(super) fn open(
        authority: &Authority,
        roots: &[RootOf],
        keys: &dyn Fn(&str) -> Option<Arc<dyn SignQueue>>,
        log: &Log,
    ) -> Result<Self, String> {
        let mut all: Vec<Arc<Issuer>> = Vec::new();
        for (n, issuing) in authority.issuers().enumerate() {
            // Between export and import of a request there is nothing to issue with.
            let Some(pem) = issuing.certificate else { continue };
            let issuer = read(&issuing, pem, roots, keys, &all)?;
            // The first is in the ceremony's own leaf.
            issuer.added.store(n == 0, Ordering::SeqCst);
            all.push(Arc::new(issuer));
        }
        let this = Self { all };
        this.replay(roots, log)?;
        Ok(this)
    }

    /// A key of the token's pool: whichever it is, they share one queue.
    pub(super) fn queue(&self) -> Option<&Arc<dyn SignQueue>> {
        self.all.iter().find_map(|issuer| issuer.key())
    }

    /// What the log says of them.
    fn replay(&self, roots: &[RootOf], log: &Log) -> Result<(), String> {
        let disagree = |why: String| {
            format!(
                "CHY-CA-LOG: {why}; restore ca/authority.json as the newest ceremony of this log left it"
            )
        };
        for leaf in log.index().authorities().map_err(&disagree)? {
            match log.read(leaf).map_err(&disagree)? {
                Record::IssuerAddedV1(added) => {
                    let sha256 = crate::log::tree::sha256(&added.certificate);
                    let issuer = self.of(&sha256).ok_or_else(|| {
                        disagree(format!(
                            "leaf {leaf} adds the issuing CA {:?}, which ca/authority.json does not name",
                            added.name
                        ))
                    })?;
                    if issuer.record(added.at) != added {
                        return Err(disagree(format!(
                            "leaf {leaf} says otherwise of the issuing CA {:?} than ca/authority.json",
                            added.name
                        )));
                    }
                    issuer.add();
                }
                Record::RootAddedV1(added) => {
                    let is_it = |pair: &&[RootOf]| {
                        pair[1].record(&pair[0], added.at).is_some_and(|record| record == added)
                    };
                    let [_, root] = roots.windows(2).find(is_it).ok_or_else(|| {
                        disagree(format!(
                            "leaf {leaf} adds the root {:?}, which ca/authority.json does not name so",
                            added.name
                        ))
                    })? else { continue };
                    root.add();
                }
                Record::AuthorityRetiredV1(retired) => {
                    let sha256 = retired.certificate_sha256;
                    if let Some(issuer) = self.of(&sha256) {
                        issuer.retire();
                    }
                    let root =
                        roots.iter().find(|root| root.tied.certificate.fingerprint() == sha256);
                    if let Some(root) = root {
                        root.retire();
                    }
                }
                _ => {}
            }
        }
        for issuer in &self.all {
            if issuer.key.is_none() && !issuer.is_retired() {
                return Err(disagree(format!(
                    "ca/authority.json says that the issuing CA {:?} is done with, but the log has not retired it",
                    issuer.name
                )));
            }
        }
        Ok(())
    }

    pub(super) fn all(&self) -> &[Arc<Issuer>] {
        &self.all
    }

    /// By SHA-256 over its certificate.
    pub(super) fn of(&self, sha256: &[u8; 32]) -> Option<&Arc<Issuer>> {
        self.all.iter().find(|issuer| issuer.sha256 == *sha256)
    }

    /// The one that issues in a line.
    pub(super) fn active(&self, line: &str) -> Option<&Arc<Issuer>> {
        let newest = self.all.iter().rev().find(|issuer| issuer.line == line && issuer.is_added());
        newest.filter(|issuer| !issuer.is_retired())
    }

    pub(super) fn is_active(&self, issuer: &Issuer) -> bool {
        self.active(&issuer.line).is_some_and(|active| active.sha256 == issuer.sha256)
    }

    /// Whether it is the last of its line, in the log or not yet.
    pub(super) fn is_newest(&self, issuer: &Issuer) -> bool {
        self.newest().any(|newest| newest.sha256 == issuer.sha256)
    }

    /// The one that a certificate names as its issuer.
    pub(super) fn of_certificate(&self, certificate: &Certificate) -> Option<&Arc<Issuer>> {
        self.all.iter().find(|issuer| {
            certificate.issuer_der() == issuer.certificate.subject_der()
                && certificate.authority_key_id() == issuer.certificate.subject_key_id()
        })
    }

    /// The one whose CRL is at this URL.
    pub(super) fn of_crl(&self, url: &str) -> Option<&Arc<Issuer>> {
        self.all.iter().find(|issuer| issuer.has_crl(url))
    }

    /// The last of each line: they issue as soon as the log has them, and the policy must fit in each.
    pub(super) fn newest(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        let is_last = |n: usize, issuer: &Issuer| {
            !issuer.is_retired()
                && self.all.iter().skip(n + 1).all(|later| later.line != issuer.line)
        };
        self.all.iter().enumerate().filter(move |(n, issuer)| is_last(*n, issuer)).map(|(_, i)| i)
    }
}

impl Issuer {
    /// The leaf that adds it.
    pub(super) fn record(&self, at: Timestamp) -> IssuerAddedV1 {
        IssuerAddedV1 {
            at,
            name: self.name.clone(),
            line: self.line.clone(),
            certificate: self.certificate.der().to_vec(),
            root_sha256: self.root_sha256,
            supersedes: self.supersedes,
            crl: self.crl_url.clone(),
            transcript_sha256: self.transcript_sha256,
        }
    }
}

/// A root, read.
pub(super) struct RootOf {
    pub(super) name: String,
    pub(super) crl_url: String,
    transcript_sha256: [u8; 32],
    pub(super) tied: Tied,
    /// The log has the leaf that adds it.
    added: AtomicBool,
    /// The log has the leaf that retires it.
    retired: AtomicBool,
}

impl RootOf {
    /// Every root that ceremonies made, oldest first.
    pub(super) fn read(authority: &Authority) -> Result<Vec<Self>, String> {
        let parse = |(n, root): (usize, Root<'_>)| {
            let transcript_sha256 = digest(root.transcript_sha256).ok_or_else(|| {
                broken(&format!("the transcript of {} has no SHA-256", root.name))
            })?;
            Ok(Self {
                name: root.name.to_owned(),
                crl_url: root.crl_url.to_owned(),
                transcript_sha256,
                tied: Tied::read(&root).map_err(|why| broken(&why))?,
                // The first is in the ceremony's own leaf.
                added: AtomicBool::new(n == 0),
                retired: AtomicBool::new(false),
            })
        };
        authority.roots().enumerate().map(parse).collect()
    }

    pub(super) fn is_added(&self) -> bool {
        self.added.load(Ordering::SeqCst)
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    /// The log says so now.
    pub(super) fn add(&self) {
        self.added.store(true, Ordering::SeqCst);
    }

    /// The log says so now.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// The leaf that adds it, after the one before it.
    pub(super) fn record(&self, former: &Self, at: Timestamp) -> Option<RootAddedV1> {
        let (by_former, of_former) = self.tied.ties.as_ref()?;
        Some(RootAddedV1 {
            at,
            name: self.name.clone(),
            certificate: self.tied.certificate.der().to_vec(),
            former_sha256: former.tied.certificate.fingerprint(),
            by_former: by_former.der().to_vec(),
            of_former: of_former.der().to_vec(),
            transcript_sha256: self.transcript_sha256,
        })
    }
}

fn read(
    issuing: &Issuing<'_>,
    pem: &str,
    roots: &[RootOf],
    keys: &dyn Fn(&str) -> Option<Arc<dyn SignQueue>>,
    before: &[Arc<Issuer>],
) -> Result<Issuer, String> {
    let name = issuing.name;
    let certificate = Certificate::parse_pem(pem)
        .map_err(|why| broken(&format!("the certificate of {name} does not parse: {why}")))?;
    let root = roots
        .iter()
        .find(|root| root.name == issuing.root)
        .ok_or_else(|| broken(&format!("{name} is of a root that is not named")))?;
    if !certificate.is_ca() || !certificate.verify_issued_by(&root.tied.certificate) {
        return Err(broken(&format!("the issuing certificate of {name} is not its root's")));
    }
    Places::new(issuing.aia_url, issuing.crl_url, &root.crl_url).map_err(|why| broken(&why))?;
    let key = keys(name).filter(|_| !issuing.done);
    if let Some(key) = &key
        && key.public_key().spki() != certificate.public_key().spki()
    {
        return Err(format!(
            "CHY-KEY-MISMATCH: the {name} key of the token is not the one the ceremony fixed; use the token of this CA"
        ));
    }
    if key.is_none() && !issuing.done {
        return Err(broken(&format!("there is no key for {name}")));
    }
    let certificate = match &key {
        Some(key) => certificate.whose_key_signs_as(key.public_key()),
        None => certificate,
    };
    let former = before.iter().rev().find(|former| former.line == issuing.line);
    Ok(Issuer {
        name: name.to_owned(),
        line: issuing.line.to_owned(),
        sha256: certificate.fingerprint(),
        root_sha256: root.tied.certificate.fingerprint(),
        supersedes: former.map(|former| former.sha256),
        transcript_sha256: digest(issuing.transcript_sha256)
            .ok_or_else(|| broken(&format!("the transcript of {name} has no SHA-256")))?,
        aia_url: issuing.aia_url.to_owned(),
        crl_url: issuing.crl_url.to_owned(),
        certificate,
        key,
        added: AtomicBool::new(false),
        retired: AtomicBool::new(false),
        revoked: AtomicBool::new(false),
    })
}

fn broken(why: &str) -> String {
    format!("CHY-CA-BROKEN: ca/authority.json: {why}; restore it from the ceremony's backup")
}

/// A SHA-256 in hexadecimal.
pub(super) fn digest(hex: &str) -> Option<[u8; 32]> {
    unhex(hex)?.try_into().ok()
}
