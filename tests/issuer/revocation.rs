//! Revocation (RFC 8555 section 7.6) at the issuer: the three routes, that the record comes before the CRL, and that
//! a process that dies between leaves nothing undone. What a taken-over web process makes of it: `petitioner`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use chancery::acme::challenge::ChallengeType;
use chancery::acme::problem::ProblemType;
use chancery::env::simulated::{CrashMode, Fault};
use chancery::hsm::Class;
use chancery::id::{LeafIndex, Timestamp};
use chancery::ipc::AskError;
use chancery::ipc::admin::certificate::{
    CertificateQuestion, Detail, Page, Place, Selection, State,
};
use chancery::ipc::admin::{AdminAnswer, AdminQuestion, AdminRefusal, Operator};
use chancery::ipc::message::{Answer, Question, Revoke, Validation};
use chancery::log::Record;
use chancery::log::record::{Actor, RevokedV1};
use chancery::pki::certificate::Certificate;
use chancery::pki::name::Identifier;

use crate::house::{Account, Csr, House, NOW, Office, eventually};
use crate::{HOUR, certificate, refused};

fn ask(office: &Office, revoke: Revoke) -> Result<Answer, AskError> {
    office.ask(Question::Revoke(Box::new(revoke)))
}

/// The record of a revocation, and its leaf.
pub(crate) fn record(office: &Office, certificate: &Certificate) -> Option<(LeafIndex, RevokedV1)> {
    let revocation = office.log.index().revocation(certificate.serial().unwrap()).unwrap()?;
    match office.log.read(revocation.leaf) {
        Ok(Record::RevokedV1(record)) => Some((revocation.leaf, record)),
        other => panic!("{other:?}"),
    }
}

fn is_listed(office: &Office, certificate: &Certificate) -> bool {
    let serial = certificate.serial().unwrap();
    office.crl_of(certificate).is_some_and(|crl| crl.revoked.iter().any(|e| e.serial == serial))
}

pub(crate) fn claims(names: &[&str]) -> Vec<Validation> {
    let claim = |name: &&str| Validation {
        identifier: match name.parse() {
            Ok(address) => Identifier::address(address).unwrap(),
            Err(_) => Identifier::parse("dns", name).unwrap(),
        },
        method: ChallengeType::Http01,
        at: NOW,
    };
    names.iter().map(claim).collect()
}

pub(crate) fn issue(office: &Office, account: &Account, order: u8, names: &[&str]) -> Certificate {
    certificate(office.finalize(account, order, &Csr::names(names))).0
}

