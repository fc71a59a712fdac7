//! Which keys sign for a log: read at its start, and followed as records about them become durable.

use super::open::index_broken;
use super::{Shared, lock};
use crate::id::LeafIndex;
use crate::log::keys::LogKeys;
use crate::log::note::VerifierKey;
use crate::log::record::Record;
use crate::log::recover::{OpenError, absent, damaged};
use crate::log::segment::{HEADER, file_name};

/// Reads which keys sign for this log: that of the first record, which must be the ceremony of `origin`, and what the
/// leaves about keys say. Those that sign now must be at hand.
pub(super) fn read(shared: &Shared, origin: &str) -> Result<LogKeys, OpenError> {
    let dir = &shared.dir;
    let size = lock(&shared.head).size;
    if size == 0 {
        return Err(absent(dir));
    }
    let foreign = |origin: &str| {
        OpenError::Refuse(format!(
            "CHY-LOG-FOREIGN: the log in {} is of {origin} under another log key; \
             point the state directory at this CA's log",
            dir.display(),
        ))
    };
    let unreadable = |why: &str| damaged(&dir.join(file_name(0)), HEADER, why);
    let record = shared.read(LeafIndex(0)).map_err(|why| unreadable(&why))?;
    let first = match record.first() {
        Some(first) if first.origin == origin => first,
        Some(first) => return Err(foreign(&first.origin)),
        None => return Err(unreadable("its first record is no ceremony")),
    };
    let mut keys = LogKeys::begin(origin, &first.log_key)
        .map_err(|why| unreadable(&format!("its log key: {why}")))?;
    let about_keys = shared.index.log_keys().map_err(|why| index_broken(dir, &why))?;
    for leaf in about_keys.into_iter().filter(|leaf| leaf.0 >= record.carried()) {
        let record = shared.read(leaf).map_err(|why| index_broken(dir, &why))?;
        turn(&mut keys, leaf, &record);
    }
    let at_hand = |key: &VerifierKey| shared.signers.iter().any(|s| s.verifier_key() == key);
    if keys.of(size).all(at_hand) {
        return Ok(keys);
    }
    if keys.terms().len() == 1 {
        return Err(foreign(origin));
    }
    Err(OpenError::Refuse(format!(
        "CHY-LOG-KEY: the log in {} is signed with another key since its log key was rotated, and \
         ca/authority.json does not name that key; restore ca/ as that ceremony left it",
        dir.display()
    )))
}

/// What a durable record says of the log's keys. One that cannot be changes nothing; an auditor finds it.
pub(super) fn turn(keys: &mut LogKeys, leaf: LeafIndex, record: &Record) {
    match record.turn_keys(leaf, keys) {
        Ok(false) => {}
        Ok(true) => tracing::info!(%leaf, kind = record.kind(), key = %keys.current(), "log key"),
        Err(why) => tracing::error!(%leaf, %why, "CHY-LOG-KEY: a record about keys is not heeded"),
    }
}
