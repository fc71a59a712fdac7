//! Another key for the log: both sign until the day that the ceremony said, then the former one is retired.

use chancery::id::{LeafIndex, Timestamp};
use chancery::log::Record;
use chancery::tlog::note::{Note, VerifierKey};

use crate::HOUR;
use crate::house::{Csr, House, NOW, Office, eventually};

const DAYS: u32 = 10;

/// How many keys signed the published checkpoint; one that was retired is none of them.
fn signers(office: &Office) -> usize {
    let note = office.public("checkpoint").unwrap();
    assert!(office.log.keys().open(&note).is_ok());
    Note::parse(&note).unwrap().signatures.len()
}

/// Instant and author of the newest record that retires a key.
fn retired(office: &Office) -> Option<(Timestamp, bool)> {
    (0..office.log.head().size).rev().find_map(|leaf| match office.log.read(LeafIndex(leaf)) {
        Ok(Record::LogKeyRetiredV1(retired)) => Some((retired.at, retired.by.is_some())),
        _ => None,
    })
}

#[test]
fn the_former_log_key_is_retired_when_its_days_are_over() {
    let mut house = House::new();
    let running = house.start();
    let account = running.register();
    assert_eq!(signers(&running), 1);
    drop(running);
    house.rotate_log_key(DAYS);
    let running = house.start();
    eventually(|| signers(&running) == 2);
    // A record's own instant, not the restart's, is what the days are counted from.
    house.clock.advance(24 * HOUR * (DAYS - 1));
    running.running.nudge();
    assert!(running.finalize(&account, 1, &Csr::names(&["dev.lan"])).is_ok());
    assert_eq!((signers(&running), retired(&running)), (2, None));
    house.clock.advance(25 * HOUR);
    running.running.nudge();
    eventually(|| retired(&running).is_some());
    let (at, by_somebody) = retired(&running).unwrap();
    assert!(at >= NOW.plus(24 * HOUR * DAYS) && !by_somebody, "{at}");
    assert!(running.finalize(&account, 2, &Csr::names(&["other.lan"])).is_ok());
    eventually(|| signers(&running) == 1);
    let newest = VerifierKey::from_spki(&house.authority.origin, house.log_key.spki()).unwrap();
    assert_eq!(running.log.keys().current(), &newest);
}
