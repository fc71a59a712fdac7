//! What every store must do, as tests over a store that is handed in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{Change, HELD, Store, StoreError, Version};
use crate::acme::Identifier;
use crate::acme::account::{Account, NewAccount};
use crate::acme::authz::Authorization;
use crate::acme::challenge::{Challenge, ChallengeType, RetryRule};
use crate::acme::jws::{Jwk, Thumbprint};
use crate::acme::name_set::NameSet;
use crate::acme::order::{Order, Outcome, Replaced};
use crate::acme::problem::{Problem, ProblemType};
use crate::id::{AccountId, AuthzId, ChallengeId, OrderId, Serial, Timestamp};

/// An empty store, and where it lives.
pub(super) struct Fixture {
    pub(super) store: Box<dyn Store>,
    #[expect(dead_code, reason = "held so that the directory outlives the store")]
    pub(super) dir: Option<TempDir>,
}

/// One `#[tokio::test]` for each function of the contract.
macro_rules! tests {
    ($fixture:expr) => {
        $crate::store::contract::tests!(
            $fixture;
            facts_are_read_as_they_were_committed
            a_stale_version_changes_nothing
            a_request_is_all_or_nothing
            an_account_key_is_unique
            orders_are_listed_by_creation
            processing_and_validating_are_found
            valid_authorizations_are_found_by_name
            valid_authorizations_are_found_above_a_name
            pending_authorizations_are_found_by_name
            what_holds_is_compared_and_not_written
            a_certificate_is_replaced_by_one_order
            sweeping_forgets_what_ended
            certified_names_are_remembered_longer_than_their_orders
            of_many_who_change_one_order_one_wins
            concurrent_creations_all_land
        );
    };
    ($fixture:expr; $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::store::contract::$name($fixture).await;
            }
        )+
    };
}
pub(super) use tests;

pub(super) const NOW: Timestamp = Timestamp(1_795_305_599_000);
const HOUR: Duration = Duration::from_secs(3600);
const RULE: RetryRule = RetryRule { attempts: 3, first: HOUR, longest: HOUR };

/// An account of key `seed`.
pub(super) fn account(id: u8, seed: u8) -> Account {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use base64ct::{Base64UrlUnpadded, Encoding};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let x = Base64UrlUnpadded::encode_string(pair.public_key().as_ref());
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
    let request =
        NewAccount { contact: vec!["mailto:ops@example.lan".into()], ..NewAccount::default() };
    Account::new(AccountId([id; 16]), Jwk::parse(jwk.as_bytes()).unwrap(), request, None, NOW)
}

pub(super) fn order(id: u8, account: u8, authorizations: &[u8]) -> Order {
    Order {
        id: OrderId([id; 16]),
        account: AccountId([account; 16]),
        identifiers: vec![name("a.lan"), Identifier::parse("ip", "10.0.0.1").unwrap()],
        authorizations: authorizations.iter().map(|id| AuthzId([*id; 16])).collect(),
        profile: "server".into(),
        not_before: None,
        not_after: Some(NOW.plus(2 * HOUR)),
        replaces: None,
        created: NOW,
        expires: NOW.plus(HOUR),
        finalize: None,
        outcome: None,
    }
}

/// For a.lan.
pub(super) fn authorization(id: u8, account: u8) -> Authorization {
    let challenge = Challenge::new(ChallengeId([id; 16]), ChallengeType::Http01, [id; 16]);
    Authorization::new(
        AuthzId([id; 16]),
        AccountId([account; 16]),
        &name("a.lan"),
        vec![challenge],
        NOW,
        NOW.plus(HOUR),
    )
}

fn proven(id: u8, account: u8, lifetime: Duration) -> Authorization {
    let mut authz = responded(id, account);
    assert!(authz.succeeded(ChallengeId([id; 16]), lifetime, NOW));
    authz
}

fn responded(id: u8, account: u8) -> Authorization {
    let mut authz = authorization(id, account);
    authz.respond(ChallengeId([id; 16]), Thumbprint([0; 32]), RULE, NOW).unwrap();
    authz
}

fn name(text: &str) -> Identifier {
    Identifier::parse("dns", text).unwrap()
}

fn failed(at: Timestamp) -> Outcome {
    Outcome::Failed { at, problem: Problem::new(ProblemType::ServerInternal, "x") }
}