/// No CRL is signed whose record is not durable, and none lists a serial whose revocation is not.
#[test]
fn promise_2_a_revocation_is_recorded_before_its_crl_is_signed() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let device = issue(&running, &account, 1, &["dev.lan"]);
    assert!(!is_listed(&running, &device));
    let signed = Arc::new(AtomicUsize::new(0));
    let (log, seen) = (running.log.clone(), Arc::clone(&signed));
    let octets = *device.serial().unwrap().octets();
    house.issuing_key.when_asked(move |class, message| {
        if class != Class::Crl {
            return;
        }
        let sha256 = digest(&SHA256, message);
        let size = log.head().size;
        let logged = (0..size).rev().any(|leaf| {
            matches!(log.read(LeafIndex(leaf)), Ok(Record::CrlV2(r)) if r.tbs_sha256 == sha256.as_ref())
        });
        assert!(logged, "a CRL is signed that is not in the log");
        if message.windows(16).any(|w| w == octets) {
            let serial = chancery::id::Serial::from_octets(&octets).unwrap();
            assert!(log.index().revocation(serial).unwrap().is_some());
            seen.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert_eq!(ask(&running, account.revoke(device.der(), Some(4))), Ok(Answer::Revoked));
    let (leaf, revoked) = record(&running, &device).unwrap();
    eventually(|| is_listed(&running, &device));
    assert_eq!(signed.load(Ordering::SeqCst), 1, "one revocation, one CRL");
    assert_eq!((revoked.reason, revoked.blocked_key), (Some(4), None));
    assert_eq!(revoked.crl.as_deref(), device.crl_url());
    assert!(matches!(revoked.by, Actor::Account { account: by, .. } if by == account.id));
    let crl = running.crl_of(&device).unwrap();
    assert_eq!(crl.revoked[0].reason, Some(4));
    assert!((0..leaf.0).all(|l| !matches!(
        running.log.read(LeafIndex(l)),
        Ok(Record::CrlV2(r)) if r.number == crl.number
    )));
    // Again, by whoever may: it is done already.
    assert_eq!(
        refused(ask(&running, account.revoke(device.der(), None))),
        ProblemType::AlreadyRevoked
    );
    // The rest of the box's certificates have other CRLs, or are not in this one.
    assert_eq!(crl.revoked.len(), 1);
}

#[test]
fn a_reason_that_was_not_given_is_not_written_and_foreign_ones_are_refused() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let one = issue(&running, &account, 1, &["one.lan"]);
    let two = issue(&running, &account, 2, &["two.lan"]);
    for reason in [-1, 2, 6, 7, 8, 10, 11, 256, i64::MAX] {
        let answer = ask(&running, account.revoke(one.der(), Some(reason)));
        assert_eq!(refused(answer), ProblemType::BadRevocationReason, "{reason}");
    }
    assert!(record(&running, &one).is_none());
    assert_eq!(ask(&running, account.revoke(one.der(), None)), Ok(Answer::Revoked));
    assert_eq!(ask(&running, account.revoke(two.der(), Some(0))), Ok(Answer::Revoked));
    eventually(|| is_listed(&running, &one) && is_listed(&running, &two));
    for device in [&one, &two] {
        let crl = running.crl_of(device).unwrap();
        assert!(crl.revoked.iter().all(|entry| entry.reason.is_none()), "{crl:?}");
    }
    assert_eq!(record(&running, &one).unwrap().1.reason, None);
    assert_eq!(record(&running, &two).unwrap().1.reason, Some(0));
}

#[test]
fn the_holder_of_the_key_revokes_and_a_compromised_key_is_barred_for_good() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let key = rcgen::KeyPair::generate().unwrap();
    let (device, ..) = certificate(running.finalize(&account, 1, &Csr::of_key(&["dev.lan"], &key)));
    let (spare, ..) = certificate(running.finalize(&account, 2, &Csr::of_key(&["b.lan"], &key)));
    let holder = Account::of_key(&key);
    // Another's key proves nothing, nor does the account's as jwk.
    for other in [&Account::unregistered(), &account] {
        let answer = ask(&running, other.revoke_by_jwk(device.der(), Some(1)));
        assert_eq!(refused(answer), ProblemType::Unauthorized);
    }
    assert_eq!(ask(&running, holder.revoke_by_jwk(device.der(), Some(1))), Ok(Answer::Revoked));
    let (_, revoked) = record(&running, &device).unwrap();
    assert!(matches!(revoked.by, Actor::Key { .. }));
    let spki: [u8; 32] = digest(&SHA256, device.public_key().spki()).as_ref().try_into().unwrap();
    assert_eq!(revoked.blocked_key, Some(spki));
    let barred = |running: &Office, order| {
        let csr = Csr::of_key(&["dev.lan"], &key);
        assert_eq!(refused(running.finalize(&account, order, &csr)), ProblemType::BadCsr);
        let registration = running.ask(Question::Register { jws: holder.new_account(false) });
        assert_eq!(refused(registration), ProblemType::BadPublicKey);
    };
    barred(&running, 3);
    // What else it certifies can still be revoked with it.
    assert_eq!(ask(&running, holder.revoke_by_jwk(spare.der(), Some(1))), Ok(Answer::Revoked));
    drop(running);
    barred(&house.start(), 4);
}

/// Of an account's word alone nothing follows for a key that it may not have.
#[test]
fn an_account_that_says_compromised_bars_no_key() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = Csr::of_key(&["dev.lan"], &key);
    let (device, ..) = certificate(running.finalize(&account, 1, &csr));
    assert_eq!(ask(&running, account.revoke(device.der(), Some(1))), Ok(Answer::Revoked));
    assert_eq!(record(&running, &device).unwrap().1.blocked_key, None);
    certificate(running.finalize(&account, 2, &csr));
}

