//! Revocations that nobody who may asked for, one by one and by the hundred.

use chancery::acme::problem::ProblemType::{self, *};
use chancery::hsm::Class;
use chancery::id::{AccountId, OrderId};
use chancery::ipc::AskError;
use chancery::ipc::message::{Answer, Question, Revoke};
use chancery::pki::certificate::Certificate;

use super::Takeover;
use crate::house::{Account, Csr, House};
use crate::revocation::{claims, issue, record};
use crate::{HOUR, certificate};

fn by(who: &Account, what: &Certificate) -> Revoke {
    who.revoke(what.der(), None)
}

fn question(revoke: Revoke) -> Question {
    Question::Revoke(Box::new(revoke))
}

fn claiming(names: &[&str], revoke: Revoke) -> Revoke {
    Revoke { validations: claims(names), ..revoke }
}

#[test]
fn promise_4_what_is_forged_foreign_or_unknown_revokes_nothing() {
    let mut takeover = Takeover::of(House::new());
    let office = &takeover.running;
    let account = office.register();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = Csr::of_key(&["dev.lan", "b.lan"], &key);
    let (device, ..) = certificate(office.finalize(&account, 1, &csr));
    let other = issue(office, &account, 2, &["other.lan"]);
    let done = issue(office, &account, 3, &["done.lan"]);
    assert_eq!(office.ask(question(by(&account, &done))), Ok(Answer::Revoked));
    let (stranger, ended) = (office.register(), office.register());
    assert!(office.ask(ended.deactivation()).is_ok());
    let own = office.tls_chain().remove(0);
    takeover.begin();
    let parse = |jws: &[u8]| serde_json::from_slice::<serde_json::Value>(jws).unwrap();
    let forged = |signed: &Revoke, carried: &Revoke, part: &str| {
        let mut jws = parse(&signed.jws);
        jws[part] = parse(&carried.jws)[part].clone();
        jws.to_string().into_bytes()
    };
    let raw = |jws: Vec<u8>| Revoke { jws, validations: claims(&["dev.lan", "b.lan"]) };
    let both: &[&str] = &["dev.lan", "b.lan"];
    // The same serial and names, but not the bytes that were issued.
    let tampered = {
        let mut der = device.der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let holder = Account::of_key(&key);
    let finalize = account.finalize_jws(OrderId([9; 16]), &Csr::names(&["dev.lan"]));
    let (me, owner) = (Some(stranger.id), Some(account.id));
    let attempts: Vec<(&str, Revoke, ProblemType, Option<AccountId>)> = vec![
        ("no request, only claims", raw(Vec::new()), Malformed, None),
        ("an empty request, and claims", raw(b"{}".to_vec()), Malformed, None),
        ("too much", raw(vec![b'{'; 100_000]), Malformed, None),
        ("a request for a certificate", raw(finalize), Unauthorized, None),
        (
            "a payload of another request",
            raw(forged(&by(&account, &other), &by(&account, &device), "payload")),
            Unauthorized,
            None,
        ),
        (
            "a header of another request",
            raw(forged(&by(&stranger, &device), &by(&account, &device), "protected")),
            Unauthorized,
            None,
        ),
        (
            "a signature of another request",
            raw(forged(&by(&account, &device), &by(&account, &other), "signature")),
            Unauthorized,
            None,
        ),
        (
            "the account, but not its key",
            by(&account.with_key_of(&stranger), &device),
            Unauthorized,
            None,
        ),
        ("a stranger's word", by(&stranger, &device), Unauthorized, me),
        (
            "a stranger and one name",
            claiming(&["dev.lan"], by(&stranger, &device)),
            Unauthorized,
            me,
        ),
        (
            "a stranger and other names",
            claiming(&["dev.lan", "c.lan", "lan"], by(&stranger, &device)),
            Unauthorized,
            me,
        ),
        (
            "nobody's word",
            claiming(both, by(&Account::unregistered(), &device)),
            AccountDoesNotExist,
            None,
        ),
        ("an account that has ended", claiming(both, by(&ended, &device)), Unauthorized, None),
        (
            "a request for another resource",
            account.revoke_at("https://ca.lan/acme/new-order", device.der()),
            Unauthorized,
            None,
        ),
        (
            "a request to another server",
            account.revoke_at("https://ca.other/acme/revoke-cert", device.der()),
            Unauthorized,
            None,
        ),
        (
            "a key that is no certificate's",
            stranger.revoke_by_jwk(device.der(), None),
            Unauthorized,
            None,
        ),
        ("the account's key as jwk", account.revoke_by_jwk(device.der(), None), Unauthorized, None),
        (
            "the key of another certificate",
            holder.revoke_by_jwk(other.der(), None),
            Unauthorized,
            None,
        ),
        ("a reason of nobody's", account.revoke(device.der(), Some(2)), BadRevocationReason, owner),
        ("bytes that were not issued", account.revoke(&tampered, None), Malformed, owner),
        ("the issuing certificate", by(&account, &takeover.house.issuing), Malformed, owner),
        ("the root", by(&account, &takeover.house.root), Malformed, owner),
        ("the box's own certificate", by(&account, &own), Unauthorized, owner),
        (
            "the box's own, by claims",
            claiming(&["ca.lan", "10.0.0.1"], by(&account, &own)),
            Unauthorized,
            owner,
        ),
        ("a request that was answered", by(&account, &done), AlreadyRevoked, owner),
    ];
    for (what, attempt, kind, who) in attempts {
        takeover.attempt(what, question(attempt), kind, who);
    }
    // Nor is a revocation anything else.
    let jws = || by(&account, &device).jws;
    takeover.attempt("as a registration", Question::Register { jws: jws() }, Malformed, None);
    takeover.attempt("as an end", Question::Deactivate { jws: jws() }, Unauthorized, None);
    takeover.attempt("as a key change", Question::ChangeKey { jws: jws() }, Unauthorized, None);
    takeover.assert_nothing_came_of_it();
    for certificate in [&device, &other, &own] {
        assert!(record(&takeover.running, certificate).is_none());
    }
    // The control: what the account did sign.
    assert_eq!(takeover.ask(question(by(&account, &device))), Ok(Answer::Revoked));
}

/// A taken-over web process makes accounts as it likes and claims what it likes; it does not revoke a plant.
#[test]
fn promise_4_no_mass_revocation() {
    let mut house = House::new();
    house.settings.revocations_per_account_per_hour = 2;
    house.settings.revocations_of_others_per_hour = 3;
    let mut takeover = Takeover::of(house);
    let account = takeover.running.register();
    let keys: Vec<_> = (0..8).map(|_| rcgen::KeyPair::generate().unwrap()).collect();
    let devices: Vec<Certificate> = (0u8..)
        .zip(&keys)
        .map(|(n, key)| {
            let csr = Csr::of_key(&[&format!("d{n}.lan")], key);
            certificate(takeover.running.finalize(&account, n, &csr)).0
        })
        .collect();
    // A new account for each, and every claim it takes.
    let strangers: Vec<Account> = devices.iter().map(|_| takeover.running.register()).collect();
    takeover.begin();
    let crls = takeover.house.issuing_key.count(Class::Crl);
    for (n, (device, stranger)) in devices.iter().zip(&strangers).enumerate() {
        let revoke = || question(claiming(&[&format!("d{n}.lan")], by(stranger, device)));
        if n < 3 {
            assert_eq!(takeover.ask(revoke()), Ok(Answer::Revoked));
        } else {
            for _ in 0..2 {
                match takeover.attempt("one more", revoke(), RateLimited, Some(stranger.id)) {
                    AskError::Limited(_, wait) => assert!(wait <= HOUR),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    // Three records, and no more CRLs than records.
    assert_eq!(takeover.deeds() - takeover.deeds, 3);
    assert!(takeover.house.issuing_key.count(Class::Crl) - crls <= 3);
    // The account's own requests, every one that it ever signed.
    for (n, device) in devices.iter().enumerate().skip(3) {
        let revoke = question(by(&account, device));
        if n < 5 {
            assert_eq!(takeover.ask(revoke), Ok(Answer::Revoked));
        } else {
            takeover.attempt("one more", revoke, RateLimited, Some(account.id));
        }
    }
    // A key that is its own proof is not held up by what others did.
    for (device, key) in devices.iter().zip(&keys).skip(5) {
        let holder = Account::of_key(key);
        let revoke = question(holder.revoke_by_jwk(device.der(), Some(1)));
        assert_eq!(takeover.ask(revoke), Ok(Answer::Revoked));
    }
}
