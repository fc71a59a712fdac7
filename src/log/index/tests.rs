//! What the index says of accounts and tickets: from memory, from the file, and after a replay.

use super::*;
use crate::env::Disk;
use crate::env::simulated::SimulatedDisk;
use crate::log::record::{
    AccountDeactivatedV1, AccountRegisteredV1, AccountRegisteredV2, Actor, CrlV2, KeyChangedV1,
    LogKeyRetiredV1, TicketMintedV1, TicketRevokedV1,
};
use crate::log::tree::sha256;

const AT: Timestamp = Timestamp(1_800_000_000_000);

fn account(n: u8) -> AccountId {
    AccountId([n; 16])
}

fn registered(n: u8, jwk: &str, ticket: &str) -> Record {
    let ticket = Some(ticket.to_owned());
    Record::AccountRegisteredV2(AccountRegisteredV2 {
        at: AT,
        account: account(n),
        jwk: jwk.into(),
        ticket,
    })
}

fn changed(n: u8, former: &str, jwk: &str) -> Record {
    Record::KeyChangedV1(KeyChangedV1 {
        at: AT,
        account: account(n),
        jwk: jwk.into(),
        former: sha256(former.as_bytes()),
        jws_sha256: [0; 32],
    })
}

fn operator() -> Actor {
    Actor::Operator { uid: 0, user: "root".into() }
}

fn records() -> Vec<Record> {
    vec![
        Record::TicketMintedV1(TicketMintedV1 {
            at: AT,
            ticket: "t1".into(),
            uses: 2,
            expires: AT,
            constraints_sha256: [0; 32],
            by: operator(),
        }),
        Record::AccountRegisteredV1(AccountRegisteredV1 {
            at: AT,
            account: account(1),
            jwk: "a".into(),
        }),
        registered(2, "b", "t1"),
        registered(3, "c", "t1"),
        registered(4, "d", "t10"),
        changed(1, "a", "a2"),
        // A key that was given up may be another's from then on.
        registered(5, "a", "t1"),
        changed(1, "a2", "a3"),
        Record::AccountDeactivatedV1(AccountDeactivatedV1 {
            at: AT,
            account: account(2),
            by: Actor::Account { account: account(2), jws_sha256: [0; 32] },
        }),
        Record::AccountDeactivatedV1(AccountDeactivatedV1 {
            at: AT,
            account: account(3),
            by: operator(),
        }),
        Record::TicketRevokedV1(TicketRevokedV1 { at: AT, ticket: "t1".into(), by: operator() }),
        crl(1, 7),
        Record::LogKeyRetiredV1(LogKeyRetiredV1 { at: AT, key: vec![1], by: None }),
        crl(2, 8),
        crl(1, 9),
    ]
}

fn crl(issuer: u8, number: u64) -> Record {
    Record::CrlV2(CrlV2 {
        at: AT,
        issuer_sha256: [issuer; 32],
        crl: "http://ca.test/a.crl".into(),
        number,
        this_update: AT,
        next_update: AT,
        entries: 0,
        tbs_sha256: [number as u8; 32],
    })
}

fn apply(index: &Index, from: usize, records: &[Record]) {
    let numbered: Vec<_> = records
        .iter()
        .enumerate()
        .map(|(n, r)| (LeafIndex((from + n) as u64), 0, r.clone()))
        .collect();
    index.apply(&numbered, Point::default());
}

fn holds(index: &Index) {
    let holder = |key: &str| index.key_holder(sha256(key.as_bytes())).unwrap();
    assert_eq!(holder("a3"), Some(Holder { account: account(1), current: true }));
    assert_eq!(holder("a2"), Some(Holder { account: account(1), current: false }));
    assert_eq!(holder("a"), Some(Holder { account: account(5), current: true }));
    assert_eq!(index.account_by_key(sha256(b"a2")), Ok(None));
    assert_eq!(index.account_by_key(sha256(b"b")), Ok(Some(account(2))));
    assert_eq!(index.account(account(1)), Ok(Some(LeafIndex(1))));
    assert_eq!(index.key_change(account(1)), Ok(Some(LeafIndex(7))));
    assert_eq!(index.key_change(account(2)), Ok(None));
    assert_eq!(
        index.deactivated(account(2)),
        Ok(Some(Deactivation { at: AT, by_operator: false }))
    );
    assert_eq!(index.deactivated(account(3)), Ok(Some(Deactivation { at: AT, by_operator: true })));
    assert_eq!(index.deactivated(account(1)), Ok(None));
    let listed = |after, limit| -> Vec<u8> {
        index.accounts(after, limit).unwrap().iter().map(|(id, _)| id.0[0]).collect()
    };
    assert_eq!(listed(None, 9), [1, 2, 3, 4, 5]);
    assert_eq!(listed(Some(account(2)), 2), [3, 4]);
    let changes = |from, limit| -> Vec<(u64, u8)> {
        let changes = index.account_changes(LeafIndex(from), limit).unwrap();
        changes.iter().map(|(leaf, id)| (leaf.0, id.0[0])).collect()
    };
    assert_eq!(changes(0, 9), [(5, 1), (7, 1), (8, 2), (9, 3)]);
    assert_eq!(changes(6, 2), [(7, 1), (8, 2)]);
    assert_eq!(index.ticket("t1"), Ok(Some(LeafIndex(0))));
    assert_eq!(index.ticket("t10"), Ok(None));
    assert_eq!(index.ticket_end("t1"), Ok(Some(AT)));
    let users: Vec<u8> = index.ticket_accounts("t1").unwrap().iter().map(|id| id.0[0]).collect();
    assert_eq!(users, [2, 3, 5]);
    assert_eq!(index.ticket_accounts("t").unwrap().len(), 0);
    let of = |issuer| index.last_crl_of(&[issuer; 32]).unwrap().map(|crl| crl.number);
    assert_eq!((of(1), of(2), of(3)), (Some(9), Some(8), None));
    assert_eq!(index.last_crl_number(), Ok(9));
    assert_eq!(index.log_keys(), Ok(vec![LeafIndex(12)]));
}

fn open(disk: &SimulatedDisk) -> Index {
    let shelf = Shelf::new(Arc::new(disk.clone()), "/log".into(), Vec::new());
    Index::open(Arc::new(shelf), [1; 32], |_| None).unwrap().0
}

#[test]
fn accounts_and_tickets_are_found_wherever_the_records_are() {
    let disk = SimulatedDisk::new();
    disk.create_dir("/log".as_ref()).unwrap();
    let open = || open(&disk);
    let records = records();
    let index = open();
    // All in memory.
    apply(&index, 0, &records);
    holds(&index);
    // All in the file.
    index.flush_after(&|| Ok(())).unwrap();
    holds(&index);
    drop(index);
    let index = open();
    holds(&index);
    // Replayed from an earlier point, in two parts.
    apply(&index, 3, &records[3..8]);
    apply(&index, 8, &records[8..]);
    holds(&index);
    index.flush_after(&|| Ok(())).unwrap();
    holds(&index);

    // Half in the file, half in memory.
    let disk = SimulatedDisk::new();
    disk.create_dir("/log".as_ref()).unwrap();
    let index = self::open(&disk);
    apply(&index, 0, &records[..6]);
    index.flush_after(&|| Ok(())).unwrap();
    apply(&index, 6, &records[6..]);
    holds(&index);
}
