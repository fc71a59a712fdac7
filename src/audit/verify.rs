//! Does this log hold what a log of this CA must hold, and nothing else?
//!
//! Reads every octet of every frame, recomputes the tree, and checks against it every checkpoint it is
//! given; verifies every certificate signature over the TBS bytes that were logged before it; and pairs
//! intents with what became of them. What it is told to expect (certificates, origin, log key) comes from
//! outside the log; what it is not told, it takes from the log's first record and says so.
//!
//! It cannot see that a log and all its checkpoints were put back to an older state: that takes a
//! checkpoint kept elsewhere, given as evidence.

mod accounts;
mod starts;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::accounts::Accounts;
use self::starts::Starts;
use crate::env::Disk;
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::checkpoint::Checkpoint;
use crate::log::note::{MAX_NOTE, VerifierKey};
use crate::log::reader::Reader;
use crate::log::record::{CeremonyV1, IntentV1, IssuedV1, Record, Requester, RevokedV1};
use crate::log::recover::OpenError;
use crate::log::segment::origin_hash;
use crate::log::tree::{Hash, TreeHead};
use crate::pki::certificate::Certificate;
use crate::pki::key::SignatureAlgorithm;

/// What is known from elsewhere and held against the log.
#[derive(Default)]
pub struct Evidence {
    /// Issuing certificates: every intent must name one of them, every signature verify under it.
    pub issuers: Vec<Certificate>,
    /// The log's origin.
    pub origin: Option<String>,
    /// The log key's SubjectPublicKeyInfo.
    pub log_key: Option<Vec<u8>>,
    /// Files that hold a checkpoint; those that do not exist are left out.
    pub checkpoints: Vec<PathBuf>,
}

/// What was found. `Display` says it in plain words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// What is wrong, at most `MAX_FINDINGS`, in the order of the log.
    pub findings: Vec<Finding>,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// The tree recomputed from the stored bytes.
    pub head: Option<TreeHead>,
    pub origin: String,
    pub accounts: u64,
    pub intents: u64,
    pub issued: u64,
    pub abandoned: u64,
    pub crls: u64,
    pub revoked: u64,
    /// Requests that the issuer recorded as refused.
    pub refused: u64,
    /// Intents with neither signature nor abandonment.
    pub open: u64,
    /// Leaves that a verified checkpoint covers.
    pub covered: u64,
    /// Checkpoints that verified.
    pub checkpoints: u64,
    pub newest: Timestamp,
}

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// `None` if it is not about one record.
    pub leaf: Option<LeafIndex>,
    pub text: String,
}

/// Findings after which no more are collected.
pub const MAX_FINDINGS: usize = 1000;

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }

    /// For a process: 0 sound, 1 not.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_sound())
    }

    fn find(&mut self, leaf: impl Into<Option<LeafIndex>>, text: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { leaf: leaf.into(), text: text.into() });
        }
    }
}

/// Verifies the log in `dir`. An error means that there was nothing to judge; a log that cannot be read
/// to its end is a finding.
pub fn verify(disk: Arc<dyn Disk>, dir: &Path, evidence: &Evidence) -> Result<Verdict, OpenError> {
    let mut verdict = Verdict::default();
    let reader = match Reader::open(Arc::clone(&disk), dir) {
        Ok(reader) => reader,
        Err(OpenError::Halt(text)) => {
            verdict.find(None, text);
            return Ok(verdict);
        }
        Err(error) => return Err(error),
    };
    let key = first_record(&reader, evidence, &mut verdict);
    let stated = checkpoints(&*disk, evidence, key.as_ref(), &mut verdict);
    let mut judge = Judge {
        evidence,
        verdict,
        serials: HashMap::new(),
        open: HashMap::new(),
        crls: HashMap::new(),
        accounts: Accounts::default(),
        starts: Starts::default(),
    };
    for checkpoint in stated.iter().filter(|c| c.head.size == 0) {
        if checkpoint.head.root != crate::log::tree::RightEdge::new().head().root {
            judge.verdict.find(None, "a checkpoint over nothing has another root than nothing");
        }
    }
    let mut head = TreeHead { size: 0, root: crate::log::tree::RightEdge::new().head().root };
    let walked = reader.walk(&mut |leaf, _, payload, edge| {
        match Record::decode(payload) {
            Ok(record) => judge.record(leaf, &record),
            Err(why) => judge.verdict.find(leaf, why.to_string()),
        }
        if stated.iter().any(|checkpoint| checkpoint.head.size == edge.size()) {
            let here = edge.head();
            for checkpoint in stated.iter().filter(|c| c.head.size == here.size) {
                if checkpoint.head == here {
                    judge.verdict.covered = here.size;
                    judge.verdict.checkpoints += 1;
                } else {
                    judge.verdict.find(
                        leaf,
                        format!(
                            "a signed checkpoint over {} records states another tree",
                            here.size
                        ),
                    );
                }
            }
        }
        head.size = edge.size();
        Ok(())
    });
    match walked {
        Ok(tail) => {
            head = tail.edge.head();
            if let Some(bad) = tail.torn {
                judge.verdict.notes.push(format!(
                    "after the last record there are the remains of an unfinished write ({bad}); the \
                     next start cuts them"
                ));
            }
        }
        Err(error) => judge.verdict.find(None, error.to_string()),
    }
    let mut verdict = judge.finish();
    let greatest = stated.iter().map(|checkpoint| checkpoint.head.size).max();
    match greatest {
        None => verdict.find(None, "there is no checkpoint that the log key signed"),
        Some(size) if size > head.size => verdict.find(
            None,
            format!("a checkpoint over {size} records was signed, but the log has {}", head.size),
        ),
        Some(size) if size < head.size => verdict.notes.push(format!(
            "{} records are not covered by a checkpoint yet; none of them has been released",
            head.size - size
        )),
        Some(_) => {}
    }
    verdict.head = Some(head);
    Ok(verdict)
}

