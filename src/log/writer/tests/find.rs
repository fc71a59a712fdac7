//! What the index finds, held against every record of the log: from memory, from the file, from both, after a
//! restart, after a replay.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::log::index::{
    CertificateEntry, Listing, Located, Matcher, NamePattern, Part, Place, Stopped, Subject,
    TbsFacts,
};
use crate::log::reader::Reader;

const HOUR: u64 = 3_600_000;

/// As a test writes it: names, end in seconds, CRL.
pub(super) fn read_tbs(tbs: &[u8]) -> Option<TbsFacts> {
    let text = std::str::from_utf8(tbs).ok()?;
    let mut parts = text.split('|');
    let names = parts.next()?.split(',').map(str::to_owned).collect();
    let not_after = Timestamp::from_unix_seconds(parts.next()?.parse().ok()?);
    let crl = parts.next().filter(|crl| !crl.is_empty()).map(str::to_owned);
    Some(TbsFacts { names, not_before: Timestamp(0), not_after, crl })
}

pub(super) fn finding(disk: &SimulatedDisk, signer: &Arc<TestSigner>) -> Opening {
    Opening { read_tbs, ..opening(disk, signer) }
}

fn account(n: u64) -> AccountId {
    AccountId(*serial(1_000_000 + n).octets())
}

const NAMES: [&str; 8] = [
    "printer.lan",
    "a.printer.lan",
    "*.printer.lan",
    "10.0.0.1",
    "lan",
    "camera.lab.lan",
    "x.y.lab.lan",
    "other.test",
];

/// The n-th certificate: names, ends and accounts repeat; of two serials and orders one octet differs that the
/// index leaves out.
pub(super) fn certificate(n: u64) -> IntentV1 {
    let Record::IntentV1(intent) = intent(n / 2) else { unreachable!() };
    let twin = |octets: &[u8; 16]| {
        let mut octets = *octets;
        octets[3] = n as u8 % 2;
        octets
    };
    let names: Vec<&str> = (0..1 + n % 3).map(|k| NAMES[((n * 5 + k * 3) % 8) as usize]).collect();
    // On two days.
    let end = 86_380 + (n * 7) % 50;
    IntentV1 {
        at: Timestamp(10 * HOUR + n * HOUR / 2),
        serial: Serial::from_octets(&twin(serial(n / 2).octets())).unwrap(),
        requester: match n % 7 {
            6 => Requester::Own,
            _ => Requester::Order {
                // Every fifth order has two intents.
                order: OrderId(twin(&order((n - n % 5) / 2).0)),
                account: account(n % 4),
                jws_sha256: [0; 32],
            },
        },
        tbs: format!("{}|{end}|http://crl/{}", names.join(","), n % 3).into_bytes(),
        ..intent
    }
}

/// Appends intents and what becomes of them.
pub(super) fn fill(log: &Log, from: u64, to: u64) {
    for n in from..to {
        let intent = certificate(n);
        let (serial, at) = (intent.serial, intent.at);
        if n % 6 == 0 {
            log.append_wait(registration(n / 6), Release::Durable).unwrap();
        }
        let leaf = log.append_wait(Record::IntentV1(intent), Release::Durable).unwrap().leaf;
        match n % 5 {
            0 => {}
            1 => {
                let abandoned = AbandonedV1 { at, intent: leaf, serial, reason: "test".into() };
                log.append_wait(Record::AbandonedV1(abandoned), Release::Durable).unwrap();
            }
            _ => {
                let Record::IssuedV1(issued) = issued(n, leaf) else { unreachable!() };
                let issued = IssuedV1 { serial, at, ..issued };
                log.append_wait(Record::IssuedV1(issued), Release::Durable).unwrap();
            }
        }
        if n % 5 == 4 {
            let revoked = RevokedV1 {
                at,
                serial,
                intent: leaf,
                reason: None,
                by: Actor::Operator { uid: 0, user: "root".into() },
                validations: Vec::new(),
                crl: Some(format!("http://crl/{}", n % 3)),
                not_after: facts(&certificate(n)).not_after,
                blocked_key: None,
            };
            log.append_wait(Record::RevokedV1(revoked), Release::Durable).unwrap();
        }
    }
}

