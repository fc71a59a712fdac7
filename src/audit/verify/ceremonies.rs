//! Ceremonies after the first: each recorded once, and nothing behind the one that retires the CA.

use std::collections::HashSet;

use crate::id::LeafIndex;
use crate::log::record::{RETIRE, Record};
use crate::log::tree::Hash;

/// What was read so far: as many digests as there were ceremonies.
#[derive(Default)]
pub(super) struct Ceremonies {
    transcripts: HashSet<Hash>,
    retired: Option<LeafIndex>,
}

impl Ceremonies {
    /// Takes the next record, of any kind, and says what is wrong with it.
    pub(super) fn follows(&mut self, leaf: LeafIndex, record: &Record) -> Result<(), String> {
        let transcript = match record {
            Record::CeremonyV1(r) => Some(r.transcript_sha256),
            Record::LogSucceededV1(r) => Some(r.ceremony.transcript_sha256),
            Record::LogKeyRotatedV1(r) => Some(r.transcript_sha256),
            Record::IssuerAddedV1(r) => Some(r.transcript_sha256),
            Record::RootAddedV1(r) => Some(r.transcript_sha256),
            Record::CeremonyHeldV1(r) => Some(r.transcript_sha256),
            _ => None,
        };
        // One ceremony may make several things, each with a record of its own; that it was held is said where no
        // other record says it.
        let known = transcript.is_some_and(|sha256| !self.transcripts.insert(sha256));
        let (before, mut again) = (self.retired, false);
        if let Record::CeremonyHeldV1(held) = record {
            again = known;
            if held.act == RETIRE {
                self.retired.get_or_insert(leaf);
            }
        }
        match before {
            Some(end) => Err(format!("the CA was retired in leaf {end}, and nothing may follow")),
            None if again => Err("the transcript of this ceremony was recorded before".into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Timestamp;
    use crate::log::record::{CeremonyHeldV1, ClockAcceptedV1};

    fn held(act: &str, transcript: u8) -> Record {
        Record::CeremonyHeldV1(CeremonyHeldV1 {
            at: Timestamp(2),
            act: act.into(),
            ceremony: "it".into(),
            held: Timestamp(1),
            by: None,
            transcript_sha256: [transcript; 32],
        })
    }

    #[test]
    fn a_transcript_is_recorded_once() {
        let mut ceremonies = Ceremonies::default();
        assert_eq!(ceremonies.follows(LeafIndex(1), &held("root-crl", 1)), Ok(()));
        assert_eq!(ceremonies.follows(LeafIndex(2), &held("root-crl", 2)), Ok(()));
        assert!(ceremonies.follows(LeafIndex(3), &held("root-crl", 1)).is_err());
    }

    #[test]
    fn nothing_follows_the_end_of_a_ca() {
        let clock =
            Record::ClockAcceptedV1(ClockAcceptedV1 { at: Timestamp(3), floor: Timestamp(3) });
        let mut ceremonies = Ceremonies::default();
        assert_eq!(ceremonies.follows(LeafIndex(1), &clock), Ok(()));
        assert_eq!(ceremonies.follows(LeafIndex(2), &held(RETIRE, 1)), Ok(()));
        assert!(ceremonies.follows(LeafIndex(3), &clock).unwrap_err().contains("leaf 2"));
        assert!(ceremonies.follows(LeafIndex(4), &held(RETIRE, 2)).unwrap_err().contains("leaf 2"));
    }
}