async fn create(store: &dyn Store, changes: Vec<Change>) {
    store.commit(changes).await.unwrap();
}

fn new_order(order: Order) -> Change {
    Change::Order(order, Version::ABSENT)
}

fn new_authz(authz: Authorization) -> Change {
    Change::Authorization(authz, Version::ABSENT)
}

pub(super) async fn facts_are_read_as_they_were_committed(Fixture { store, .. }: Fixture) {
    let (one, two) = (authorization(3, 1), authorization(4, 1));
    let account = account(1, 1);
    assert_eq!(store.account(account.id).await, Ok(None));
    assert!(store.order(OrderId([2; 16])).await.unwrap().is_none());
    let changes = vec![
        Change::Account(account.clone(), Version::ABSENT),
        new_order(order(2, 1, &[4, 3])),
        new_authz(one.clone()),
        new_authz(two.clone()),
    ];
    create(&*store, changes).await;
    assert_eq!(store.account(account.id).await, Ok(Some((account.clone(), Version(1)))));
    let by_key = store.account_by_key(account.key.thumbprint()).await;
    assert_eq!(by_key, Ok(Some((account, Version(1)))));
    assert_eq!(store.account_by_key(Thumbprint([0; 32])).await, Ok(None));
    let facts = store.order(OrderId([2; 16])).await.unwrap().unwrap();
    assert_eq!((facts.order, facts.version), (order(2, 1, &[4, 3]), Version(1)));
    assert_eq!(facts.authorizations, [(two, Version(1)), (one.clone(), Version(1))]);
    assert_eq!(store.authorization(one.id).await, Ok(Some((one, Version(1)))));
    assert_eq!(store.commit(Vec::new()).await, Ok(()));
}

pub(super) async fn a_stale_version_changes_nothing(Fixture { store, .. }: Fixture) {
    let first = order(2, 1, &[]);
    create(&*store, vec![new_order(first.clone())]).await;
    let again = store.commit(vec![new_order(first.clone())]).await;
    assert_eq!(again, Err(StoreError::Conflict));
    let mut second = first.clone();
    second.accept(vec![1], NOW);
    store.commit(vec![Change::Order(second.clone(), Version(1))]).await.unwrap();
    for stale in [0, 1, 3] {
        let stale = store.commit(vec![Change::Order(first.clone(), Version(stale))]).await;
        assert_eq!(stale, Err(StoreError::Conflict));
    }
    let facts = store.order(first.id).await.unwrap().unwrap();
    assert_eq!((facts.order, facts.version), (second, Version(2)));
    let unborn = Change::Authorization(authorization(3, 1), Version(1));
    assert_eq!(store.commit(vec![unborn]).await, Err(StoreError::Conflict));
}

pub(super) async fn a_request_is_all_or_nothing(Fixture { store, .. }: Fixture) {
    create(&*store, vec![new_authz(authorization(3, 1))]).await;
    let half = vec![new_order(order(2, 1, &[3])), new_authz(authorization(3, 1))];
    assert_eq!(store.commit(half).await, Err(StoreError::Conflict));
    assert!(store.order(OrderId([2; 16])).await.unwrap().is_none());
    let twice = vec![new_order(order(2, 1, &[])), new_order(order(2, 1, &[]))];
    assert_eq!(store.commit(twice).await, Err(StoreError::Conflict));
    assert!(store.order(OrderId([2; 16])).await.unwrap().is_none());
    assert_eq!(store.orders_of(AccountId([1; 16]), None, 9).await, Ok(Vec::new()));
}

pub(super) async fn an_account_key_is_unique(Fixture { store, .. }: Fixture) {
    let new = |account| Change::Account(account, Version::ABSENT);
    create(&*store, vec![new(account(1, 1))]).await;
    assert_eq!(store.commit(vec![new(account(2, 1))]).await, Err(StoreError::Conflict));
    let both = vec![new(account(3, 7)), new(account(4, 7))];
    assert_eq!(store.commit(both).await, Err(StoreError::Conflict));
    create(&*store, vec![new(account(2, 2))]).await;
    // A key change to a free key frees the old one; to a taken key it fails.
    let mut changed = account(1, 1);
    changed.change_key(account(2, 2).key);
    let taken = store.commit(vec![Change::Account(changed, Version(1))]).await;
    assert_eq!(taken, Err(StoreError::Conflict));
    let mut changed = account(1, 1);
    changed.change_key(account(1, 5).key);
    store.commit(vec![Change::Account(changed.clone(), Version(1))]).await.unwrap();
    assert_eq!(store.account_by_key(account(1, 1).key.thumbprint()).await, Ok(None));
    let found = store.account_by_key(changed.key.thumbprint()).await;
    assert_eq!(found, Ok(Some((changed, Version(2)))));
    create(&*store, vec![new(account(6, 1))]).await;
}

