//! What a ceremony made, for the file and for people. Nothing secret is in it.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::CeremonyError;
use super::keys::Keys;
use super::plan::{Plan, Urls};
use super::state::{Place, Tokens};
use crate::hsm::Signer;
use crate::hsm::token::{KeyAttributes, ModuleInfo, TokenInfo};
use crate::id::{Timestamp, hex};
use crate::log::note::VerifierKey;
use crate::pki::certificate::Certificate;
use crate::pki::crl::Crl;
use crate::tlog::transcript;

/// The record, written as `ca/transcript-NAME-TIME.json`; its SHA-256 stands in the log's first record and in
/// `authority.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// Version of this format: 1.
    pub version: u32,
    /// What was done, such as `run`, `root-crl`, `rotate-log-key` or `retire`.
    pub act: String,
    pub ceremony: String,
    pub description: String,
    /// SHA-256 over the ceremony file and its key files as they were understood, hex.
    pub plan_sha256: String,
    pub program: String,
    /// RFC 3339, by this machine's clock.
    pub at: String,
    pub tokens: Vec<TokenLine>,
    pub keys: Vec<KeyLine>,
    pub certificates: Vec<CertificateLine>,
    pub root_crl: Option<CrlLine>,
    pub log_origin: String,
    /// The C2SP verifier key of the log, to be kept elsewhere.
    pub log_key: String,
    /// The C2SP verifier key of this box as a witness, where it was made: for the logs that it shall cosign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_key: Option<String>,
    /// Where an issuing CA was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succession: Option<SuccessionLine>,
    /// Where the log key was rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationLine>,
    /// Where the CA was retired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retirement: Option<RetirementLine>,
    /// The user whose process it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<HeldBy>,
    /// Who was there, as the one at the keyboard said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attended_by: Vec<String>,
    /// It was held on throw-away tokens, and counts for nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearsal: bool,
    pub urls: Urls,
}

/// A user of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBy {
    pub uid: u32,
    pub user: String,
}

/// The end of a CA.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetirementLine {
    /// Destroyed, and looked for in vain, before this was written.
    pub destroyed: Vec<GoneLine>,
    /// The log keys: they sign this transcript and the last checkpoint, and go after that. `ca/retired.json` says that
    /// they went.
    pub last: Vec<String>,
    /// Keys on tokens that took no part: they still exist.
    pub left: Vec<String>,
}

/// A key that is no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoneLine {
    pub label: String,
    pub uri: String,
    /// Objects of its CKA_ID that were destroyed: both halves, or none if it was gone before.
    pub objects: usize,
    /// What the token said to a signature with the former handle.
    pub signature: String,
    /// Whether it was looked for once more after logging out and in again.
    pub logged_in_again: bool,
}

/// What an act is of.
pub(super) struct Title<'a> {
    pub(super) ceremony: &'a str,
    pub(super) description: &'a str,
    /// The file as it was understood.
    pub(super) understood: Vec<u8>,
    pub(super) origin: &'a str,
    pub(super) urls: Urls,
}

/// A token that took part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenLine {
    pub role: String,
    pub module: ModuleInfo,
    pub token: TokenInfo,
}

/// A key that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyLine {
    pub name: String,
    pub label: String,
    pub uri: String,
    /// As key files spell it, and what the key signs with. Empty in transcripts that did not say it.
    #[serde(default)]
    pub kind: String,
    #[serde(default)]
    pub signs_with: String,
    /// SubjectPublicKeyInfo, base64.
    pub spki: String,
    /// SHA-256 over it, hex.
    pub spki_sha256: String,
    /// As read back from the token.
    pub attributes: KeyAttributes,
}

/// A certificate that was made or imported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CertificateLine {
    pub what: String,
    pub subject: String,
    /// Hex.
    pub serial: String,
    pub not_before: String,
    pub not_after: String,
    /// SHA-256 over the DER, hex.
    pub sha256: String,
    pub pem: String,
}

/// The root's CRL, signed beforehand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrlLine {
    pub number: u64,
    pub this_update: String,
    pub next_update: String,
    /// SHA-256 over the DER, hex.
    pub sha256: String,
    /// The certificates that it revokes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revoked: Vec<RevokedLine>,
}

