//! Proofs that a certificate is in the log (C2SP tlog-proof): made from a log directory, judged from the file alone.
//!
//! What is proven is the leaf that holds the certificate's signature, an *Issued* record. The proof carries that
//! record's stored octets as its extra data: hashed, they are the leaf. They name no host; they hold the serial, the
//! AlgorithmIdentifier and the signature, and so bind the leaf to one certificate, whose to-be-signed octets that
//! signature is over, and by the intent's index to the record that holds those octets.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::env::Disk;
use crate::id::{LeafIndex, Timestamp};
use crate::log::OpenError;
use crate::log::reader::{Entry, Reader};
use crate::log::record::{IssuedV1, Record};
use crate::pki::certificate::Certificate;
use crate::pki::key::SignatureAlgorithm;
use crate::tlog::checkpoint::{BadCheckpoint, Checkpoint, WITNESSED};
use crate::tlog::note::{MAX_NOTE, Note, VerifierKey};
use crate::tlog::proof::{Gathering, Proof, Unproven, inclusion_path, verify_inclusion};
use crate::tlog::tile::{DIRECTORY, Tile, TiledTree, split_hashes};
use crate::tlog::tree::{Hash, TreeHead, leaf_hash};

/// Why no proof is made. Each text begins with its code and is for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoProof {
    /// The checkpoint does not cover it yet, or there is none: try again later.
    Uncovered(String),
    /// The log and its checkpoint do not fit each other.
    Unsound(String),
    Log(OpenError),
}

/// Proves a record of this log, for a certificate its *Issued*, under the published checkpoint, the witnessed one where
/// that covers it. The path comes from the published tiles, or, where they do not lead to the checkpoint, from all
/// records.
pub fn prove(
    disk: &Arc<dyn Disk>,
    log: &Path,
    public: &Path,
    reader: &Reader,
    entry: Entry,
) -> Result<Proof, NoProof> {
    let (index, leaf) = (entry.leaf.0, leaf_hash(&entry.payload));
    let (checkpoint, head) = covering(&**disk, public, index)?;
    let path = match from_tiles(&**disk, public, index, &head) {
        Ok(Some(path)) if verify_inclusion(&leaf, index, &head, &path) => path,
        _ => from_records(reader, index, &head)?,
    };
    if !verify_inclusion(&leaf, index, &head, &path) {
        return Err(NoProof::Unsound(format!(
            "CHY-LOG-UNSOUND: the log in {} does not lead to its checkpoint over {} records; run `chancery log verify`",
            log.display(),
            head.size
        )));
    }
    Ok(Proof { extra: Some(entry.payload), index, path, checkpoint })
}

/// The checkpoint with most to say of those that cover the leaf.
fn covering(disk: &dyn Disk, public: &Path, index: u64) -> Result<(String, TreeHead), NoProof> {
    for name in [WITNESSED, "checkpoint"] {
        let Ok(note) = disk.read(&public.join(name), MAX_NOTE as u64) else { continue };
        let Ok(parsed) = Note::parse(&note) else { continue };
        match Checkpoint::parse_text(&parsed.text) {
            Ok(checkpoint) if checkpoint.head.size > index => {
                return Ok((parsed.to_string(), checkpoint.head));
            }
            _ => {}
        }
    }
    Err(NoProof::Uncovered(format!(
        "CHY-LOG-UNCOVERED: no checkpoint in {} covers leaf {index}; try again when the issuer runs",
        public.display()
    )))
}

fn from_tiles(
    disk: &dyn Disk,
    public: &Path,
    index: u64,
    head: &TreeHead,
) -> io::Result<Option<Vec<Hash>>> {
    let read = |tile: &Tile| {
        let file = disk.open_read(&public.join(DIRECTORY).join(tile.level.to_string()))?;
        let (start, length) = tile.octets();
        let mut octets = vec![0; length];
        let read = file.read_at(start, &mut octets)?;
        Ok(split_hashes(&octets[..read]))
    };
    TiledTree::new(read, head.size).inclusion(index)
}

fn from_records(reader: &Reader, index: u64, head: &TreeHead) -> Result<Vec<Hash>, NoProof> {
    let mut gathering = Gathering::new(inclusion_path(index, head.size));
    for entry in reader.entries(LeafIndex(0)) {
        let entry = entry.map_err(NoProof::Log)?;
        if entry.leaf.0 >= head.size {
            break;
        }
        gathering.leaf(entry.leaf.0, leaf_hash(&entry.payload));
    }
    // Too few records make a path that does not verify.
    Ok(gathering.finish().unwrap_or_default())
}

