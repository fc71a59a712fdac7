//! The stored form: postcard inside one versioned outer enum, append only.
//!
//! A type that changes gets a new variant here and keeps its old shape as a frozen copy, read for ever.

use serde::{Deserialize, Serialize};

use crate::acme::account::{Account, Agreement};
use crate::acme::authz::Authorization;
use crate::acme::jws::{Jwk, Thumbprint};
use crate::acme::order::{Order, Replaced};
use crate::id::{AccountId, Timestamp};

/// What is read. Order is stored: append only.
#[derive(Deserialize)]
enum Stored {
    AccountV1(AccountV1),
    OrderV1(Order),
    AuthorizationV1(Authorization),
    ReplacedV1(Replaced),
    AccountV2(Account),
}

/// What is written: the newest variant of each fact, without a copy. The same order as `Stored`.
#[derive(Serialize)]
enum Writing<'a> {
    #[expect(dead_code, reason = "it holds a place")]
    AccountV1,
    OrderV1(&'a Order),
    AuthorizationV1(&'a Authorization),
    ReplacedV1(&'a Replaced),
    AccountV2(&'a Account),
}

/// Before it was kept which terms an account agreed to.
#[derive(Deserialize)]
struct AccountV1 {
    id: AccountId,
    key: Jwk,
    former_keys: Vec<Thumbprint>,
    contact: Vec<String>,
    terms_agreed: Option<Timestamp>,
    created: Timestamp,
    deactivated: Option<Timestamp>,
    revoked: Option<Timestamp>,
    external_account: Option<String>,
}

impl From<AccountV1> for Account {
    fn from(old: AccountV1) -> Self {
        Self {
            id: old.id,
            key: old.key,
            former_keys: old.former_keys,
            contact: old.contact,
            terms: old.terms_agreed.map(|at| Agreement { at, terms: String::new() }),
            created: old.created,
            deactivated: old.deactivated,
            revoked: old.revoked,
            external_account: old.external_account,
        }
    }
}

/// A fact that has a stored form.
pub(super) trait Fact: Sized {
    /// The stored form.
    fn encode(&self) -> Vec<u8>;
    /// The inverse; `None` unless all the bytes are exactly one fact of this type.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Fact for Account {
    fn encode(&self) -> Vec<u8> {
        write(&Writing::AccountV2(self))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match read(bytes)? {
            Stored::AccountV1(account) => Some(account.into()),
            Stored::AccountV2(account) => Some(account),
            _ => None,
        }
    }
}

impl Fact for Order {
    fn encode(&self) -> Vec<u8> {
        write(&Writing::OrderV1(self))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match read(bytes)? {
            Stored::OrderV1(order) => Some(order),
            _ => None,
        }
    }
}

impl Fact for Authorization {
    fn encode(&self) -> Vec<u8> {
        write(&Writing::AuthorizationV1(self))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match read(bytes)? {
            Stored::AuthorizationV1(authz) => Some(authz),
            _ => None,
        }
    }
}

impl Fact for Replaced {
    fn encode(&self) -> Vec<u8> {
        write(&Writing::ReplacedV1(self))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match read(bytes)? {
            Stored::ReplacedV1(replaced) => Some(replaced),
            _ => None,
        }
    }
}

fn write(fact: &Writing<'_>) -> Vec<u8> {
    postcard::to_stdvec(fact).expect("a Vec takes everything, and no fact has a length unknown")
}

/// postcard would drop what follows a value silently; here nothing may follow.
fn read(bytes: &[u8]) -> Option<Stored> {
    match postcard::take_from_bytes(bytes) {
        Ok((stored, [])) => Some(stored),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::acme::challenge::RetryRule;
    use crate::acme::order::Outcome;
    use crate::acme::problem::{Problem, ProblemType, Subproblem};
    use crate::id::{ChallengeId, Serial, hex};
    use crate::store::contract::{NOW, account, authorization, order};

    /// What this release writes must be read by all that follow: a change here is a new variant.
    #[test]
    fn golden() {
        let mut issued = order(2, 1, &[3]);
        issued.replaces = Some("a.b".into());
        issued.accept(vec![7], NOW);
        issued.settle(Outcome::Issued {
            at: NOW,
            serial: Serial::from_random([9; 16]),
            leaf: 300,
            certificate: vec![0x30, 0],
        });
        let mut failing = authorization(3, 1);
        let hour = Duration::from_secs(3600);
        let rule = RetryRule { attempts: 1, first: hour, longest: hour };
        failing.respond(ChallengeId([3; 16]), Thumbprint([0; 32]), rule, NOW).unwrap();
        let refused = Subproblem::of(ProblemType::Dns, "no", &failing.identifier);
        failing.failed(ChallengeId([3; 16]), Problem::compound(vec![refused]), rule, NOW);
        let written = [hex(&account(1, 1).encode()), hex(&issued.encode()), hex(&failing.encode())];
        assert_eq!(written, GOLDEN);
    }

    /// What earlier releases wrote.
    #[test]
    fn older_forms_are_read() {
        assert_eq!(Account::decode(&octets(ACCOUNT_V1)), Some(account(1, 1)));
    }

    fn octets(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2);
        digits.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
    }

    const ACCOUNT_V1: &str = "00010101010101010101010101010101014f7b22637276223a2245643235353139222c226b7479223a224f4b50222c2278223a22696f6a6a3358514a385a583955747374504c70646373706e436238646c4249623833534941625150623177227d0001166d61696c746f3a6f7073406578616d706c652e6c616e0098e0b584a034000000";

    const GOLDEN: [&str; 3] = [
        "04010101010101010101010101010101014f7b22637276223a2245643235353139222c226b7479223a224f4b50222c2278223a22696f6a6a3358514a385a583955747374504c70646373706e436238646c4249623833534941625150623177227d0001166d61696c746f3a6f7073406578616d706c652e6c616e0098e0b584a034000000",
        "010202020202020202020202020202020201010101010101010101010101010101020005612e6c616e01000a0000010103030303030303030303030303030303067365727665720001989aed87a0340103612e6298e0b584a03498bd9186a0340198e0b584a0340107010098e0b584a03449090909090909090909090909090909ac02023000",
        "0203030303030303030303030303030303010101010101010101010101010101010005612e6c616e000098e0b584a03498bd9186a0340103030303030303030303030303030303001641774d4441774d4441774d4441774d4441774d4441770198e0b584a0344241774d4441774d4441774d4441774d4441774d4441772e41414141414141414141414141414141414141414141414141414141414141414141414141414141414141000198e0b584a0340a026e6f9003010a026e6f0103646e7305612e6c616e00010198e0b584a0340a026e6f9003010a026e6f0103646e7305612e6c616e00000000",
    ];

    #[test]
    fn golden_replaced() {
        let replaced = Replaced {
            serial: Serial::from_random([9; 16]),
            by: crate::id::OrderId([2; 16]),
            until: NOW,
        };
        let bytes = replaced.encode();
        let golden =
            "03490909090909090909090909090909090202020202020202020202020202020298e0b584a034";
        assert_eq!(hex(&bytes), golden);
        assert_eq!(Replaced::decode(&bytes), Some(replaced));
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let bytes = order(2, 1, &[3]).encode();
        assert_eq!(Order::decode(&bytes), Some(order(2, 1, &[3])));
        assert_eq!(Account::decode(&bytes), None);
        assert_eq!(Order::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(Order::decode(&[bytes.as_slice(), &[0]].concat()), None);
        assert_eq!(Order::decode(&[]), None);
        let account_bytes = account(1, 1).encode();
        assert_eq!(Account::decode(&account_bytes), Some(account(1, 1)));
        let authz_bytes = authorization(3, 1).encode();
        assert_eq!(Authorization::decode(&authz_bytes), Some(authorization(3, 1)));
    }
}