fn registration(n: u64) -> Record {
    Record::AccountRegisteredV1(AccountRegisteredV1 {
        at: Timestamp(10 * HOUR + n * 3 * HOUR),
        account: account(n % 4 + 10 * (n / 4)),
        jwk: format!("key {n}"),
    })
}

/// Everything the index can be asked, asked, and compared with the records themselves.
pub(super) fn agrees(disk: &SimulatedDisk, log: &Log, context: &str) {
    let index = log.index();
    let reader = Reader::open(Arc::new(disk.clone()), "/state/issuer/log".as_ref()).unwrap();
    let entries: Vec<_> = reader.entries(LeafIndex(0)).map(Result::unwrap).collect();
    let mut intents: BTreeMap<LeafIndex, IntentV1> = BTreeMap::new();
    let mut fates: BTreeMap<LeafIndex, Issuance> = BTreeMap::new();
    let mut days: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in &entries {
        let record = entry.record.clone().unwrap();
        *days.entry(record.at().0 / (24 * HOUR)).or_default() += 1;
        assert_eq!(index.record(entry.leaf).unwrap(), record, "{context}: leaf {}", entry.leaf);
        let place = index.places([entry.leaf]).unwrap();
        assert_eq!(reader.at(entry.leaf, place[0].1).unwrap(), *entry, "{context}");
        match record {
            Record::IntentV1(r) => {
                let (intent, serial) = (entry.leaf, r.serial);
                fates.insert(intent, Issuance::Intended { intent, serial });
                intents.insert(intent, r);
            }
            Record::IssuedV1(IssuedV1 { intent, serial, .. }) => {
                fates.insert(intent, Issuance::Issued { intent, issued: entry.leaf, serial });
            }
            Record::AbandonedV1(AbandonedV1 { intent, serial, .. }) => {
                fates.insert(intent, Issuance::Abandoned { intent, abandoned: entry.leaf, serial });
            }
            _ => {}
        }
    }
    let mut orders: BTreeMap<OrderId, Issuance> = BTreeMap::new();
    for (leaf, intent) in &intents {
        assert_eq!(index.by_serial(intent.serial).unwrap(), Some(fates[leaf]), "{context}");
        let entry = index.certificate(intent.serial).unwrap().unwrap();
        assert_eq!((entry.intent, entry.names.clone()), (*leaf, facts(intent).names));
        if let Requester::Order { order, .. } = intent.requester {
            orders.insert(order, fates[leaf]);
        }
    }
    for (order, newest) in orders {
        assert_eq!(index.by_order(order).unwrap(), Some(newest), "{context}");
    }
    assert_eq!(index.by_serial(serial(77_777)).unwrap(), None);
    assert_eq!(index.by_order(order(77_777)).unwrap(), None);

    let found = index.days(Timestamp(0), Timestamp(u64::MAX)).unwrap();
    let counts: BTreeMap<u64, u64> = found.iter().map(|(day, d)| (*day, d.records)).collect();
    assert_eq!(counts, days, "{context}");
    let issued = entries.iter().filter(|e| matches!(e.record, Ok(Record::IssuedV1(_)))).count();
    assert_eq!(found.values().map(|day| day.issued).sum::<u64>(), issued as u64, "{context}");
    for (number, day) in found {
        let of_day = |leaf: &LeafIndex| entries[leaf.0 as usize].record.clone().unwrap().at().0;
        assert!([day.first, day.last].iter().all(|leaf| of_day(leaf) / (24 * HOUR) == number));
    }

    let ends = index.ends(Timestamp(0), Timestamp(u64::MAX)).unwrap();
    let mut expected: BTreeMap<u64, u64> = BTreeMap::new();
    for (leaf, intent) in &intents {
        let withdrawn = matches!(fates[leaf], Issuance::Abandoned { .. })
            || index.revocation(intent.serial).unwrap().is_some();
        *expected.entry(facts(intent).not_after.0 / (24 * HOUR)).or_default() +=
            u64::from(!withdrawn);
    }
    assert_eq!(ends, expected, "{context}");
    let second = Timestamp(24 * HOUR);
    assert_eq!(index.ends(second, second).unwrap().get(&1), expected.get(&1), "{context}");

    let patterns =
        ["printer.lan", "*.printer.lan", "*.lan", "*.lab.lan", "10.0.0.1", "lan", "no.lan"];
    let mut listings: Vec<Listing> =
        patterns.iter().map(|text| Listing::Named(NamePattern::new(text))).collect();
    listings.extend((0..5).map(|n| Listing::Account(account(n))));
    listings.push(Listing::All);
    for listing in listings {
        for (from, limit) in [(0, 1_000), (86_400, 1_000), (0, 3), (86_410, 7)] {
            let from = Timestamp::from_unix_seconds(from);
            let listed = whole(index, &listing, from, limit);
            let places: Vec<_> = listed.iter().map(|(place, _, _)| place.clone()).collect();
            assert!(places.is_sorted(), "{context}: {listing:?}");
            let leaves: Vec<_> = listed.iter().map(|(_, _, entry)| entry.intent).collect();
            let once: BTreeSet<_> = leaves.iter().copied().collect();
            assert_eq!(once.len(), leaves.len(), "{context}: {listing:?} names one twice");
            let expected: BTreeSet<_> = intents
                .iter()
                .filter(|(_, intent)| is_in(intent, &listing, from))
                .map(|(leaf, _)| *leaf)
                .collect();
            assert_eq!(once, expected, "{context}: {listing:?} from {from}, {limit} at once");
        }
    }

    let some = intents.values().nth(4).unwrap();
    let Requester::Order { order, .. } = some.requester else { unreachable!() };
    for subject in [
        Subject { serial: Some(some.serial), ..Subject::default() },
        Subject { order: Some(order), ..Subject::default() },
        Subject { account: Some(account(1)), ..Subject::default() },
        Subject { name: Some(NamePattern::new("*.lan")), ..Subject::default() },
        Subject {
            name: Some(NamePattern::new("printer.lan")),
            account: Some(account(2)),
            ..Subject::default()
        },
        Subject { serial: Some(serial(77_777)), ..Subject::default() },
    ] {
        let mut matcher = Matcher::new(subject.clone(), read_tbs);
        let scanned = entries.iter().filter(|entry| matcher.takes(entry.record.as_ref().unwrap()));
        let scanned: BTreeSet<_> = scanned.map(|entry| entry.leaf).collect();
        assert_eq!(index.about(&subject).unwrap(), Some(scanned), "{context}: {subject:?}");
    }
    assert_eq!(index.about(&Subject::default()).unwrap(), None);
}