/// Reads the ceremony's record and holds it against the evidence; gives the key checkpoints must be
/// signed with.
fn first_record(
    reader: &Reader,
    evidence: &Evidence,
    verdict: &mut Verdict,
) -> Option<VerifierKey> {
    let first = reader.entries(LeafIndex(0)).next().and_then(Result::ok);
    let Some(Ok(Record::CeremonyV1(ceremony))) = first.map(|entry| entry.record) else {
        verdict.find(LeafIndex(0), "the first record is no ceremony");
        return None;
    };
    let CeremonyV1 { origin, log_key, issuing_sha256, .. } = ceremony;
    if reader.segments().iter().any(|s| s.header.origin != origin_hash(&origin)) {
        verdict.find(LeafIndex(0), "the segments are of another origin than the ceremony's record");
    }
    match &evidence.origin {
        Some(expected) if *expected != origin => verdict
            .find(LeafIndex(0), format!("the log is {origin}, and not {expected} as expected")),
        Some(_) => {}
        None => verdict.notes.push(format!("the origin, {origin}, is taken from the log itself")),
    }
    match &evidence.log_key {
        Some(expected) if *expected != log_key => {
            verdict.find(LeafIndex(0), "the log key is not the expected one");
        }
        Some(_) => {}
        None => verdict.notes.push("the log key is taken from the log itself".into()),
    }
    // All zeros: the certificate of an offline root came after the ceremony.
    if !evidence.issuers.is_empty()
        && issuing_sha256 != [0; 32]
        && evidence.issuers.iter().all(|issuer| issuer.fingerprint() != issuing_sha256)
    {
        verdict.find(LeafIndex(0), "the issuing certificate is not the ceremony's");
    }
    if evidence.issuers.is_empty() {
        verdict.notes.push("no issuing certificate was given: signatures are not verified".into());
    }
    verdict.origin.clone_from(&origin);
    match VerifierKey::from_spki(&origin, &log_key) {
        Ok(key) => Some(key),
        Err(why) => {
            verdict.find(LeafIndex(0), format!("the log key cannot sign checkpoints: {why}"));
            None
        }
    }
}

/// The checkpoints that verify under the log's key.
fn checkpoints(
    disk: &dyn Disk,
    evidence: &Evidence,
    key: Option<&VerifierKey>,
    verdict: &mut Verdict,
) -> Vec<Checkpoint> {
    let Some(key) = key else { return Vec::new() };
    let mut stated = Vec::new();
    for path in &evidence.checkpoints {
        let note = match disk.read(path, MAX_NOTE as u64) {
            Ok(note) => note,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                verdict.find(None, format!("{}: {error}", path.display()));
                continue;
            }
        };
        match Checkpoint::open(&note, key) {
            Ok(checkpoint) => stated.push(checkpoint),
            Err(why) => verdict.find(None, format!("{}: {why}", path.display())),
        }
    }
    stated
}

/// What has become of a serial. The TBS is kept only while its intent is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Open,
    Issued,
    Abandoned,
    Revoked,
}

