//! Consistency of one order under requests that come at the same time: whatever the interleaving, and however
//! often a store says that the facts changed meanwhile, an order has one certificate at most, statuses move along the
//! graphs of RFC 8555 section 7.1.6, and nothing is left half-changed.
//!
//! Each actor is a request or a task of the web process, cut where others can come in between: it loads facts with
//! their versions, and in a later step decides on what it loaded and commits. The decisions are those of `acme`; the
//! stores are both there are; the schedule, the clock and conflicts that have no cause are the test's.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding};
use chancery::acme::Identifier;
use chancery::acme::account::{Account, NewAccount};
use chancery::acme::authz::{Authorization, AuthzStatus};
use chancery::acme::challenge::{Challenge, ChallengeStatus, ChallengeType, RetryRule};
use chancery::acme::jws::{Jwk, Thumbprint};
use chancery::acme::order::{FinalizeDecision, Order, OrderStatus, Outcome};
use chancery::acme::problem::{Problem, ProblemType};
use chancery::env::system::SystemDisk;
use chancery::id::{AccountId, AuthzId, ChallengeId, OrderId, Serial, Timestamp};
use chancery::pki::csr::Csr;
use chancery::store::embedded::Embedded;
use chancery::store::memory::Memory;
use chancery::store::{Change, OrderFacts, Store, StoreError, Version};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_795_305_600_000);
const HOUR: Duration = Duration::from_secs(3600);
const RULE: RetryRule = RetryRule { attempts: 2, first: HOUR, longest: HOUR };
const ORDER: OrderId = OrderId([1; 16]);
const ACCOUNT: AccountId = AccountId([2; 16]);
const AUTHZ: [AuthzId; 2] = [AuthzId([3; 16]), AuthzId([4; 16])];
const NAMES: [&str; 2] = ["a.lan", "b.lan"];

