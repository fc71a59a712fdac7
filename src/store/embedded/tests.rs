//! The contract, and what only a file can do: last, be locked, be damaged, survive a kill.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::env::system::SystemDisk;
use crate::store::contract::{Fixture, account, authorization, order};

fn open(dir: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(&dir.join("orders.redb"), Arc::new(SystemDisk))
}

fn fixture() -> Fixture {
    let dir = TempDir::new().unwrap();
    Fixture { store: Box::new(open(dir.path()).unwrap()), dir: Some(dir) }
}

crate::store::contract::tests!(fixture());

fn halt(result: Result<Embedded, StoreError>) -> String {
    match result {
        Err(StoreError::Halt(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn facts_outlive_the_process() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let mode = std::fs::metadata(dir.path().join("orders.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut processing = order(2, 1, &[3]);
    processing.accept(vec![7; 3000], Timestamp(9));
    let changes = vec![
        Change::Account(account(1, 1), Version::ABSENT),
        Change::Order(processing.clone(), Version::ABSENT),
        Change::Authorization(authorization(3, 1), Version::ABSENT),
    ];
    store.commit(changes).await.unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    let found = store.account_by_key(account(1, 1).key.thumbprint()).await;
    assert_eq!(found, Ok(Some((account(1, 1), Version(1)))));
    let facts = store.order(processing.id).await.unwrap().unwrap();
    assert_eq!(facts.order, processing);
    assert_eq!(facts.authorizations, [(authorization(3, 1), Version(1))]);
    assert_eq!(store.processing().await, Ok(vec![processing.id]));
}

#[test]
fn a_file_has_one_user_and_must_be_whole() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Busy)));
    drop(store);
    assert!(halt(open(&dir.path().join("absent"))).starts_with("CHY-STORE: "));

    let path = dir.path().join("orders.redb");
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, b"this was never a store of orders").unwrap();
    assert!(halt(open(dir.path())).starts_with("CHY-STORE-CORRUPT: "));
    let mut damaged = good.clone();
    // Past the header: whichever page that is, its checksum no longer holds.
    for octet in damaged.iter_mut().skip(4096) {
        *octet ^= 0x55;
    }
    std::fs::write(&path, damaged).unwrap();
    assert!(halt(open(dir.path())).starts_with("CHY-STORE-CORRUPT: "));
    std::fs::write(&path, good).unwrap();
    assert!(open(dir.path()).is_ok());
}

#[tokio::test]
async fn what_does_not_decode_halts_for_good() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    let transaction = store.database.begin_write().unwrap();
    transaction.open_table(ORDERS).unwrap().insert(&[2; 16], (1, &[0xff; 3][..])).unwrap();
    transaction.commit().unwrap();
    let read = store.order(OrderId([2; 16])).await.map(|_| ());
    assert!(matches!(&read, Err(StoreError::Halt(why)) if why.starts_with("CHY-STORE-CORRUPT: ")));
    let change = Change::Order(order(4, 1, &[]), Version::ABSENT);
    assert_eq!(store.commit(vec![change]).await, read);
    assert_eq!(store.processing().await.map(|_| ()), read);
}

/// The other half of `what_was_answered_survives_a_kill`: commits and says so, until it is killed.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&dir)).unwrap();
    for id in 0..=u8::MAX {
        let changes = vec![
            Change::Order(order(id, 1, &[id]), Version::ABSENT),
            Change::Authorization(authorization(id, 1), Version::ABSENT),
        ];
        store.commit(changes).await.unwrap();
        // Not println!: the harness captures that.
        writeln!(std::io::stdout(), "committed {id}").unwrap();
    }
}

const CHILD: &str = "CHANCERY_TEST_STORE_TO_BE_KILLED";

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let dir = TempDir::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::embedded::tests::child_that_is_killed", "--nocapture"])
        .env(CHILD, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut committed = lines
        .map(Result::unwrap)
        .filter_map(|line| line.strip_prefix("committed ").and_then(|id| id.parse::<u8>().ok()));
    let mut answered: Vec<u8> = committed.by_ref().take(25).collect();
    child.kill().unwrap();
    answered.extend(committed);
    child.wait().unwrap();
    assert!(answered.len() >= 25);

    let store = open(dir.path()).unwrap();
    for id in &answered {
        let facts = store.order(OrderId([*id; 16])).await.unwrap().unwrap();
        assert_eq!(facts.authorizations.len(), 1, "both or neither");
    }
    // At most the one request under way may have landed without being answered.
    let listed = store.orders_of(AccountId([1; 16]), None, usize::MAX).await.unwrap();
    assert!(listed.len() - answered.len() <= 1);
    let more = Change::Order(order(255, 2, &[]), Version::ABSENT);
    store.commit(vec![more]).await.unwrap();
}

/// What was copied while the store worked is a store of the same rows; what was cut is none.
#[test]
fn a_copy_is_put_back_row_by_row() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(&dir.path().join("one"), Arc::new(SystemDisk)).unwrap();
    let transaction = store.database.begin_write().unwrap();
    for n in 0..5000u16 {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        transaction.open_table(ORDERS).unwrap().insert(&id, (u64::from(n), &[7; 30][..])).unwrap();
        transaction.open_table(INDEX).unwrap().insert(&id[..3], &id[..]).unwrap();
    }
    transaction.commit().unwrap();
    let mut copy = Vec::new();
    let rows = store.copy_to(&mut copy).unwrap();
    assert_eq!(rows, 10_000);
    assert!(copy::judge(&copy));
    let path = dir.path().join("two");
    assert_eq!(copy::fill(&path, &mut &copy[..]), Ok(rows));
    let other = Embedded::open(&path, Arc::new(SystemDisk)).unwrap();
    let mut again = Vec::new();
    other.copy_to(&mut again).unwrap();
    assert!(again == copy);
    for cut in [0, 5, 18, 100, copy.len() - 1] {
        assert!(!copy::judge(&copy[..cut]), "{cut}");
        let path = dir.path().join(format!("cut-{cut}"));
        assert!(copy::fill(&path, &mut &copy[..cut]).is_err(), "{cut}");
    }
}
