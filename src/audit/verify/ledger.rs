//! What the log and the CRLs say of each serial, gathered as rows and read back serial by serial.
//!
//! Two records about one certificate may be years apart, so a row is written when something is said and the rows
//! are judged at the end: 256 partitions by the serial's last octet (serials are random), each in memory until all
//! together exceed the bound, then moved to the scratch file. One partition at a time is read back and sorted.

use std::io;

use serde::{Deserialize, Serialize};

use crate::env::DiskFile;
use crate::id::{LeafIndex, Serial, Timestamp};

/// How an intent ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum Fate {
    Issued,
    Abandoned,
}

/// What is said of a serial.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The leaf is an intent; with what became of it soon after, and where that is said.
    Intended(Option<(Fate, LeafIndex)>),
    /// The leaf says what became of an intent that was not at hand any more.
    Resolved { intent: LeafIndex, fate: Fate },
    /// The leaf revokes the certificate of an intent.
    Revoked { intent: LeafIndex },
    /// By what the leaf says it must stand in CRLs.
    Due(Due),
    /// It stands in the CRL file of this number. (The leaf means nothing.)
    Listed { file: u16, at: Timestamp, reason: Option<u8> },
}

/// An entry that must be in the CRL at a URL, and in the complete one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) reason: Option<u8>,
    /// The first octets of the URL's SHA-256.
    pub(super) crl: Option<u64>,
    /// The first octets of the issuing certificate's SHA-256, where it is known.
    pub(super) issuer: Option<u64>,
    /// In CRLs up to this instant.
    pub(super) until: Timestamp,
}

/// One row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    serial: [u8; 16],
    pub(super) leaf: LeafIndex,
    pub(super) said: Said,
}

/// The rows.
pub(super) struct Ledger {
    scratch: Option<Box<dyn DiskFile>>,
    /// Octets in memory at most, if there is a file.
    bound: usize,
    partitions: Vec<Partition>,
    near: usize,
    /// The file's length.
    far: u64,
    /// The most that was in memory.
    peak: usize,
    failed: Option<String>,
}

#[derive(Default)]
struct Partition {
    near: Vec<u8>,
    /// Offsets and lengths in the file.
    far: Vec<(u64, u32)>,
}

/// More octets in one partition are no random serials: the log is not one this program wrote.
const MAX_PARTITION: u64 = 256 << 20;

/// No row is longer.
const MAX_ROW: usize = 128;

impl Ledger {
    pub(super) fn new(scratch: Option<Box<dyn DiskFile>>, bound: usize) -> Self {
        let partitions = (0..256).map(|_| Partition::default()).collect();
        Self { scratch, bound, partitions, near: 0, far: 0, peak: 0, failed: None }
    }

    pub(super) fn push(&mut self, serial: Serial, leaf: LeafIndex, said: Said) {
        let row = Row { serial: *serial.octets(), leaf, said };
        let mut buffer = [0; MAX_ROW];
        let [.., last] = row.serial;
        match (postcard::to_slice(&row, &mut buffer), self.partitions.get_mut(usize::from(last))) {
            (Ok(octets), Some(partition)) => {
                partition.near.extend_from_slice(octets);
                self.near += octets.len();
            }
            (Err(error), _) => self.fail(&error),
            (_, None) => {}
        }
        self.peak = self.peak.max(self.near);
        if self.near > self.bound && self.scratch.is_some() {
            self.spill();
        }
    }

    fn fail(&mut self, error: &dyn std::fmt::Display) {
        self.failed.get_or_insert_with(|| error.to_string());
    }

    /// Moves everything to the file, in one write.
    fn spill(&mut self) {
        let Some(scratch) = &self.scratch else { return };
        let mut octets = Vec::with_capacity(self.near);
        for partition in &mut self.partitions {
            if let Ok(length @ 1..) = u32::try_from(partition.near.len()) {
                partition.far.push((self.far + octets.len() as u64, length));
                octets.append(&mut partition.near);
            }
        }
        let written = scratch.write_at(self.far, &octets);
        self.far += octets.len() as u64;
        self.near = 0;
        if let Err(error) = written {
            self.fail(&error);
            self.scratch = None;
        }
    }