struct Judge<'a> {
    evidence: &'a Evidence,
    verdict: Verdict,
    serials: HashMap<Serial, (LeafIndex, Fate)>,
    open: HashMap<LeafIndex, IntentV1>,
    /// Greatest CRL number by issuer.
    crls: HashMap<Hash, u64>,
    accounts: Accounts,
    starts: Starts,
}

impl Judge<'_> {
    fn record(&mut self, leaf: LeafIndex, record: &Record) {
        self.verdict.newest = record.at().max(self.verdict.newest);
        match record {
            Record::CeremonyV1(_) if leaf.0 > 0 => {
                self.verdict.find(leaf, "a second ceremony");
            }
            Record::CeremonyV1(_)
            | Record::ClockAcceptedV1(_)
            | Record::RecallV1(_)
            | Record::RecallEndedV1(_)
            | Record::LogKeyRotatedV1(_)
            | Record::LogKeyRetiredV1(_) => {}
            Record::StartedV1(started) => {
                let judged = self.starts.started(leaf, started);
                self.wrong(leaf, judged);
            }
            Record::ConfigChangedV1(changed) => {
                let judged = self.starts.config_changed(changed);
                self.wrong(leaf, judged);
            }
            Record::AccountRegisteredV1(r) => {
                self.verdict.accounts += 1;
                let judged = self.accounts.registered(r.account, &r.jwk, None);
                self.wrong(leaf, judged);
            }
            Record::AccountRegisteredV2(r) => {
                self.verdict.accounts += 1;
                let judged = self.accounts.registered(r.account, &r.jwk, r.ticket.as_deref());
                self.wrong(leaf, judged);
            }
            Record::KeyChangedV1(r) => {
                let judged = self.accounts.key_changed(r);
                self.wrong(leaf, judged);
            }
            Record::AccountDeactivatedV1(r) => {
                let judged = self.accounts.known(r.account);
                self.wrong(leaf, judged);
            }
            Record::TicketMintedV1(r) => {
                let judged = self.accounts.minted(r);
                self.wrong(leaf, judged);
            }
            Record::TicketRevokedV1(r) => {
                let judged = self.accounts.revoked(&r.ticket);
                self.wrong(leaf, judged);
            }
            Record::RefusedV1(refused) => {
                let counts = refused.refusals.iter().map(|refusal| refusal.count);
                self.verdict.refused = counts.fold(self.verdict.refused, u64::saturating_add);
            }
            Record::IntentV1(intent) => self.intent(leaf, intent),
            Record::IssuedV1(issued) => self.issued(leaf, issued),
            Record::AbandonedV1(abandoned) => {
                self.verdict.abandoned += 1;
                self.resolve(leaf, abandoned.intent, abandoned.serial, Fate::Abandoned);
            }
            Record::CrlV1(crl) => {
                self.crl(leaf, crl.issuer_sha256, crl.number);
            }
            Record::CrlV2(crl) => self.crl(leaf, crl.issuer_sha256, crl.number),
            Record::RevokedV1(revoked) => {
                self.verdict.revoked += 1;
                self.revoked(leaf, revoked);
            }
        }
    }

    /// Numbers rise over all CRLs of an issuer, whichever URL they are for.
    fn crl(&mut self, leaf: LeafIndex, issuer: Hash, number: u64) {
        self.verdict.crls += 1;
        let last = self.crls.insert(issuer, number);
        if last.is_some_and(|last| last >= number) {
            self.verdict.find(leaf, format!("CRL number {number} does not rise"));
        }
    }

    /// Only what was issued is revoked, and once.
    fn revoked(&mut self, leaf: LeafIndex, revoked: &RevokedV1) {
        let (serial, intent) = (revoked.serial, revoked.intent);
        match self.serials.get_mut(&serial) {
            Some((at, was)) if *at == intent && *was == Fate::Issued => *was = Fate::Revoked,
            Some((at, was)) if *at == intent => {
                let text = format!("serial {serial} is revoked, but is {was:?}");
                self.verdict.find(leaf, text.to_lowercase());
            }
            _ => {
                let text = format!("there is no intent with serial {serial} at leaf {intent}");
                self.verdict.find(leaf, text);
            }
        }
    }

    fn wrong(&mut self, leaf: LeafIndex, judged: Result<(), String>) {
        if let Err(text) = judged {
            self.verdict.find(leaf, text);
        }
    }

    fn intent(&mut self, leaf: LeafIndex, intent: &IntentV1) {
        self.verdict.intents += 1;
        if let Requester::Order { account, .. } = intent.requester {
            let judged = self.accounts.known(account);
            self.wrong(leaf, judged);
        }
        if !self.evidence.issuers.is_empty() && self.issuer(&intent.issuer_sha256).is_none() {
            self.verdict.find(leaf, "the intent names an issuer that is not this CA's");
        }
        if let Some((other, _)) = self.serials.get(&intent.serial) {
            let text = format!("serial {} was used before, by leaf {other}", intent.serial);
            self.verdict.find(leaf, text);
            return;
        }
        self.serials.insert(intent.serial, (leaf, Fate::Open));
        self.open.insert(leaf, intent.clone());
    }

    fn issued(&mut self, leaf: LeafIndex, issued: &IssuedV1) {
        self.verdict.issued += 1;
        let Some(intent) = self.resolve(leaf, issued.intent, issued.serial, Fate::Issued) else {
            return;
        };
        let Some(certificate) = certificate(&intent, issued) else {
            self.verdict.find(leaf, "intent and signature do not make a certificate");
            return;
        };
        if certificate.serial() != Some(issued.serial) {
            self.verdict.find(leaf, "the certificate has another serial than its records");
        }
        if let Some(issuer) = self.issuer(&intent.issuer_sha256)
            && !certificate.verify_issued_by(issuer)
        {
            self.verdict.find(leaf, "the signature does not verify over the logged TBS");
        }
    }

    /// Closes an open intent and hands it over; says what is wrong if there is none.
    fn resolve(
        &mut self,
        leaf: LeafIndex,
        intent: LeafIndex,
        serial: Serial,
        fate: Fate,
    ) -> Option<IntentV1> {
        match self.serials.get_mut(&serial) {
            Some((at, was)) if *at == intent && *was == Fate::Open => *was = fate,
            Some((at, was)) if *at == intent => {
                let text = format!("the intent at leaf {intent} is {was:?} already");
                self.verdict.find(leaf, text.to_lowercase());
                return None;
            }
            _ => {
                let text = format!("there is no intent with serial {serial} at leaf {intent}");
                self.verdict.find(leaf, text);
                return None;
            }
        }
        self.open.remove(&intent)
    }

    fn issuer(&self, fingerprint: &Hash) -> Option<&Certificate> {
        self.evidence.issuers.iter().find(|issuer| issuer.fingerprint() == *fingerprint)
    }

    fn finish(mut self) -> Verdict {
        self.verdict.open = self.open.len() as u64;
        if self.verdict.refused > 0 {
            self.verdict.notes.push(format!(
                "{} requests to the issuer were refused; `chancery log list --kind refused` shows them",
                self.verdict.refused
            ));
        }
        let own = self.open.values().filter(|i| i.requester == Requester::Own).count();
        if self.verdict.open > 0 {
            self.verdict.notes.push(format!(
                "{} intents have no signature yet ({own} for this box itself); they are signed when \
                 asked for again, or abandoned",
                self.verdict.open
            ));
        }
        self.verdict
    }
}