/// Two requests for one order differ in their keys.
static CSRS: LazyLock<[Csr; 2]> = LazyLock::new(|| {
    std::array::from_fn(|_| {
        let mut params = rcgen::CertificateParams::new(NAMES.map(String::from).to_vec()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap();
        Csr::parse(request.der()).unwrap()
    })
});

fn jwk(seed: u8) -> Jwk {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let x = Base64UrlUnpadded::encode_string(pair.public_key().as_ref());
    Jwk::parse(format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#).as_bytes()).unwrap()
}

fn challenge(authz: usize) -> ChallengeId {
    ChallengeId([10 + authz as u8; 16])
}

/// What may happen, and how far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// Finalizes with one of the CSRs.
    Finalize(usize),
    /// Asks the issuer for the order's certificate and stores the answer; `true`: the issuer refuses.
    Issue(bool),
    Respond(usize),
    Succeed(usize),
    Fail(usize),
    DeactivateAuthz(usize),
    DeactivateAccount,
    /// After an account has ended: its orders that were not finalized end with it.
    CancelOrder,
    ChangeKey(u8),
    Sweep,
}

/// What an actor loaded.
enum Loaded {
    Order(Option<OrderFacts>),
    Authz(Option<(Authorization, Version)>),
    Account(Option<(Account, Version)>),
    Nothing,
}

struct World {
    store: Box<dyn Store>,
    now: Timestamp,
    /// What the issuer made, by order: asked twice, it answers twice with the same.
    issued: HashMap<OrderId, Outcome>,
    seen: Seen,
}

/// The last state an observer saw.
#[derive(Default)]
struct Seen {
    order: Option<(Order, OrderStatus)>,
    authz: HashMap<AuthzId, AuthzStatus>,
    challenges: HashMap<AuthzId, ChallengeStatus>,
    versions: HashMap<&'static str, u64>,
}

impl World {
    async fn new(store: Box<dyn Store>) -> Self {
        let account = Account::new(ACCOUNT, jwk(1), NewAccount::default(), None, NOW);
        let names = NAMES.map(|name| Identifier::parse("dns", name).unwrap());
        let mut changes = vec![Change::Account(account, Version::ABSENT)];
        for (n, name) in names.iter().enumerate() {
            let challenge = Challenge::new(challenge(n), ChallengeType::Http01, [n as u8; 16]);
            let expires = NOW.plus(24 * HOUR);
            let authz = Authorization::new(AUTHZ[n], ACCOUNT, name, vec![challenge], NOW, expires);
            changes.push(Change::Authorization(authz, Version::ABSENT));
        }
        let order = Order {
            id: ORDER,
            account: ACCOUNT,
            identifiers: names.to_vec(),
            authorizations: AUTHZ.to_vec(),
            profile: "server".into(),
            not_before: None,
            not_after: None,
            replaces: None,
            created: NOW,
            expires: NOW.plus(24 * HOUR),
            finalize: None,
            outcome: None,
        };
        changes.push(Change::Order(order, Version::ABSENT));
        store.commit(changes).await.unwrap();
        Self { store, now: NOW, issued: HashMap::new(), seen: Seen::default() }
    }

    async fn load(&self, act: Act) -> Loaded {
        match act {
            Act::Finalize(_) | Act::Issue(_) | Act::CancelOrder => {
                Loaded::Order(self.store.order(ORDER).await.unwrap())
            }
            Act::Respond(n) | Act::Succeed(n) | Act::Fail(n) | Act::DeactivateAuthz(n) => {
                Loaded::Authz(self.store.authorization(AUTHZ[n]).await.unwrap())
            }
            Act::DeactivateAccount | Act::ChangeKey(_) => {
                Loaded::Account(self.store.account(ACCOUNT).await.unwrap())
            }
            Act::Sweep => Loaded::Nothing,
        }
    }

    /// Decides on what was loaded, which may be old by now. Nothing to commit: `None`.
    fn decide(&mut self, act: Act, loaded: Loaded) -> Option<Vec<Change>> {
        match (act, loaded) {
            (Act::Finalize(csr), Loaded::Order(Some(mut facts))) => {
                let authorizations: Vec<Authorization> =
                    facts.authorizations.iter().map(|(authz, _)| authz.clone()).collect();
                match facts.order.finalize(&authorizations, &CSRS[csr], self.now) {
                    Ok(FinalizeDecision::Accept) => {}
                    Ok(FinalizeDecision::AlreadyProcessing) | Err(_) => return None,
                }
                assert!(facts.order.accept(vec![csr as u8], self.now));
                let mut changes = vec![Change::Order(facts.order, facts.version)];
                changes.extend(facts.authorizations.iter().map(|(a, v)| Change::Holds(a.id, *v)));
                Some(changes)
            }
            (Act::Issue(refuses), Loaded::Order(Some(mut facts)))
                if facts.order.is_processing() =>
            {
                let csr = facts.order.finalize.as_ref().unwrap().jws[0];
                let made = self.issued.entry(ORDER).or_insert_with(|| match refuses {
                    true => Outcome::Failed {
                        at: self.now,
                        problem: Problem::new(ProblemType::BadCsr, "no"),
                    },
                    false => Outcome::Issued {
                        at: self.now,
                        serial: Serial::from_random([csr; 16]),
                        leaf: 7,
                        certificate: vec![csr],
                    },
                });
                facts
                    .order
                    .settle(made.clone())
                    .then(|| vec![Change::Order(facts.order, facts.version)])
            }
            (Act::CancelOrder, Loaded::Order(Some(mut facts))) => {
                if facts.order.finalize.is_some() || facts.order.outcome.is_some() {
                    return None;
                }
                let problem = Problem::new(ProblemType::Unauthorized, "the account has ended");
                assert!(facts.order.settle(Outcome::Failed { at: self.now, problem }));
                let mut changes = vec![Change::Order(facts.order, facts.version)];
                for (mut authz, version) in facts.authorizations {
                    if authz.deactivate(self.now) {
                        changes.push(Change::Authorization(authz, version));
                    }
                }
                Some(changes)
            }
            (act, Loaded::Authz(Some((mut authz, version)))) => {
                let before = authz.clone();
                match act {
                    Act::Respond(n) => {
                        let _ = authz.respond(challenge(n), Thumbprint([9; 32]), RULE, self.now);
                    }
                    Act::Succeed(n) => drop(authz.succeeded(challenge(n), 10 * HOUR, self.now)),
                    Act::Fail(n) => {
                        let problem = Problem::new(ProblemType::Connection, "refused");
                        authz.failed(challenge(n), problem, RULE, self.now);
                    }
                    _ => drop(authz.deactivate(self.now)),
                }
                (authz != before).then(|| vec![Change::Authorization(authz, version)])
            }
            (act, Loaded::Account(Some((mut account, version)))) => {
                match act {
                    Act::ChangeKey(seed) if account.key != jwk(seed) => {
                        account.change_key(jwk(seed));
                    }
                    Act::DeactivateAccount if account.is_active() => {
                        account.deactivated = Some(self.now);
                    }
                    _ => return None,
                }
                Some(vec![Change::Account(account, version)])
            }
            _ => None,
        }
    }

    /// One commit, and a look at what it left.
    async fn commit(&mut self, changes: Vec<Change>) -> Result<(), StoreError> {
        let finalizes = changes
            .iter()
            .any(|change| matches!(change, Change::Order(order, _) if order.is_processing()));
        let before = self.store.order(ORDER).await.unwrap();
        let committed = self.store.commit(changes).await;
        if committed.is_ok() && finalizes {
            let before = before.as_ref().unwrap();
            assert!(before.order.finalize.is_none(), "finalized twice");
            for (authz, _) in &before.authorizations {
                assert_eq!(authz.status(self.now), AuthzStatus::Valid, "finalized without a proof");
            }
        }
        if committed.is_err() {
            let after = self.store.order(ORDER).await.unwrap();
            let facts = |facts: &OrderFacts| {
                (facts.order.clone(), facts.version, facts.authorizations.clone())
            };
            assert_eq!(before.as_ref().map(facts), after.as_ref().map(facts), "half-changed");
        }
        self.look().await;
        committed
    }

    /// What must hold between any two steps.
    async fn look(&mut self) {
        let facts = self.store.order(ORDER).await.unwrap();
        let Some(facts) = facts else {
            if let Some((order, status)) = &self.seen.order {
                assert!(!order.is_processing(), "an order that is processing was swept");
                assert_ne!(*status, OrderStatus::Processing);
            }
            return;
        };
        let authorizations: Vec<Authorization> =
            facts.authorizations.iter().map(|(authz, _)| authz.clone()).collect();
        assert_eq!(authorizations.len(), 2, "an order lost an authorization");
        let status = facts.order.status(&authorizations, self.now);
        if let Some((before, was)) = &self.seen.order {
            assert!(order_moves(*was, status), "{was:?} → {status:?}");
            if before.finalize.is_some() {
                assert_eq!(before.finalize, facts.order.finalize, "another request in its place");
            }
            if before.outcome.is_some() {
                assert_eq!(before.outcome, facts.order.outcome, "another outcome in its place");
            }
        }
        if let Some(outcome @ Outcome::Issued { certificate, .. }) = &facts.order.outcome {
            assert_eq!(self.issued.get(&ORDER), Some(outcome), "a certificate from nowhere");
            let finalize = facts.order.finalize.as_ref().unwrap();
            assert_eq!(*certificate, finalize.jws, "a certificate for another request");
        }
        self.rises("order", facts.version);
        for ((authz, version), name) in facts.authorizations.iter().zip(["authz 0", "authz 1"]) {
            let status = authz.status(self.now);
            if let Some(was) = self.seen.authz.insert(authz.id, status) {
                assert!(authz_moves(was, status), "{was:?} → {status:?}");
            }
            let status = authz.challenges[0].status();
            if let Some(was) = self.seen.challenges.insert(authz.id, status) {
                assert!(challenge_moves(was, status), "{was:?} → {status:?}");
            }
            self.rises(name, *version);
        }
        let (account, version) = self.store.account(ACCOUNT).await.unwrap().unwrap();
        let by_key = self.store.account_by_key(account.key.thumbprint()).await.unwrap();
        assert_eq!(by_key.map(|(found, _)| found.id), Some(ACCOUNT), "the index lost the key");
        self.rises("account", version);
        let processing = self.store.processing().await.unwrap();
        assert_eq!(processing.contains(&ORDER), facts.order.is_processing(), "the index is wrong");
        self.seen.order = Some((facts.order, status));
    }

    fn rises(&mut self, what: &'static str, version: Version) {
        let before = self.seen.versions.insert(what, version.0);
        assert!(before.is_none_or(|before| before <= version.0), "{what} went back");
    }
}

/// RFC 8555 section 7.1.6, and its closure: several steps may lie between two looks.
fn order_moves(from: OrderStatus, to: OrderStatus) -> bool {
    use OrderStatus::{Invalid, Pending, Processing, Ready, Valid};
    from == to
        || matches!(
            (from, to),
            (Pending, Ready | Processing | Valid | Invalid)
                | (Ready, Processing | Valid | Invalid)
                | (Processing, Valid | Invalid)
        )
}

fn authz_moves(from: AuthzStatus, to: AuthzStatus) -> bool {
    use AuthzStatus::{Deactivated, Expired, Invalid, Pending, Revoked, Valid};
    from == to
        || matches!(
            (from, to),
            (Pending, Valid | Invalid | Deactivated | Expired)
                | (Valid, Expired | Deactivated | Revoked)
        )
}

fn challenge_moves(from: ChallengeStatus, to: ChallengeStatus) -> bool {
    use ChallengeStatus::{Invalid, Pending, Processing, Valid};
    from == to
        || matches!(
            (from, to),
            (Pending, Processing | Valid | Invalid) | (Processing, Valid | Invalid)
        )
}

/// Lets the actors of a schedule take their steps. A step names an actor; `spite` makes its commit a conflict;
/// between steps the clock may move.
async fn play(store: Box<dyn Store>, acts: Vec<Act>, steps: Vec<(usize, bool, u64)>) {
    let mut world = World::new(store).await;
    world.look().await;
    let mut loaded: Vec<Option<Loaded>> = acts.iter().map(|_| None).collect();
    let mut done = vec![false; acts.len()];
    // After the schedule everybody finishes, in turn.
    let turns = (0..4).flat_map(|_| (0..acts.len()).map(|actor| (actor, false, 0)));
    for (actor, spite, minutes) in steps.into_iter().chain(turns) {
        world.now = world.now.plus(Duration::from_secs(60 * minutes));
        let actor = actor % acts.len();
        let act = acts[actor];
        if done[actor] {
            world.look().await;
            continue;
        }
        if act == Act::Sweep {
            world.store.sweep(world.now.minus(12 * HOUR), 8).await.unwrap();
            world.look().await;
            done[actor] = true;
            continue;
        }
        let Some(facts) = loaded[actor].take() else {
            loaded[actor] = Some(world.load(act).await);
            continue;
        };
        done[actor] = match world.decide(act, facts) {
            None => true,
            // Decided again on the facts as they are then.
            Some(_) if spite => false,
            Some(changes) => match world.commit(changes).await {
                Ok(()) => true,
                Err(StoreError::Conflict) => false,
                Err(other) => panic!("{other:?}"),
            },
        };
    }
    world.look().await;
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..2usize).prop_map(Act::Finalize),
        3 => any::<bool>().prop_map(Act::Issue),
        2 => (0..2usize).prop_map(Act::Respond),
        2 => (0..2usize).prop_map(Act::Succeed),
        1 => (0..2usize).prop_map(Act::Fail),
        1 => (0..2usize).prop_map(Act::DeactivateAuthz),
        1 => Just(Act::DeactivateAccount),
        1 => Just(Act::CancelOrder),
        1 => (1..4u8).prop_map(Act::ChangeKey),
        1 => Just(Act::Sweep),
    ];
    // Most schedules shall get as far as a certificate.
    let proving =
        [Act::Respond(0), Act::Respond(1), Act::Succeed(0), Act::Succeed(1), Act::Finalize(0)];
    (proptest::collection::vec(act, 1..10), any::<bool>()).prop_map(move |(mut acts, proven)| {
        if proven {
            acts.splice(0..0, proving.iter().copied());
        }
        acts
    })
}

