//! Does this log hold what a log of this CA must hold, and nothing else?
//!
//! Reads every octet of every frame, recomputes the tree, and holds every checkpoint it is given against it;
//! verifies every certificate signature over the TBS bytes that were logged before it; pairs intents with what
//! became of them; and compares revocations with the CRLs that are published. What it is told to expect
//! (certificates, origin, log key) comes from outside the log; what it is not told, it takes from the log's
//! first record and says so.
//!
//! It cannot see that a log and all its checkpoints were put back to an older state: that takes a
//! checkpoint kept elsewhere, given as evidence.
//!
//! ```text
//! frames (one thread)        judge (the caller's)              signatures (N threads)
//! CRC, leaf hash, tree  ───▶ order, instants, accounts,  ───▶  X.509, signature over the TBS,
//!                  batches   pairs, CRL records         jobs   revocation against its certificate
//!                                   └────────── rows by serial ──────────┘
//!                                                  ▼
//!                            ledger: what was said of each serial, partition by partition
//! ```
//!
//! Memory does not grow with the certificates in the log. Kept are: two batches of frames of a quarter MiB; jobs, a few
//! for each thread; the last [`OPEN_INTENTS`](pairs::OPEN_INTENTS) intents that nothing was said of; a place in
//! the log for every so many leaves, one MiB at most; the ledger's rows, [`Means::rows`] octets at most where it
//! has a file to put the others; the entries of no CRL but the one that is read; [`MAX_FINDINGS`] findings. What
//! grows is what there are few of: accounts, tickets, recalls and CRL URLs, about 200 octets each.

mod accounts;
mod authorities;
mod ceremonies;
mod checkpoints;
mod crls;
mod findings;
mod frames;
mod judge;
mod ledger;
mod pairs;
mod places;
mod restored;
mod signatures;
mod starts;
mod tiles;
mod verdict;

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use self::authorities::Issuers;
use self::checkpoints::Stated;
use self::crls::Published;
use self::findings::Findings;
use self::judge::{Expected, Judge};
use self::ledger::Ledger;
use self::places::Places;
use self::tiles::Tiled;
use crate::env::{Disk, DiskFile};
use crate::id::{LeafIndex, Timestamp};
use crate::log::Progress;
use crate::log::reader::Reader;
use crate::log::record::{IntentV1, IssuedV1, Record};
use crate::log::recover::OpenError;
use crate::pki::certificate::Certificate;
use crate::pki::key::SignatureAlgorithm;
use crate::tlog::keys::LogKeys;
use crate::tlog::note::VerifierKey;
use crate::tlog::tree::Hash;

pub use findings::{Finding, MAX_FINDINGS, Place};
pub(super) use pairs::Open;
pub use verdict::{Cosigned, Kept, Verdict};

/// What is known from elsewhere and held against the log.
#[derive(Default)]
pub struct Evidence {
    /// Issuing certificates: every intent must name one of them, every signature verify under it. Those that the log
    /// adds by itself, certified by a root that it knows, count too.
    pub issuers: Vec<Certificate>,
    /// Root certificates.
    pub roots: Vec<Certificate>,
    /// The log's origin.
    pub origin: Option<String>,
    /// The SubjectPublicKeyInfos of keys that the log is known to have had, oldest first and without a gap: any one of
    /// them will do.
    pub log_keys: Vec<Vec<u8>>,
    /// Keys of the log's witnesses: each cosignature that a checkpoint has by one of them must verify.
    pub witnesses: Vec<VerifierKey>,
    /// Files that hold a checkpoint; those that do not exist are left out.
    pub checkpoints: Vec<PathBuf>,
    /// Which of them is the one that is published: none of the others may be newer. Named last above, because a box
    /// that runs copies it elsewhere afterwards.
    pub published: Option<PathBuf>,
    /// For an archive, which ends before the log does: the proof (RFC 6962 section 2.1.2) that one of the
    /// checkpoints, over more records than it has, continues them.
    pub continuation: Option<Vec<Hash>>,
    /// The records about the log's own keys that an archive says came behind its end; their signatures are their own
    /// proof.
    pub later_keys: Vec<(LeafIndex, Record)>,
    /// The CRLs that are published, of the issuers above; `None` if it is not known where.
    pub crls: Option<Vec<PathBuf>>,
    /// The present, by which a CRL that should be there is missing.
    pub now: Option<Timestamp>,
    /// The directory of the published tiles; left out if it does not exist.
    pub tiles: Option<PathBuf>,
}