/// The certificate that an intent and a signature make.
pub fn certificate(intent: &IntentV1, issued: &IssuedV1) -> Option<Certificate> {
    let algorithm = SignatureAlgorithm::from_identifier_der(&issued.algorithm)?;
    Certificate::assemble(&intent.tbs, algorithm, &issued.signature).ok()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.head.map_or(0, |head| head.size);
        writeln!(f, "log {}: {size} records, newest {}", self.origin, self.newest)?;
        writeln!(
            f,
            "{} accounts, {} intents, {} issued, {} revoked, {} abandoned, {} open, {} CRLs",
            self.accounts,
            self.intents,
            self.issued,
            self.revoked,
            self.abandoned,
            self.open,
            self.crls
        )?;
        writeln!(
            f,
            "{} checkpoints verified; the newest covers {} records",
            self.checkpoints, self.covered
        )?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for Finding { leaf, text } in &self.findings {
            match leaf {
                Some(leaf) => writeln!(f, "WRONG: leaf {leaf}: {text}")?,
                None => writeln!(f, "WRONG: {text}")?,
            }
        }
        if self.findings.len() == MAX_FINDINGS {
            writeln!(f, "WRONG: and perhaps more; only the first {MAX_FINDINGS} are listed")?;
        }
        f.write_str(if self.is_sound() {
            "the log is sound"
        } else {
            "CHY-LOG-UNSOUND: the log is not sound; keep it as it is and find out why"
        })
    }
}

#[cfg(test)]
mod tests;