#[test]
fn an_account_that_controls_all_the_names_now_revokes_and_the_claim_is_recorded() {
    let house = House::new();
    let running = house.start();
    let (former, present) = (running.register(), running.register());
    let device = issue(&running, &former, 1, &["a.lan", "b.lan"]);
    for some in [&[][..], &["a.lan"], &["a.lan", "c.lan"]] {
        let mut revoke = present.revoke(device.der(), None);
        revoke.validations = claims(some);
        assert_eq!(refused(ask(&running, revoke)), ProblemType::Unauthorized, "{some:?}");
    }
    let mut revoke = present.revoke(device.der(), None);
    revoke.validations = claims(&["b.lan", "c.lan", "a.lan"]);
    assert_eq!(ask(&running, revoke), Ok(Answer::Revoked));
    let (_, revoked) = record(&running, &device).unwrap();
    let names: Vec<_> = revoked.validations.iter().map(|v| v.identifier.as_str()).collect();
    assert_eq!(names, ["a.lan", "b.lan"]);
    assert!(matches!(revoked.by, Actor::Account { account, .. } if account == present.id));
}

/// The record is durable, the token is away, and the process dies.
#[test]
fn a_crl_that_was_never_signed_is_published_after_a_restart() {
    let house = House::new();
    let running = house.start();
    let account = running.register();
    let device = issue(&running, &account, 1, &["dev.lan"]);
    house.issuing_key.refuse.store(true, Ordering::SeqCst);
    assert_eq!(ask(&running, account.revoke(device.der(), None)), Ok(Answer::Revoked));
    assert!(!is_listed(&running, &device));
    drop(running);
    let lost = house.disk.clone();
    house.issuing_key.refuse.store(false, Ordering::SeqCst);
    let house = house.on(lost);
    let running = house.start();
    eventually(|| is_listed(&running, &device));
    // And in the complete one, which nobody named.
    eventually(|| {
        running.crl().is_some_and(|crl| {
            crl.shard.is_none() && crl.revoked.iter().any(|e| e.serial == device.serial().unwrap())
        })
    });
}

/// The machine stops after each effect of a revocation. What was answered is in the log and gets into its CRL; what was
/// not is either revoked whole or not at all, and is so for good when it is asked for again.
#[test]
fn a_crash_around_a_revocation_leaves_it_whole_or_undone() {
    let (mut disturbed, mut answered_and_lost) = (0, 0);
    for effect in 0..10 {
        for mode in [CrashMode::Lost, CrashMode::Kept, CrashMode::Torn] {
            let house = House::new();
            let running = house.start();
            let account = running.register();
            let device = issue(&running, &account, 1, &["dev.lan"]);
            let revoke = || Question::Revoke(Box::new(account.revoke(device.der(), Some(4))));
            // Just after a start the checkpoint that covers the certificate may have to be signed again.
            let again = |running: &Office| {
                loop {
                    match running.ask(revoke()) {
                        Err(AskError::Retry(wait)) => std::thread::park_timeout(wait),
                        answer => return answer,
                    }
                }
            };
            house.disk.strike(house.disk.effects() + effect, Fault::Stop);
            let answered = running.ask_within(revoke(), Duration::from_millis(400));
            // The CRL is on its way, or struck too.
            for _ in 0..20 {
                if house.disk.is_stopped() || is_listed(&running, &device) {
                    break;
                }
                std::thread::park_timeout(Duration::from_millis(10));
            }
            disturbed += usize::from(house.disk.is_stopped());
            let after = house.disk.crash(mode, effect);
            drop(running);
            let house = house.on(after);
            let running = house.start();
            let what = format!("effect {effect}, {mode:?}, answered {answered:?}");
            let recorded = record(&running, &device).is_some();
            if answered == Ok(Answer::Revoked) {
                assert!(recorded, "{what}");
                answered_and_lost += 1;
            }
            if recorded {
                // By itself, without anybody asking.
                eventually(|| is_listed(&running, &device));
                assert_eq!(refused(again(&running)), ProblemType::AlreadyRevoked, "{what}");
            } else {
                assert!(!is_listed(&running, &device), "{what}");
                assert_eq!(again(&running), Ok(Answer::Revoked), "{what}");
                eventually(|| is_listed(&running, &device));
            }
        }
    }
    assert!(disturbed > 15, "only {disturbed} revocations were disturbed");
    assert!(answered_and_lost > 5, "only {answered_and_lost} were answered before the stop");
}