pub(super) async fn orders_are_listed_by_creation(Fixture { store, .. }: Fixture) {
    let created = |id: u8, account: u8, hours: u32| {
        let at = NOW.plus(hours * HOUR);
        new_order(Order { created: at, ..order(id, account, &[]) })
    };
    let changes = vec![
        created(9, 1, 0),
        created(2, 1, 2),
        created(5, 1, 1),
        created(4, 1, 1),
        created(3, 2, 1),
    ];
    create(&*store, changes).await;
    let list = async |after: Option<u8>, limit| -> Vec<u8> {
        let after = after.map(|id| OrderId([id; 16]));
        let ids = store.orders_of(AccountId([1; 16]), after, limit).await.unwrap();
        ids.into_iter().map(|id| id.0[0]).collect()
    };
    assert_eq!(list(None, 9).await, [9, 4, 5, 2]);
    assert_eq!(list(None, 2).await, [9, 4]);
    assert_eq!(list(Some(4), 9).await, [5, 2]);
    assert_eq!(list(Some(2), 9).await, [0; 0]);
    assert_eq!(list(Some(77), 1).await, [9], "a swept one was older than all that are left");
}

pub(super) async fn processing_and_validating_are_found(Fixture { store, .. }: Fixture) {
    create(&*store, vec![new_order(order(2, 1, &[3])), new_authz(authorization(3, 1))]).await;
    assert_eq!(store.processing().await, Ok(Vec::new()));
    assert_eq!(store.validating().await, Ok(Vec::new()));
    let mut order = order(2, 1, &[3]);
    order.accept(vec![1], NOW);
    let changes = vec![
        Change::Order(order.clone(), Version(1)),
        Change::Authorization(responded(3, 1), Version(1)),
    ];
    store.commit(changes).await.unwrap();
    assert_eq!(store.processing().await, Ok(vec![order.id]));
    assert_eq!(store.validating().await, Ok(vec![AuthzId([3; 16])]));
    order.settle(failed(NOW));
    let changes = vec![
        Change::Order(order, Version(2)),
        Change::Authorization(proven(3, 1, HOUR), Version(2)),
    ];
    store.commit(changes).await.unwrap();
    assert_eq!(store.processing().await, Ok(Vec::new()));
    assert_eq!(store.validating().await, Ok(Vec::new()));
}

pub(super) async fn valid_authorizations_are_found_by_name(Fixture { store, .. }: Fixture) {
    let other_name = Authorization { identifier: name("b.lan"), ..proven(8, 1, 9 * HOUR) };
    let wildcard = Authorization { wildcard: true, ..proven(9, 1, HOUR) };
    let given_up = Authorization { deactivated: Some(NOW), ..proven(10, 1, 9 * HOUR) };
    let made = [
        authorization(3, 1),
        responded(4, 1),
        proven(5, 1, HOUR),
        proven(6, 1, 3 * HOUR),
        proven(7, 2, 9 * HOUR),
        other_name.clone(),
        wildcard.clone(),
        given_up,
    ];
    create(&*store, made.into_iter().map(new_authz).collect()).await;
    let asked = [name("a.lan"), name("*.a.lan"), name("b.lan"), name("c.lan")];
    let found = store.valid_authorizations(AccountId([1; 16]), &asked).await;
    assert_eq!(found, Ok(vec![proven(6, 1, 3 * HOUR), wildcard, other_name]));
    let mut revoked = proven(6, 1, 3 * HOUR);
    revoked.revoked = Some(NOW);
    store.commit(vec![Change::Authorization(revoked, Version(1))]).await.unwrap();
    let found = store.valid_authorizations(AccountId([1; 16]), &asked[..1]).await;
    assert_eq!(found, Ok(vec![proven(5, 1, HOUR)]));
}