fn facts(intent: &IntentV1) -> TbsFacts {
    read_tbs(&intent.tbs).unwrap()
}

fn is_in(intent: &IntentV1, listing: &Listing, from: Timestamp) -> bool {
    let facts = facts(intent);
    facts.not_after >= from
        && match listing {
            Listing::All => true,
            Listing::Account(wanted) => {
                matches!(&intent.requester, Requester::Order { account, .. } if account == wanted)
            }
            Listing::Named(NamePattern::Exactly(name)) => facts.names.contains(name),
            Listing::Named(NamePattern::Below(suffix)) => facts
                .names
                .iter()
                .any(|name| name != "10.0.0.1" && name.ends_with(&format!(".{suffix}"))),
        }
}

fn whole(
    index: &Index,
    listing: &Listing,
    from: Timestamp,
    limit: usize,
) -> Vec<(Place, Serial, CertificateEntry)> {
    let mut all = Vec::new();
    let mut after = None;
    for _ in 0..1_000 {
        let Part { found, next } =
            index.certificates(listing, from, after.as_ref(), limit).unwrap();
        assert!(found.len() <= limit);
        all.extend(found);
        match next {
            None => return all,
            next => after = next,
        }
    }
    panic!("{listing:?} never ends");
}

#[test]
fn everything_is_found_wherever_it_is() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let large = Sizes { segment: 8_192, index: 10_000, ..SIZES };
    let log = start(finding(&disk, &signer), large, Some(ceremony(&signer))).unwrap();
    fill(&log, 0, 40);
    agrees(&disk, &log, "in memory");
    log.index().flush_after(&|| Ok(())).unwrap();
    agrees(&disk, &log, "in the file");
    fill(&log, 40, 60);
    agrees(&disk, &log, "in both");
    drop(log);
    let log = start(finding(&disk, &signer), large, None).unwrap();
    agrees(&disk, &log, "after a restart");
    log.index().flush_after(&|| Ok(())).unwrap();
    agrees(&disk, &log, "after a replay");
    // What the process did not move into the file is read again, and counted once.
    fill(&log, 60, 70);
    let after = disk.crash(CrashMode::Lost, 1);
    drop(log);
    let log = start(finding(&after, &signer), large, None).unwrap();
    agrees(&after, &log, "after a crash");
    log.index().flush_after(&|| Ok(())).unwrap();
    agrees(&after, &log, "after a crash, in the file");
    drop(log);
    after.remove(Path::new("/state/issuer/log/index.redb")).unwrap();
    let log = start(finding(&after, &signer), large, None).unwrap();
    agrees(&after, &log, "without the file");
}