/// Another number of shards is for certificates made from then on; what the others name lives as long as they.
#[test]
fn certificates_keep_the_crl_they_name_until_one_crl_past_their_end() {
    let mut house = House::new();
    house.settings.clock_jump_hours = 24 * 366;
    house.settings.crl_shards = 4;
    let running = house.start();
    let account = running.register();
    let device = issue(&running, &account, 1, &["dev.lan"]);
    assert!(device.crl_url().unwrap().starts_with("http://ca.lan/issuing-4/"));
    drop(running);
    house.settings.crl_shards = 3;
    let running = house.start();
    let newer = issue(&running, &account, 2, &["newer.lan"]);
    assert!(newer.crl_url().unwrap().starts_with("http://ca.lan/issuing-3/"));
    assert_eq!(ask(&running, account.revoke(device.der(), None)), Ok(Answer::Revoked));
    eventually(|| is_listed(&running, &device));
    let first = running.crl_of(&device).unwrap();
    // Ninety-one days on it has expired; the next CRL lists it once more, the one after is not made.
    house.clock.set_wall(NOW.plus(91 * 24 * HOUR));
    running.running.nudge();
    eventually(|| running.crl_of(&device).is_some_and(|crl| crl.number > first.number));
    assert!(is_listed(&running, &device), "removed before a CRL past its end listed it");
    house.clock.set_wall(NOW.plus(92 * 24 * HOUR));
    running.running.nudge();
    eventually(|| running.crl_of(&device).is_none());
    assert!(running.crl_of(&newer).is_some(), "a shard of the present number");
}

#[test]
fn the_operator_lists_shows_and_revokes_and_is_named_in_the_record() {
    let house = House::new();
    let running = house.start();
    let (one, two) = (running.register(), running.register());
    let a = issue(&running, &one, 1, &["a.lan", "www.a.lan"]);
    let b = issue(&running, &two, 2, &["b.lan"]);
    let ada = Operator { uid: 1000, user: "ada".into() };
    let admin = running.running.admin();
    let list = |selection: Selection| match admin
        .answer(&ada, AdminQuestion::Certificate(CertificateQuestion::List(selection)))
    {
        Ok(AdminAnswer::Page(Page { lines, next: None })) => {
            lines.into_iter().map(|line| line.serial).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let (a_serial, b_serial) = (a.serial().unwrap(), b.serial().unwrap());
    let all = list(Selection::default());
    assert!(all.len() == 3 && all.contains(&a_serial) && all.contains(&b_serial), "{all:?}");
    let named = |name: &str| list(Selection { name: Some(name.into()), ..Selection::default() });
    assert_eq!(named("www.A.lan"), [a_serial]);
    assert_eq!(named("*.a.lan"), [a_serial]);
    assert_eq!(named("*.b.lan"), []);
    assert_eq!(list(Selection { account: Some(two.id), ..Selection::default() }), [b_serial]);
    assert_eq!(list(Selection { until: Some(NOW.plus(HOUR)), ..Selection::default() }), []);
    assert_eq!(list(Selection { from: Timestamp(u64::MAX), ..Selection::default() }), []);
    assert_eq!(list(Selection { revoked: true, ..Selection::default() }), []);
    let intent = running.log.index().certificate(a_serial).unwrap().unwrap().intent;
    let place = Place { name: String::new(), end: a.validity().1, intent };
    let later = Selection { after: Some(place), ..Selection::default() };
    assert!(!list(later).contains(&a_serial));

    let ask = |question| admin.answer(&ada, AdminQuestion::Certificate(question));
    let revoke = CertificateQuestion::Revoke { serial: a_serial, reason: Some(5) };
    let Ok(AdminAnswer::Certificate(detail)) = ask(revoke.clone()) else { panic!("not revoked") };
    let Detail { line, crl, der, .. } = *detail;
    assert!(matches!(line.state, State::Revoked { reason: Some(5), .. }));
    assert_eq!((crl.as_deref(), der.as_deref()), (a.crl_url(), Some(a.der())));
    let (_, revoked) = record(&running, &a).unwrap();
    assert_eq!(revoked.by, Actor::Operator { uid: 1000, user: "ada".into() });
    eventually(|| is_listed(&running, &a));
    assert_eq!(list(Selection { revoked: true, ..Selection::default() }), [a_serial]);
    assert!(
        matches!(ask(revoke), Err(AdminRefusal::Refused(text)) if text.starts_with("CHY-CERT-REVOKED"))
    );
    let unknown = chancery::id::Serial::from_random([9; 16]);
    for question in [
        CertificateQuestion::Show(unknown),
        CertificateQuestion::Revoke { serial: unknown, reason: None },
    ] {
        let answer = ask(question);
        assert!(
            matches!(answer, Err(AdminRefusal::Refused(text)) if text.starts_with("CHY-CERT-UNKNOWN"))
        );
    }
}