/// A certificate that the root revoked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevokedLine {
    /// Hex.
    pub serial: String,
    pub at: String,
    /// CRLReason (RFC 5280 section 5.3.1).
    pub reason: Option<u8>,
}

/// An issuing CA that came after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuccessionLine {
    pub name: String,
    pub line: String,
    /// The name of the one that it takes over from.
    pub takes_over_from: Option<String>,
}

/// A log key that takes over from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotationLine {
    /// The C2SP verifier keys, former and new.
    pub former: String,
    pub key: String,
    /// What both of them make of the statement that names both, base64.
    pub endorsement: String,
    pub possession: String,
    pub cross_over_days: u32,
}

impl CrlLine {
    /// Describes a CRL, as it was read from its DER.
    pub fn of(crl: &Crl, der: &[u8]) -> Self {
        Self {
            number: crl.number,
            this_update: crl.this_update.to_string(),
            next_update: crl.next_update.to_string(),
            sha256: hex(digest(&SHA256, der).as_ref()),
            revoked: crl
                .revoked
                .iter()
                .map(|entry| RevokedLine {
                    serial: entry.serial.to_string(),
                    at: entry.at.to_string(),
                    reason: entry.reason,
                })
                .collect(),
        }
    }
}

impl CertificateLine {
    /// Describes a certificate.
    pub fn of(what: &str, certificate: &Certificate) -> Self {
        let (not_before, not_after) = certificate.validity();
        Self {
            what: what.to_owned(),
            subject: certificate.subject(),
            serial: hex(certificate.serial_octets()),
            not_before: not_before.to_string(),
            not_after: not_after.to_string(),
            sha256: hex(&certificate.fingerprint()),
            pem: certificate.pem(),
        }
    }
}

impl Transcript {
    /// The act `act` of this plan, with the tokens and keys that took part; certificates and CRL are added by it.
    pub(super) fn begin(
        plan: &Plan,
        tokens: &Tokens,
        keys: &Keys,
        act: &str,
        now: Timestamp,
    ) -> Self {
        let title = Title {
            ceremony: &plan.document.name,
            description: &plan.document.description,
            understood: serde_json::to_vec(&(&plan.document, &plan.keys)).unwrap_or_default(),
            origin: plan.origin(),
            urls: plan.document.urls.clone(),
        };
        Self::of(title, tokens, keys, act, now)
    }