pub(super) async fn valid_authorizations_are_found_above_a_name(Fixture { store, .. }: Fixture) {
    let zone = |id, at: &str, lifetime| Authorization {
        identifier: name(at),
        ..proven(id, 1, lifetime).with_subdomains()
    };
    let made = [
        zone(3, "a.lan", HOUR),
        zone(4, "a.lan", 2 * HOUR),
        zone(5, "lan", HOUR),
        Authorization { wildcard: true, ..zone(6, "a.lan", HOUR) },
        Authorization { account: AccountId([2; 16]), ..zone(7, "a.lan", 9 * HOUR) },
        Authorization { identifier: name("x.a.lan"), ..proven(8, 1, HOUR) },
    ];
    create(&*store, made.into_iter().map(new_authz).collect()).await;
    let found = async |asked: &[&str]| -> Vec<u8> {
        let asked: Vec<_> = asked.iter().map(|text| name(text)).collect();
        let found = store.valid_authorizations(AccountId([1; 16]), &asked).await.unwrap();
        found.into_iter().map(|authz| authz.id.0[0]).collect()
    };
    assert_eq!(found(&["x.a.lan"]).await, [8, 4, 5]);
    assert_eq!(found(&["y.a.lan", "a.lan"]).await, [4, 5], "none twice");
    assert_eq!(found(&["*.y.a.lan"]).await, [6]);
    assert_eq!(found(&["ba.lan"]).await, [5], "label by label");
    assert_eq!(found(&["a.home.arpa"]).await, [0; 0]);
    let address = [Identifier::parse("ip", "10.0.0.1").unwrap()];
    assert_eq!(store.valid_authorizations(AccountId([1; 16]), &address).await, Ok(Vec::new()));
}

pub(super) async fn pending_authorizations_are_found_by_name(Fixture { store, .. }: Fixture) {
    let later = Authorization { expires: NOW.plus(2 * HOUR), ..authorization(4, 1) };
    let given_up = Authorization { deactivated: Some(NOW), ..authorization(8, 1) };
    let wildcard = Authorization { wildcard: true, ..authorization(5, 1) };
    let zone = authorization(6, 1).with_subdomains();
    let made = [
        authorization(3, 1),
        later.clone(),
        wildcard.clone(),
        zone.clone(),
        authorization(7, 2),
        given_up,
        proven(9, 1, HOUR),
    ];
    create(&*store, made.into_iter().map(new_authz).collect()).await;
    let find = async |at: &str, subdomains| {
        store.pending_authorization(AccountId([1; 16]), &name(at), subdomains).await.unwrap()
    };
    assert_eq!(find("a.lan", false).await, Some(later.clone()));
    assert_eq!(find("*.a.lan", false).await, Some(wildcard));
    assert_eq!(find("a.lan", true).await, Some(zone));
    assert_eq!(find("b.lan", false).await, None);
    let mut answered = later;
    answered.respond(ChallengeId([4; 16]), Thumbprint([0; 32]), RULE, NOW).unwrap();
    let change = Change::Authorization(answered.clone(), Version(1));
    store.commit(vec![change]).await.unwrap();
    assert_eq!(find("a.lan", false).await, Some(answered.clone()), "still pending");
    answered.deactivate(NOW);
    store.commit(vec![Change::Authorization(answered, Version(2))]).await.unwrap();
    assert_eq!(find("a.lan", false).await, Some(authorization(3, 1)));
}

pub(super) async fn what_holds_is_compared_and_not_written(Fixture { store, .. }: Fixture) {
    create(&*store, vec![new_order(order(2, 1, &[3])), new_authz(authorization(3, 1))]).await;
    let authz = AuthzId([3; 16]);
    let mut finalized = order(2, 1, &[3]);
    finalized.accept(vec![1], NOW);
    for stale in [0, 2] {
        let changes = vec![
            Change::Order(finalized.clone(), Version(1)),
            Change::Holds(authz, Version(stale)),
        ];
        assert_eq!(store.commit(changes).await, Err(StoreError::Conflict));
    }
    let gone = Change::Holds(AuthzId([9; 16]), Version(1));
    assert_eq!(store.commit(vec![gone]).await, Err(StoreError::Conflict));
    let twice = vec![
        Change::Authorization(authorization(3, 1), Version(1)),
        Change::Holds(authz, Version(1)),
    ];
    assert_eq!(store.commit(twice).await, Err(StoreError::Conflict));
    assert!(!store.order(finalized.id).await.unwrap().unwrap().order.is_processing());
    let changes = vec![Change::Order(finalized, Version(1)), Change::Holds(authz, Version(1))];
    store.commit(changes).await.unwrap();
    let found = store.authorization(authz).await.unwrap();
    assert_eq!(found, Some((authorization(3, 1), Version(1))));
    let changed = Change::Authorization(responded(3, 1), Version(1));
    store.commit(vec![changed]).await.unwrap();
}