impl Evidence {
    /// Of the keys that the log is known to have had, those that its records, which tell of `keys`, do not know yet.
    /// `None`: they contradict each other.
    fn newer_keys(&self, keys: &LogKeys) -> Option<&[Vec<u8>]> {
        let Some(first) = self.log_keys.first() else { return Some(&[]) };
        let own = keys.terms().iter().skip_while(|term| term.key.spki() != first);
        let agree = own.clone().zip(&self.log_keys).all(|(term, known)| term.key.spki() == known);
        match own.count() {
            0 => None,
            both => agree.then(|| self.log_keys.get(both..).unwrap_or_default()),
        }
    }
}

/// What a verification may use.
pub struct Means<'a> {
    /// Threads that verify signatures, beside the two that read and judge; at least one.
    pub threads: usize,
    /// Octets of rows kept in memory.
    pub rows: usize,
    /// An empty file for those beyond; without one they stay in memory.
    pub scratch: Option<Box<dyn DiskFile>>,
    /// Told from time to time how far it has come; from another thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl Default for Means<'_> {
    fn default() -> Self {
        Self { threads: 2, rows: 16 << 20, scratch: None, progress: &|_| {} }
    }
}

/// Differences in time that no rule is broken by: between reading the clock and writing the record other records
/// are written.
pub const SETTLING: std::time::Duration = std::time::Duration::from_secs(60);

/// Verifies the log in `dir`. An error means that there was nothing to judge, or no room to judge it; a log
/// that cannot be read to its end is a finding.
pub fn verify(
    disk: Arc<dyn Disk>,
    dir: &Path,
    evidence: &Evidence,
    means: Means<'_>,
) -> Result<Verdict, OpenError> {
    let findings = Findings::default();
    let ledger = Mutex::new(Ledger::new(means.scratch, means.rows));
    // What is published is read before the log is opened: a box that runs has logged it before.
    let stated = Stated::read(&*disk, evidence, &findings);
    let published = Published::read(&*disk, evidence, &ledger, &findings);
    let tiled = Tiled::open(&disk, evidence.tiles.as_deref(), &findings);
    let reader = match Reader::open(Arc::clone(&disk), dir) {
        Ok(reader) => reader,
        Err(OpenError::Halt(text)) => {
            findings.find(None, text);
            return Ok(Verdict::unread(findings.into_found(None)));
        }
        Err(error) => return Err(error),
    };
    let places = Places::default();
    let issuers = Issuers::given(evidence);
    let sizes = stated.sizes();
    let (send_batches, batches) = sync_channel(frames::BATCHES);
    let (send_jobs, jobs) = sync_channel(2 * means.threads.max(1));
    let bench = signatures::Bench {
        jobs: Mutex::new(jobs),
        reader: &reader,
        places: &places,
        issuers: &issuers,
        ledger: &ledger,
        findings: &findings,
        named: Mutex::default(),
    };
    let (read, mut judge) = std::thread::scope(|scope| {
        let walk = || frames::walk(&reader, &sizes, &places, means.progress, send_batches);
        let reading = scope.spawn(walk);
        for _ in 0..means.threads.max(1) {
            scope.spawn(|| bench.work());
        }
        let expected = Expected { evidence, issuers: &issuers, stated, published, tiled };
        let mut judge = Judge::new(expected, &findings, &ledger, &reader, send_jobs);
        for batch in batches {
            judge.batch(&batch);
        }
        judge.close();
        match reading.join() {
            Ok(read) => (read, judge),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let head = match read {
        Ok(walked) => {
            judge.tail(&walked);
            walked.head
        }
        Err(frames::Broken { head, error }) => {
            judge.broken(&head, &error);
            head
        }
    };
    let named = bench.named.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut verdict = judge.finish(head, &named)?;
    verdict.kept.places = places.kept();
    verdict.findings = findings.into_found(Some((&reader, &places)));
    Ok(verdict)
}

/// The certificate that an intent and a signature make.
pub fn certificate(intent: &IntentV1, issued: &IssuedV1) -> Option<Certificate> {
    let algorithm = SignatureAlgorithm::from_identifier_der(&issued.algorithm)?;
    Certificate::assemble(&intent.tbs, algorithm, &issued.signature).ok()
}

#[cfg(test)]
mod tests;