/// What a proof is judged by. Only keys are trusted.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The log's. During a rotation two: every one that is given must have signed.
    pub keys: Vec<VerifierKey>,
    /// Witnesses', each of which must have cosigned.
    pub witnesses: Vec<VerifierKey>,
    /// The certificate that the leaf shall be about.
    pub certificate: Option<Certificate>,
    /// The one that shall have signed it.
    pub issuer: Option<Certificate>,
}

/// A proof that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proven {
    pub origin: String,
    pub head: TreeHead,
    pub index: u64,
    pub issued: IssuedV1,
    /// Who cosigned, and when.
    pub cosigned: Vec<(String, Option<Timestamp>)>,
    /// Whether the leaf was held against a certificate, and that against its issuer.
    pub certificate: bool,
    pub issuer: bool,
}

/// Why a proof proves nothing, or not what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// No key was given to judge by.
    NoKey,
    /// The leaf is not in the proof, as this log's proofs have it.
    NoLeaf,
    Proof(Unproven),
    /// The leaf holds another record than a certificate's signature, or one that this version does not know.
    Leaf(String),
    /// This witness has not cosigned.
    Witness(String),
    /// The leaf is about another certificate; what differs.
    Certificate(&'static str),
    /// The certificate is not signed by that issuer.
    Issuer,
}

/// Judges a proof without any log.
pub fn check(proof: &Proof, trust: &Trust) -> Result<Proven, Flaw> {
    let entry = proof.extra.as_deref().ok_or(Flaw::NoLeaf)?;
    let leaf = leaf_hash(entry);
    let mut checkpoint = Err(Flaw::NoKey);
    for key in &trust.keys {
        checkpoint = Ok(proof.verify(&leaf, key).map_err(Flaw::Proof)?);
    }
    let checkpoint = checkpoint?;
    let malformed =
        |why: &'static str| Flaw::Proof(Unproven::Checkpoint(BadCheckpoint::Malformed(why)));
    let note = Note::parse(proof.checkpoint.as_bytes()).map_err(|e| malformed(e.0))?;
    let mut cosigned = Vec::new();
    for witness in &trust.witnesses {
        let mut lines = note.by(witness);
        let line = lines.find(|l| witness.verify(note.text.as_bytes(), &checkpoint.head, l));
        let line = line.ok_or_else(|| Flaw::Witness(witness.name().to_owned()))?;
        cosigned.push((witness.name().to_owned(), witness.cosigned_at(line)));
    }
    let issued = match Record::decode(entry) {
        Ok(Record::IssuedV1(issued)) => issued,
        Ok(other) => return Err(Flaw::Leaf(format!("it is a record of kind {}", other.kind()))),
        Err(why) => return Err(Flaw::Leaf(why.to_string())),
    };
    if let Some(certificate) = &trust.certificate {
        is_about(&issued, certificate)?;
        if trust.issuer.as_ref().is_some_and(|issuer| !certificate.verify_issued_by(issuer)) {
            return Err(Flaw::Issuer);
        }
    }
    Ok(Proven {
        origin: checkpoint.origin,
        head: checkpoint.head,
        index: proof.index,
        issued,
        cosigned,
        certificate: trust.certificate.is_some(),
        issuer: trust.certificate.is_some() && trust.issuer.is_some(),
    })
}

/// Whether the leaf holds exactly this certificate's signature.
fn is_about(issued: &IssuedV1, certificate: &Certificate) -> Result<(), Flaw> {
    let (algorithm, signature) = certificate.signature();
    if certificate.serial() != Some(issued.serial) {
        return Err(Flaw::Certificate("the serial"));
    }
    if SignatureAlgorithm::from_identifier_der(&issued.algorithm) != Some(algorithm) {
        return Err(Flaw::Certificate("the signature's algorithm"));
    }
    if issued.signature != signature {
        return Err(Flaw::Certificate("the signature"));
    }
    Ok(())
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoKey => f.write_str("there is no key to judge it by"),
            Self::NoLeaf => {
                f.write_str("it has no extra data, where this log's proofs have the leaf")
            }
            Self::Proof(why) => why.fmt(f),
            Self::Leaf(why) => write!(f, "its leaf is no certificate's signature: {why}"),
            Self::Witness(name) => write!(f, "the witness {name} has not cosigned its checkpoint"),
            Self::Certificate(what) => {
                write!(f, "its leaf is about another certificate: {what} differs")
            }
            Self::Issuer => f.write_str("the certificate is not signed by that issuer"),
        }
    }
}