    /// The most octets of rows that were in memory, and how many went to the file.
    pub(super) fn kept(&self) -> (usize, u64) {
        (self.peak, self.far)
    }

    /// Gives the rows of each serial to `judge`: by leaf, serials in no order. The error says why not.
    /// They are gone then.
    pub(super) fn judge(&mut self, judge: &mut dyn FnMut(Serial, &[Row])) -> Result<(), String> {
        let partitions = std::mem::take(&mut self.partitions);
        for partition in partitions {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            let mut rows = self.rows(partition)?;
            rows.sort_unstable();
            for about in rows.chunk_by(|a, b| a.serial == b.serial) {
                let serial = about.first().and_then(|row| Serial::from_octets(&row.serial));
                if let Some(serial) = serial {
                    judge(serial, about);
                }
            }
        }
        Ok(())
    }

    fn rows(&self, partition: Partition) -> Result<Vec<Row>, String> {
        let octets: u64 = partition.far.iter().map(|(_, length)| u64::from(*length)).sum();
        if octets + partition.near.len() as u64 > MAX_PARTITION {
            return Err(format!(
                "{octets} octets are said of serials that end alike: they were not chosen at random"
            ));
        }
        let mut rows = Vec::new();
        for (offset, length) in partition.far {
            let mut chunk = vec![0; length as usize];
            let Some(scratch) = &self.scratch else { return Err("its file is gone".to_owned()) };
            let read = scratch.read_at(offset, &mut chunk).map_err(|error| error.to_string())?;
            if read < chunk.len() {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).to_string());
            }
            decode(&chunk, &mut rows)?;
        }
        decode(&partition.near, &mut rows)?;
        Ok(rows)
    }
}

fn decode(mut octets: &[u8], rows: &mut Vec<Row>) -> Result<(), String> {
    while !octets.is_empty() {
        let (row, rest) = postcard::take_from_bytes(octets).map_err(|error| error.to_string())?;
        rows.push(row);
        octets = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::env::Disk;
    use crate::env::simulated::SimulatedDisk;

    fn scratch(disk: &SimulatedDisk) -> Box<dyn DiskFile> {
        disk.create_dir("/tmp".as_ref()).unwrap();
        disk.create("/tmp/scratch".as_ref(), 0).unwrap()
    }

    proptest! {
        #[test]
        fn every_row_comes_back_with_those_of_its_serial(
            rows in prop::collection::vec((0u8..40, 0u64..1000, any::<Option<u8>>()), 0..400),
            bound in 0usize..2000,
        ) {
            let disk = SimulatedDisk::new();
            let mut ledger = Ledger::new(Some(scratch(&disk)), bound);
            let mut expected: BTreeMap<Serial, Vec<(u64, Said)>> = BTreeMap::new();
            for (n, leaf, reason) in rows {
                let serial = Serial::from_random([n; 16]);
                let said = match reason {
                    None => Said::Intended(None),
                    Some(_) => Said::Listed { file: 3, at: Timestamp(leaf), reason },
                };
                ledger.push(serial, LeafIndex(leaf), said.clone());
                expected.entry(serial).or_default().push((leaf, said));
            }
            prop_assert!(ledger.kept().0 <= bound + MAX_ROW);
            let mut found = BTreeMap::new();
            ledger.judge(&mut |serial, rows| {
                let said: Vec<_> = rows.iter().map(|row| (row.leaf.0, row.said.clone())).collect();
                assert!(found.insert(serial, said).is_none());
            }).unwrap();
            for said in expected.values_mut() {
                said.sort_by_key(|(leaf, said)| (*leaf, said.clone()));
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_cannot_be_written_is_said_and_not_forgotten() {
        let disk = SimulatedDisk::new();
        let mut ledger = Ledger::new(Some(scratch(&disk)), 64);
        disk.limit(Some(100));
        for n in 0..200 {
            ledger.push(Serial::from_random([n; 16]), LeafIndex(0), Said::Intended(None));
        }
        assert!(ledger.judge(&mut |_, _| {}).is_err());
    }
}