pub(super) async fn a_certificate_is_replaced_by_one_order(Fixture { store, .. }: Fixture) {
    let serial = Serial::from_random([9; 16]);
    let by = |order: u8, hours: u32| Replaced {
        serial,
        by: OrderId([order; 16]),
        until: NOW.plus(hours * HOUR),
    };
    assert_eq!(store.replaced(serial).await, Ok(None));
    let first = vec![new_order(order(2, 1, &[])), Change::Replaced(by(2, 1), Version::ABSENT)];
    create(&*store, first).await;
    let second = vec![new_order(order(3, 1, &[])), Change::Replaced(by(3, 1), Version::ABSENT)];
    assert_eq!(store.commit(second).await, Err(StoreError::Conflict));
    assert!(store.order(OrderId([3; 16])).await.unwrap().is_none());
    assert_eq!(store.replaced(serial).await, Ok(Some((by(2, 1), Version(1)))));
    store.commit(vec![Change::Replaced(by(3, 2), Version(1))]).await.unwrap();
    assert_eq!(store.replaced(serial).await, Ok(Some((by(3, 2), Version(2)))));
    let other = Replaced { serial: Serial::from_random([8; 16]), ..by(4, 9) };
    create(&*store, vec![Change::Replaced(other.clone(), Version::ABSENT)]).await;
    store.commit(vec![Change::Order(order(2, 1, &[]), Version(1))]).await.unwrap();
    // Kept while the certificate lasts, though its order is long gone.
    assert_eq!(store.sweep(NOW.plus(2 * HOUR), 9).await, Ok(1), "the order");
    assert_eq!(store.replaced(serial).await, Ok(Some((by(3, 2), Version(2)))));
    assert_eq!(store.sweep(NOW.plus(3 * HOUR), 9).await, Ok(1));
    assert_eq!(store.replaced(serial).await, Ok(None));
    assert_eq!(store.replaced(other.serial).await, Ok(Some((other, Version(1)))));
}

pub(super) async fn sweeping_forgets_what_ended(Fixture { store, .. }: Fixture) {
    let mut processing = order(20, 1, &[30]);
    processing.accept(vec![1], NOW);
    let mut ended = order(21, 1, &[31, 32]);
    ended.expires = NOW.plus(9 * HOUR);
    ended.settle(failed(NOW));
    let mut lasting = order(22, 1, &[32]);
    lasting.expires = NOW.plus(9 * HOUR);
    let lapsed = order(23, 1, &[33]);
    let orders = [processing, ended, lasting, lapsed].map(new_order);
    let reusable = proven(33, 1, 9 * HOUR);
    let authorizations = [30, 31, 32].map(|id| authorization(id, 1));
    create(&*store, orders.into_iter().collect()).await;
    create(&*store, authorizations.into_iter().chain([reusable]).map(new_authz).collect()).await;
    // One that no order ever named.
    create(&*store, vec![new_authz(authorization(34, 1))]).await;

    let present = async || {
        let mut present = BTreeSet::new();
        for id in 20..=23u8 {
            if store.order(OrderId([id; 16])).await.unwrap().is_some() {
                present.insert(id);
            }
        }
        for id in 30..=34u8 {
            if store.authorization(AuthzId([id; 16])).await.unwrap().is_some() {
                present.insert(id);
            }
        }
        present.into_iter().collect::<Vec<u8>>()
    };
    assert_eq!(store.sweep(NOW, 9).await, Ok(0));
    let before = NOW.plus(2 * HOUR);
    assert_eq!(store.sweep(before, 1).await, Ok(1), "the one that ended first");
    assert_eq!(present().await, [20, 22, 23, 30, 32, 33, 34]);
    assert_eq!(store.sweep(before, 9).await, Ok(2));
    assert_eq!(present().await, [20, 22, 30, 32, 33], "33 may still be reused");
    assert_eq!(store.sweep(before, 9).await, Ok(0));
    let late = NOW.plus(10 * HOUR);
    assert_eq!(store.sweep(late, 9).await, Ok(2));
    assert_eq!(present().await, [20, 30], "what is processing is never removed");
    let left = store.orders_of(AccountId([1; 16]), None, 9).await;
    assert_eq!(left, Ok(vec![OrderId([20; 16])]));
    assert_eq!(store.valid_authorizations(AccountId([1; 16]), &[name("a.lan")]).await, Ok(vec![]));
}