    /// The same, of another kind of file.
    pub(super) fn of(
        title: Title<'_>,
        tokens: &Tokens,
        keys: &Keys,
        act: &str,
        now: Timestamp,
    ) -> Self {
        let origin = title.origin.to_owned();
        let log_key = keys
            .get("log")
            .ok()
            .and_then(|key| VerifierKey::from_spki(&origin, key.public_key().spki()).ok())
            .map_or_else(String::new, |key| key.to_string());
        Self {
            version: 1,
            act: act.to_owned(),
            ceremony: title.ceremony.to_owned(),
            description: title.description.to_owned(),
            plan_sha256: hex(digest(&SHA256, &title.understood).as_ref()),
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
                    kind: at_hand.key.public_key().kind().to_string(),
                    signs_with: at_hand.key.public_key().preferred_algorithm().to_string(),
                    spki: Base64::encode_string(at_hand.key.public_key().spki()),
                    spki_sha256: hex(&at_hand.key.public_key().spki_sha256()),
                    attributes: at_hand.key.attributes.clone(),
                })
                .collect(),
            certificates: Vec::new(),
            root_crl: None,
            log_origin: origin,
            log_key,
            witness_key: None,
            succession: None,
            rotation: None,
            retirement: None,
            held_by: None,
            attended_by: Vec::new(),
            rehearsal: false,
            urls: title.urls,
        }
    }

    /// Writes both forms below `ca/`, with who held it; answers with the SHA-256 that names it for good. The issuer
    /// signs and records what it finds there.
    pub(super) fn store(&mut self, place: &Place) -> Result<[u8; 32], CeremonyError> {
        self.held_by.clone_from(&place.attendance.held_by);
        self.attended_by.clone_from(&place.attendance.attended_by);
        self.rehearsal = place.attendance.rehearsal;
        let bytes = self.to_json();
        let mut sha256 = [0u8; 32];
        sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
        let path = self.path(place);
        place.write(&path, &bytes)?;
        place.write(&path.with_extension("txt"), self.to_text(&sha256).as_bytes())?;
        Ok(sha256)
    }

    fn path(&self, place: &Place) -> std::path::PathBuf {
        let stem: String = self.at.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        place.ca.join(format!("transcript-{}-{stem}.json", self.act))
    }

    /// Signs it with a log key that is at hand: where no issuer will come by.
    pub(super) fn sign(
        &self,
        place: &Place,
        sha256: &[u8; 32],
        key: &dyn Signer,
    ) -> Result<(), CeremonyError> {
        let failed = |why: &str| CeremonyError::Unfinished(why.to_owned());
        let verifier = VerifierKey::from_spki(&self.log_origin, key.public_key().spki())
            .map_err(|why| failed(&format!("CHY-CEREMONY-FILE: {why}")))?;
        let text = transcript::statement(&self.log_origin, &self.act, &self.at, sha256);
        let signature =
            key.sign(text.as_bytes()).map_err(|why| failed(&super::keys::sign_error(why)))?;
        let note = transcript::signed(&text, &verifier, signature);
        place.write(&self.path(place).with_extension("note"), note.as_bytes())
    }

    /// The bytes that are stored and hashed.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and options only: this cannot fail.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// For people: to be printed, compared aloud, signed by hand.
    pub fn to_text(&self, sha256: &[u8; 32]) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.print(&mut text, &hex(sha256));
        text
    }

    /// The same, by the digest in hexadecimal.
    pub fn to_text_named(&self, sha256: &str) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.print(&mut text, sha256);
        text
    }

    fn print(&self, out: &mut String, sha256: &str) -> std::fmt::Result {
        writeln!(out, "CEREMONY {} ({}): {}", self.ceremony, self.act, self.description)?;
        writeln!(out, "at        {} by this machine's clock", self.at)?;
        if self.rehearsal {
            writeln!(out, "REHEARSAL on throw-away tokens: it counts for nothing")?;
        }
        if let Some(by) = &self.held_by {
            writeln!(out, "held by   {} (uid {})", by.user, by.uid)?;
        }
        for name in &self.attended_by {
            writeln!(out, "attended  {name}, as was said at the keyboard")?;
        }
        writeln!(out, "program   {}", self.program)?;
        writeln!(out, "plan      SHA-256 {}", self.plan_sha256)?;
        writeln!(out, "record    SHA-256 {sha256}")?;
        for line in &self.tokens {
            let (token, module) = (&line.token, &line.module);
            writeln!(out, "\nTOKEN {}", line.role)?;
            writeln!(out, "  label         {}", token.label)?;
            writeln!(out, "  serial        {}", token.serial)?;
            writeln!(out, "  model         {} by {}", token.model, token.manufacturer)?;
            writeln!(
                out,
                "  versions      hardware {}, firmware {}",
                token.hardware, token.firmware
            )?;
            writeln!(
                out,
                "  module        {}: {} {} by {}, PKCS#11 {}",
                module.path,
                module.description,
                module.version,
                module.manufacturer,
                module.cryptoki
            )?;
        }
        for key in &self.keys {
            let a = &key.attributes;
            writeln!(out, "\nKEY {}", key.name)?;
            writeln!(out, "  label         {}", key.label)?;
            writeln!(out, "  uri           {}", key.uri)?;
            writeln!(out, "  kind          {}, signs {}", key.kind, key.signs_with)?;
            writeln!(out, "  public key    SHA-256 {}", grouped(&key.spki_sha256))?;
            writeln!(
                out,
                "  read back     {}",
                [
                    told("sensitive", a.sensitive),
                    told("always-sensitive", a.always_sensitive),
                    told("extractable", a.extractable),
                    told("never-extractable", a.never_extractable),
                    told("local", a.local),
                    told("modifiable", a.modifiable),
                ]
                .join(", ")
            )?;
        }
        for certificate in &self.certificates {
            writeln!(out, "\nCERTIFICATE {}", certificate.what)?;
            writeln!(out, "  subject       {}", certificate.subject)?;
            writeln!(out, "  serial        {}", certificate.serial)?;
            writeln!(
                out,
                "  valid         {} to {}",
                certificate.not_before, certificate.not_after
            )?;
            writeln!(out, "  fingerprint   SHA-256 {}", grouped(&certificate.sha256))?;
        }
        if let Some(crl) = &self.root_crl {
            writeln!(out, "\nCRL of the root, number {}", crl.number)?;
            writeln!(out, "  valid         {} to {}", crl.this_update, crl.next_update)?;
            writeln!(out, "  fingerprint   SHA-256 {}", grouped(&crl.sha256))?;
            for revoked in &crl.revoked {
                let reason = revoked.reason.map_or_else(|| "none".to_owned(), |r| r.to_string());
                writeln!(
                    out,
                    "  revokes       {} at {}, reason {reason}",
                    revoked.serial, revoked.at
                )?;
            }
        }
        if let Some(succession) = &self.succession {
            writeln!(out, "\nISSUING CA {}", succession.name)?;
            writeln!(out, "  line          {}", succession.line)?;
            if let Some(former) = &succession.takes_over_from {
                writeln!(out, "  takes over    from {former}")?;
            }
        }
        if let Some(rotation) = &self.rotation {
            writeln!(out, "\nLOG KEY, taking over")?;
            writeln!(out, "  former        {}", rotation.former)?;
            writeln!(out, "  new           {}", rotation.key)?;
            writeln!(out, "  both sign     for {} days", rotation.cross_over_days)?;
        }
        if let Some(retirement) = &self.retirement {
            retirement.print(out)?;
        }
        writeln!(out, "\nFOR GOOD")?;
        if !self.log_origin.is_empty() {
            writeln!(out, "  log origin    {}", self.log_origin)?;
            writeln!(out, "  log key       {}", self.log_key)?;
        }
        if let Some(witness) = &self.witness_key {
            writeln!(out, "  witness key   {witness}")?;
        }
        for (what, url) in [
            ("issuing cert", &self.urls.aia),
            ("CRL", &self.urls.crl),
            ("root's CRL", &self.urls.root_crl),
        ] {
            if !url.is_empty() {
                writeln!(out, "  {what:<13} {url}")?;
            }
        }
        Ok(())
    }
}