/// The index file of a log that nobody writes says the same, and what it does not know yet is named.
#[test]
fn a_stopped_log_is_asked_through_its_file() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let large = Sizes { segment: 8_192, index: 10_000, ..SIZES };
    let log = start(finding(&disk, &signer), large, Some(ceremony(&signer))).unwrap();
    fill(&log, 0, 20);
    log.index().flush_after(&|| Ok(())).unwrap();
    let reached = log.head().size;
    fill(&log, 20, 30);
    let subject = Subject { account: Some(account(1)), ..Subject::default() };
    let all = log.index().about(&subject).unwrap().unwrap();
    let open = |disk: &SimulatedDisk| {
        Stopped::open(Arc::new(disk.clone()), "/state/issuer/log".as_ref(), read_tbs)
    };
    assert!(open(&disk).is_none(), "somebody writes it");
    let after = disk.crash(CrashMode::Lost, 1);
    drop(log);
    let stopped = open(&after).unwrap();
    let Located { places, then } = stopped.about(&subject).unwrap().unwrap();
    assert_eq!(then, LeafIndex(reached));
    let known: BTreeSet<_> = places.iter().map(|(leaf, _)| *leaf).collect();
    assert_eq!(known, all.range(..then).copied().collect::<BTreeSet<_>>());
    assert!(!known.is_empty() && known.len() < all.len());
    assert!(open(&after).is_none(), "the lock is held");
    drop(stopped);
    after.remove(Path::new("/state/issuer/log/index.redb")).unwrap();
    assert!(open(&after).is_none());
    assert!(open(&SimulatedDisk::new()).is_none());
}

#[test]
fn a_segment_that_is_damaged_makes_an_error_and_no_other_answer() {
    let (disk, signer) = (SimulatedDisk::new(), TestSigner::new(ORIGIN));
    let log = start(finding(&disk, &signer), SIZES, Some(ceremony(&signer))).unwrap();
    fill(&log, 0, 1);
    let segment = Path::new("/state/issuer/log").join(segment::file_name(0));
    let octets = disk.read(&segment, 4096).unwrap();
    disk.open(&segment).unwrap().write_at(64, &vec![0xff; octets.len() - 64]).unwrap();
    let why = log.index().by_serial(certificate(0).serial).unwrap_err();
    assert!(why.contains("leaf 2"), "{why}");
    assert_eq!(log.index().by_serial(serial(77_777)), Ok(None));
}