pub(super) async fn certified_names_are_remembered_longer_than_their_orders(
    Fixture { store, .. }: Fixture,
) {
    let mut issued = order(1, 1, &[]);
    let set = NameSet::of(&issued.identifiers);
    store.commit(vec![Change::Order(issued.clone(), Version::ABSENT)]).await.unwrap();
    assert_eq!(store.held(set).await, Ok(None));
    issued.accept(vec![7], NOW);
    issued.settle(Outcome::Issued {
        at: NOW,
        serial: Serial::from_random([9; 16]),
        leaf: 3,
        certificate: vec![0x30, 0],
    });
    store.commit(vec![Change::Order(issued.clone(), Version(1))]).await.unwrap();
    assert_eq!(store.held(set).await, Ok(Some(NOW)));
    assert_eq!(store.held(NameSet::of(&issued.identifiers[..1])).await, Ok(None));
    let mut failed = order(2, 1, &[]);
    failed.identifiers = vec![name("failed.lan")];
    let other = NameSet::of(&failed.identifiers);
    failed.accept(vec![7], NOW);
    failed.settle(Outcome::Failed { at: NOW, problem: Problem::new(ProblemType::Caa, "no") });
    store.commit(vec![Change::Order(failed, Version::ABSENT)]).await.unwrap();
    assert_eq!(store.held(other).await, Ok(None));
    assert_eq!(store.sweep(NOW.plus(30 * 24 * HOUR), 9).await, Ok(2));
    assert!(store.order(OrderId([1; 16])).await.unwrap().is_none());
    assert_eq!(store.held(set).await, Ok(Some(NOW)), "the order is gone, its mark is not");
    assert_eq!(store.sweep(NOW.plus(HELD + HOUR), 9).await, Ok(0));
    assert_eq!(store.held(set).await, Ok(None));
}

pub(super) async fn of_many_who_change_one_order_one_wins(Fixture { store, .. }: Fixture) {
    create(&*store, vec![new_order(order(2, 1, &[]))]).await;
    let store: Arc<dyn Store> = store.into();
    let racers: Vec<_> = (0..32u8)
        .map(|racer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut order = order(2, 1, &[]);
                order.accept(vec![racer], NOW);
                (racer, store.commit(vec![Change::Order(order, Version(1))]).await)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        match racer.await.unwrap() {
            (racer, Ok(())) => winners.push(racer),
            (_, refused) => assert_eq!(refused, Err(StoreError::Conflict)),
        }
    }
    let facts = store.order(OrderId([2; 16])).await.unwrap().unwrap();
    assert_eq!(winners.len(), 1);
    assert_eq!(facts.order.finalize.unwrap().jws, winners);
    assert_eq!(facts.version, Version(2));
}

pub(super) async fn concurrent_creations_all_land(Fixture { store, .. }: Fixture) {
    let store: Arc<dyn Store> = store.into();
    // Every third asks for what another asks for as well.
    let tasks: Vec<_> = (0..90u8)
        .map(|task| {
            let store = store.clone();
            let id = if task % 3 == 2 { task - 1 } else { task };
            tokio::spawn(async move { store.commit(vec![new_order(order(id, 1, &[]))]).await })
        })
        .collect();
    let mut landed = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => landed += 1,
            refused => assert_eq!(refused, Err(StoreError::Conflict)),
        }
    }
    assert_eq!(landed, 60);
    let listed = store.orders_of(AccountId([1; 16]), None, usize::MAX).await.unwrap();
    assert_eq!(listed.len(), 60);
}
