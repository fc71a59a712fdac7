//! The dear part, on as many threads as there are: reading certificates and verifying their signatures.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use super::authorities::Issuers;
use super::certificate;
use super::crls::{mark, url_mark};
use super::findings::Findings;
use super::ledger::{Due, Ledger, Said};
use super::places::Places;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::reader::Reader;
use crate::log::record::{AbandonedV1, Actor, IntentV1, IssuedV1, Record, RevokedV1};
use crate::pki::certificate::Certificate;

/// Something that needs an intent's certificate. `None` where that is not at hand any more.
pub(super) enum Job {
    Issued { leaf: LeafIndex, issued: IssuedV1, intent: Option<IntentV1> },
    Abandoned { leaf: LeafIndex, abandoned: AbandonedV1, intent: Option<IntentV1> },
    Revoked { leaf: LeafIndex, revoked: Box<RevokedV1> },
}

/// Jobs that are sent at once.
pub(super) const JOBS: usize = 32;

/// CRL URLs that are told apart; this program makes some hundreds.
pub(super) const MAX_URLS: usize = 4096;

/// CRLReason keyCompromise (RFC 5280 section 5.3.1).
const KEY_COMPROMISE: u8 = 1;

/// What the threads share.
pub(super) struct Bench<'a> {
    pub(super) jobs: Mutex<Receiver<Vec<Job>>>,
    pub(super) reader: &'a Reader,
    pub(super) places: &'a Places,
    pub(super) issuers: &'a Issuers,
    pub(super) ledger: &'a Mutex<Ledger>,
    pub(super) findings: &'a Findings,
    /// The latest notAfter of the certificates that name each CRL.
    pub(super) named: Mutex<HashMap<String, Timestamp>>,
}

impl Bench<'_> {
    /// Works until there is nothing more.
    pub(super) fn work(&self) {
        loop {
            let next = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(jobs) = next else { return };
            for job in jobs {
                self.judge(job);
            }
        }
    }

    fn judge(&self, job: Job) {
        match job {
            Job::Issued { leaf, issued, intent } => {
                let intent = intent.or_else(|| self.intent(issued.intent, issued.serial));
                // That there is none is the ledger's to say.
                if let Some(intent) = intent {
                    self.issued(leaf, &issued, &intent);
                }
            }
            Job::Abandoned { leaf, abandoned, intent } => {
                let intent = intent.or_else(|| self.intent(abandoned.intent, abandoned.serial));
                if let Some(intent) = intent {
                    self.abandoned(leaf, &abandoned, &intent);
                }
            }
            Job::Revoked { leaf, revoked } => {
                let intent = self.intent(revoked.intent, revoked.serial);
                let due = Due {
                    at: revoked.at,
                    reason: revoked.reason,
                    crl: revoked.crl.as_deref().map(url_mark),
                    issuer: intent.as_ref().map(|intent| mark(&intent.issuer_sha256)),
                    until: revoked.not_after.max(revoked.at),
                };
                self.due(revoked.serial, leaf, due);
                if let Some(intent) = intent {
                    self.revoked(leaf, &revoked, &intent);
                }
            }
        }
    }

    /// An intent read again; `None` if there is none with this serial at this leaf.
    fn intent(&self, leaf: LeafIndex, serial: Serial) -> Option<IntentV1> {
        match self.places.entry(self.reader, leaf)?.record {
            Ok(Record::IntentV1(intent)) if intent.serial == serial => Some(intent),
            _ => None,
        }
    }

    fn issued(&self, leaf: LeafIndex, issued: &IssuedV1, intent: &IntentV1) {
        let Some(certificate) = certificate(intent, issued) else {
            self.findings.find(leaf, "intent and signature do not make a certificate");
            return;
        };
        if certificate.serial() != Some(issued.serial) {
            self.findings.find(leaf, "the certificate has another serial than its records");
        }
        let issuer = self.issuers.by(&intent.issuer_sha256);
        if issuer.is_some_and(|issuer| !certificate.verify_issued_by(&issuer)) {
            self.findings.find(leaf, "the signature does not verify over the logged TBS");
        }
        self.names(&certificate);
    }

    fn abandoned(&self, leaf: LeafIndex, abandoned: &AbandonedV1, intent: &IntentV1) {
        let Ok(certificate) = Certificate::of_tbs(&intent.tbs) else {
            self.findings.find(abandoned.intent, "the intent is no certificate");
            return;
        };
        self.names(&certificate);
        let (_, not_after) = certificate.validity();
        let due = Due {
            at: abandoned.at,
            reason: None,
            crl: certificate.crl_url().map(url_mark),
            issuer: Some(mark(&intent.issuer_sha256)),
            until: not_after.max(abandoned.at),
        };
        self.due(abandoned.serial, leaf, due);
    }

    fn due(&self, serial: Serial, leaf: LeafIndex, due: Due) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.push(serial, leaf, Said::Due(due));
    }

    fn revoked(&self, leaf: LeafIndex, revoked: &RevokedV1, intent: &IntentV1) {
        let Ok(certificate) = Certificate::of_tbs(&intent.tbs) else {
            self.findings.find(revoked.intent, "the intent is no certificate");
            return;
        };
        if certificate.crl_url() != revoked.crl.as_deref() {
            self.findings.find(leaf, "the revocation names another CRL than the certificate");
        }
        if certificate.validity().1 != revoked.not_after {
            self.findings.find(leaf, "the revocation says another end than the certificate");
        }
        // An account's word alone proves nothing about a key; its holder's and the operator's do.
        let compromised =
            revoked.reason == Some(KEY_COMPROMISE) && !matches!(revoked.by, Actor::Account { .. });
        let key = compromised.then(|| certificate.public_key().spki_sha256());
        if revoked.blocked_key != key {
            let text = match (key, revoked.blocked_key) {
                (Some(_), None) => "the key is called compromised, but is not blocked",
                (None, Some(_)) => "a key is blocked that nobody who may called compromised",
                _ => "the key that is blocked is not the certificate's",
            };
            self.findings.find(leaf, text);
        }
    }

    fn names(&self, certificate: &Certificate) {
        let Some(url) = certificate.crl_url() else { return };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, end) = certificate.validity();
        let room = named.len() < MAX_URLS;
        match named.get_mut(url) {
            Some(known) => *known = end.max(*known),
            None if room => drop(named.insert(url.to_owned(), end)),
            None => {}
        }
    }
}