fn steps() -> impl Strategy<Value = Vec<(usize, bool, u64)>> {
    let minutes = prop_oneof![12 => Just(0u64), 2 => 1..90u64, 1 => 600..2000u64];
    let step = (0..64usize, proptest::bool::weighted(0.15), minutes);
    proptest::collection::vec(step, 5..80)
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
}

fn embedded(dir: &tempfile::TempDir) -> Box<dyn Store> {
    Box::new(Embedded::open(&dir.path().join("store.redb"), Arc::new(SystemDisk)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn whatever_the_interleaving_in_memory(acts in acts(), steps in steps()) {
        block_on(play(Box::new(Memory::new()), acts, steps));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]
    #[test]
    fn whatever_the_interleaving_on_disk(acts in acts(), steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        block_on(play(embedded(&dir), acts, steps));
    }
}

/// One schedule for each of the races that have a name, on both stores.
#[test]
fn the_races_that_have_a_name() {
    let proven = [Act::Respond(0), Act::Respond(1), Act::Succeed(0), Act::Succeed(1)];
    let races: [(&str, &[Act]); 6] = [
        (
            "two finalizes",
            &[Act::Finalize(0), Act::Finalize(1), Act::Issue(false), Act::Issue(false)],
        ),
        (
            "a response during deactivation",
            &[Act::DeactivateAuthz(0), Act::Respond(0), Act::Succeed(0)],
        ),
        ("deactivation of the proof during finalize", &[Act::Finalize(0), Act::DeactivateAuthz(0)]),
        ("key rollover during an order", &[Act::Finalize(0), Act::ChangeKey(2), Act::Issue(false)]),
        (
            "deactivation during issuance",
            &[Act::Finalize(0), Act::Issue(false), Act::DeactivateAccount, Act::CancelOrder],
        ),
        ("the sweep during finalize", &[Act::Finalize(0), Act::Sweep, Act::Issue(false)]),
    ];
    for (what, race) in races {
        // Both orders of the two steps of each, one inside the other and one after the other.
        let count = proven.len() + race.len();
        let prove = (0..proven.len()).flat_map(|actor| [(actor, false, 0); 2]);
        for rotation in 0..race.len() {
            for nested in [false, true] {
                let actor = |n: usize| proven.len() + (n + rotation) % race.len();
                let racing: Vec<_> = if nested {
                    (0..2).flat_map(|_| (0..race.len()).map(actor)).collect()
                } else {
                    (0..race.len()).flat_map(|n| [actor(n); 2]).collect()
                };
                let steps: Vec<_> =
                    prove.clone().chain(racing.into_iter().map(|n| (n, false, 0))).collect();
                let acts: Vec<Act> = proven.iter().chain(race).copied().collect();
                assert_eq!(acts.len(), count, "{what}");
                block_on(play(Box::new(Memory::new()), acts.clone(), steps.clone()));
                let dir = tempfile::tempdir().unwrap();
                block_on(play(embedded(&dir), acts, steps));
            }
        }
    }
}

/// The judge itself: without the versions that a decision rested on, the same schedules end in a finalize without a
/// proof. A test that cannot fail shows nothing.
#[test]
#[should_panic(expected = "finalized without a proof")]
fn a_finalize_that_does_not_hold_its_proofs_is_found() {
    block_on(async {
        let mut world = World::new(Box::new(Memory::new())).await;
        for act in [Act::Respond(0), Act::Respond(1), Act::Succeed(0), Act::Succeed(1)] {
            let loaded = world.load(act).await;
            let changes = world.decide(act, loaded).unwrap();
            world.commit(changes).await.unwrap();
        }
        let early = world.load(Act::Finalize(0)).await;
        let loaded = world.load(Act::DeactivateAuthz(0)).await;
        let changes = world.decide(Act::DeactivateAuthz(0), loaded).unwrap();
        world.commit(changes).await.unwrap();
        let mut changes = world.decide(Act::Finalize(0), early).unwrap();
        changes.retain(|change| !matches!(change, Change::Holds(..)));
        world.commit(changes).await.unwrap();
    });
}
