//! What restores left in the log: where it goes on from a backup, where for another log, and whose token it is.

use super::findings::Findings;
use crate::id::LeafIndex;
use crate::log::reader::Reader;
use crate::log::record::{LogSucceededV1, Record, ShownBy};
use crate::tlog::checkpoint::Checkpoint;
use crate::tlog::note::VerifierKey;
use crate::tlog::tree::{Hash, RightEdge, leaf_hash};

/// What was read so far.
#[derive(Default)]
pub(super) struct Restored {
    /// The tree of the former log, as far as its leaves are here.
    former: Option<(Box<LogSucceededV1>, RightEdge)>,
    epoch: u64,
    notes: Vec<String>,
}

impl Restored {
    /// Whether a leaf stands for one of the log before this one.
    pub(super) fn is_carried(&self, leaf: LeafIndex) -> bool {
        self.former.as_ref().is_some_and(|(succeeded, _)| leaf.0 < succeeded.size)
    }

    /// Takes the next leaf and says what is wrong with it. `record` is `None` if it does not decode. `reader` is for
    /// what a restore says of the leaves before it, which are then read once more.
    pub(super) fn leaf(
        &mut self,
        leaf: LeafIndex,
        octets: &[u8],
        record: Option<&Record>,
        reader: &Reader,
    ) -> Result<(), String> {
        match record {
            Some(Record::LogSucceededV1(succeeded)) if leaf.0 == 0 => {
                return self.begins(succeeded);
            }
            Some(Record::RestoredV1(restored)) => {
                let shown = match &restored.shown {
                    ShownBy::Operator => "the operator said".to_owned(),
                    ShownBy::Witness { name, .. } => format!("{name} showed"),
                };
                self.notes.push(format!(
                    "leaf {leaf}: restored from a backup of {} with {} records, of which {shown} that nothing newer is known",
                    restored.made, restored.size
                ));
                if restored.size > leaf.0 || root_of(reader, restored.size) != Some(restored.root) {
                    return Err(format!(
                        "it says that {} records were restored, and those before it are not these",
                        restored.size
                    ));
                }
            }
            Some(Record::EpochTakenV1(taken)) => {
                let epoch = std::mem::replace(&mut self.epoch, taken.epoch);
                if taken.epoch <= epoch {
                    return Err(format!("epoch {} does not follow epoch {epoch}", taken.epoch));
                }
            }
            _ => {}
        }
        match &mut self.former {
            Some((succeeded, edge)) if leaf.0 < succeeded.size => {
                edge.push(leaf_hash(octets));
                if edge.size() == succeeded.size && edge.head().root != succeeded.root {
                    return Err(format!(
                        "the leaves so far are not those of {} that its checkpoint states",
                        succeeded.origin
                    ));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begins(&mut self, succeeded: &LogSucceededV1) -> Result<(), String> {
        let mut edge = RightEdge::new();
        edge.push(succeeded.first);
        self.notes.push(format!(
            "this log goes on for {}: its leaves 1 to {} are those of that log; what happened from {} to {} is unknown",
            succeeded.origin,
            succeeded.size.saturating_sub(1),
            succeeded.unknown_from,
            succeeded.unknown_until
        ));
        let (size, root) = (succeeded.size, succeeded.root);
        self.former = Some((Box::new(succeeded.clone()), edge));
        let key = VerifierKey::from_spki(&succeeded.origin, &succeeded.ceremony.log_key)
            .map_err(|why| format!("the former log's key: {}", why.0))?;
        let stated = Checkpoint::open(succeeded.checkpoint.as_bytes(), &key)
            .map_err(|why| format!("the former log's checkpoint: {why}"))?;
        if size == 0 || (stated.head.size, stated.head.root) != (size, root) {
            return Err("the former log's checkpoint states another tree".into());
        }
        if size == 1 && succeeded.first != root {
            return Err("the former log's first leaf is not that of its checkpoint".into());
        }
        Ok(())
    }

    /// There are no more.
    pub(super) fn close(&mut self, findings: &Findings) -> Vec<String> {
        if let Some((succeeded, edge)) = &self.former
            && edge.size() < succeeded.size
        {
            findings.find(
                None,
                format!(
                    "of the {} leaves of {} that this log goes on for, it has {}",
                    succeeded.size,
                    succeeded.origin,
                    edge.size()
                ),
            );
        }
        std::mem::take(&mut self.notes)
    }
}

/// The root over the first leaves; `None` if they cannot be read.
fn root_of(reader: &Reader, size: u64) -> Option<Hash> {
    let mut edge = RightEdge::new();
    for entry in reader.entries(LeafIndex(0)).take(usize::try_from(size).ok()?) {
        edge.push(leaf_hash(&entry.ok()?.payload));
    }
    (edge.size() == size).then(|| edge.head().root)
}