impl RetirementLine {
    fn print(&self, out: &mut String) -> std::fmt::Result {
        for gone in &self.destroyed {
            gone.print(out)?;
        }
        for label in &self.last {
            writeln!(out, "\nLOG KEY {label}")?;
            writeln!(out, "  it signs this and the last checkpoint, and is destroyed after that")?;
        }
        for uri in &self.left {
            writeln!(out, "\nLEFT ON ANOTHER TOKEN {uri}")?;
        }
        Ok(())
    }
}

impl GoneLine {
    /// For people.
    pub fn print(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nDESTROYED {}", self.label)?;
        writeln!(out, "  uri           {}", self.uri)?;
        writeln!(out, "  objects       {}", self.objects)?;
        let again = if self.logged_in_again { ", also after logging out and in again" } else { "" };
        writeln!(out, "  looked for    none of its CKA_ID, none of its label{again}")?;
        writeln!(out, "  asked to sign {}", self.signature)
    }
}

/// Upper-case pairs with colons, as OpenSSL prints fingerprints.
pub fn grouped(hex: &str) -> String {
    let upper = hex.to_ascii_uppercase();
    upper.as_bytes().chunks(2).map(String::from_utf8_lossy).collect::<Vec<_>>().join(":")
}

fn told(what: &str, value: Option<bool>) -> String {
    match value {
        Some(true) => what.to_owned(),
        Some(false) => format!("not {what}"),
        None => format!("{what} unknown"),
    }
}
