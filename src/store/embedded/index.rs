//! The one index table: every key begins with an octet that says which index it belongs to. Which keys
//! a fact has follows from the fact alone, so an update removes the old fact's and inserts the new one's.

use crate::acme::Identifier;
use crate::acme::account::Account;
use crate::acme::authz::{Authorization, AuthzStatus};
use crate::acme::jws::Thumbprint;
use crate::acme::name_set::NameSet;
use crate::acme::order::{Order, Replaced};
use crate::id::{AccountId, AuthzId, OrderId, Timestamp};

/// A key of the index table. Those of a range end with the id they lead to.
pub(super) type Key = Vec<u8>;

/// Index keys with their values.
pub(super) type Entries = Vec<(Key, Vec<u8>)>;

/// Account by thumbprint; the value is its id. Stored: never reuse an octet.
const ACCOUNT_KEY: u8 = 1;
/// An account's orders by creation.
const ORDER_OF: u8 = 2;
/// Orders that are processing.
const PROCESSING: u8 = 3;
/// Authorizations that are validating.
const VALIDATING: u8 = 4;
/// Orders by their end; those that are processing have none.
const ORDER_END: u8 = 5;
/// Authorizations by their expiry.
const AUTHZ_EXPIRY: u8 = 6;
/// The orders that name an authorization.
const NAMED_BY: u8 = 7;
/// Valid authorizations by account and name, the one that expires last first.
const VALID_FOR: u8 = 8;
/// Pending authorizations likewise.
const PENDING_FOR: u8 = 9;
/// Which order replaces a certificate, by the certificate's end.
const REPLACED_UNTIL: u8 = 10;

/// When names were last certified, by name set; outlives the order it comes from.
const HELD: u8 = 11;

/// A fact with index keys.
pub(super) trait Indexed {
    /// Each key with its value.
    fn keys(&self) -> Entries;
}

impl Indexed for Account {
    fn keys(&self) -> Entries {
        vec![(account_key(self.key.thumbprint()), self.id.0.to_vec())]
    }
}

impl Indexed for Order {
    fn keys(&self) -> Entries {
        let mut keys = vec![order_of(self.account, self.created, self.id)];
        if self.is_processing() {
            keys.push(key(PROCESSING, &[&self.id.0]));
        }
        if let Some(ends) = self.ends() {
            keys.push(key(ORDER_END, &[&instant(ends), &self.id.0]));
        }
        keys.extend(self.authorizations.iter().map(|authz| key(NAMED_BY, &[&authz.0, &self.id.0])));
        keys.into_iter().map(|key| (key, Vec::new())).collect()
    }
}

impl Indexed for Authorization {
    fn keys(&self) -> Entries {
        let mut keys = vec![key(AUTHZ_EXPIRY, &[&instant(self.expires), &self.id.0])];
        if self.is_validating() {
            keys.push(key(VALIDATING, &[&self.id.0]));
        }
        // Whether it expired meanwhile is for the reader's clock to say.
        let standing = Standing { wildcard: self.wildcard, subdomains: self.subdomains };
        let prefix = match self.status(Timestamp(0)) {
            AuthzStatus::Valid => Some(valid_for(self.account, &self.identifier, standing)),
            AuthzStatus::Pending => Some(pending_for(self.account, &self.identifier, standing)),
            _ => None,
        };
        if let Some(mut key) = prefix {
            key.extend(instant(Timestamp(u64::MAX - self.expires.0)));
            key.extend(self.id.0);
            keys.push(key);
        }
        keys.into_iter().map(|key| (key, Vec::new())).collect()
    }
}

impl Indexed for Replaced {
    fn keys(&self) -> Entries {
        let until = key(REPLACED_UNTIL, &[&instant(self.until), self.serial.octets()]);
        vec![(until, Vec::new())]
    }
}

/// What an authorization stands for beside the name itself.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) wildcard: bool,
    pub(super) subdomains: bool,
}

pub(super) fn account_key(thumbprint: Thumbprint) -> Key {
    key(ACCOUNT_KEY, &[&thumbprint.0])
}

pub(super) fn order_of(account: AccountId, created: Timestamp, order: OrderId) -> Key {
    key(ORDER_OF, &[&account.0, &instant(created), &order.0])
}

/// What all of an account's `order_of` begin with.
pub(super) fn orders_of(account: AccountId) -> Key {
    key(ORDER_OF, &[&account.0])
}

pub(super) fn processing() -> Key {
    key(PROCESSING, &[])
}

pub(super) fn validating() -> Key {
    key(VALIDATING, &[])
}

pub(super) fn order_ends() -> Key {
    key(ORDER_END, &[])
}

/// Where the orders that end at `before` or later begin.
pub(super) fn order_ends_at(before: Timestamp) -> Key {
    key(ORDER_END, &[&instant(before)])
}

pub(super) fn authz_expiries() -> Key {
    key(AUTHZ_EXPIRY, &[])
}

/// Where the authorizations that expire at `before` or later begin.
pub(super) fn authz_expires_at(before: Timestamp) -> Key {
    key(AUTHZ_EXPIRY, &[&instant(before)])
}

/// What the keys of all orders that name an authorization begin with.
pub(super) fn named_by(authz: AuthzId) -> Key {
    key(NAMED_BY, &[&authz.0])
}

/// What the keys of valid authorizations for a name begin with.
pub(super) fn valid_for(account: AccountId, identifier: &Identifier, standing: Standing) -> Key {
    made_for(VALID_FOR, account, identifier, standing)
}

/// What the keys of pending authorizations for a name begin with.
pub(super) fn pending_for(account: AccountId, identifier: &Identifier, standing: Standing) -> Key {
    made_for(PENDING_FOR, account, identifier, standing)
}

/// No name contains the zero that ends it.
fn made_for(index: u8, account: AccountId, identifier: &Identifier, standing: Standing) -> Key {
    let value = identifier.value();
    let kind = identifier.kind().as_bytes();
    let flags = u8::from(standing.wildcard) | u8::from(standing.subdomains) << 1;
    key(index, &[&account.0, &[flags], kind, b":", value.as_bytes(), &[0]])
}

pub(super) fn replaced_untils() -> Key {
    key(REPLACED_UNTIL, &[])
}

/// Where the certificates that end at `before` or later begin.
pub(super) fn replaced_until(before: Timestamp) -> Key {
    key(REPLACED_UNTIL, &[&instant(before)])
}

pub(super) fn held(names: NameSet) -> Key {
    key(HELD, &[&names.0])
}

/// What the keys of all name sets begin with.
pub(super) fn all_held() -> Key {
    key(HELD, &[])
}

/// An order's mark on its name set, if it has its certificate.
pub(super) fn mark(order: &Order) -> Option<(Key, [u8; 8])> {
    Some((held(NameSet::of(&order.identifiers)), instant(order.issued()?)))
}

/// The instant that a value is.
pub(super) fn instant_of(value: &[u8]) -> Option<Timestamp> {
    Some(Timestamp(u64::from_be_bytes(value.try_into().ok()?)))
}

/// The id that a key ends with.
pub(super) fn id_of(key: &[u8]) -> Option<[u8; 16]> {
    key.last_chunk().copied()
}

/// The first key that does not begin with `prefix`; index octets stay far below 0xff.
pub(super) fn end_of(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn key(index: u8, parts: &[&[u8]]) -> Key {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(index);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// Big endian, so that keys sort by time.
fn instant(at: Timestamp) -> [u8; 8] {
    at.0.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_prefixes_do() {
        assert_eq!(end_of(&[2, 5]), [2, 6]);
        assert_eq!(end_of(&[2, 0xff, 0xff]), [3]);
        let name = |text| Identifier::parse("dns", text).unwrap();
        let account = AccountId([1; 16]);
        let plain = Standing { wildcard: false, subdomains: false };
        let prefix = valid_for(account, &name("a.lan"), plain);
        assert!(!valid_for(account, &name("a.lan.b"), plain).starts_with(&prefix));
        for other in [
            Standing { wildcard: true, ..plain },
            Standing { subdomains: true, ..plain },
            Standing { wildcard: true, subdomains: true },
        ] {
            assert!(!valid_for(account, &name("a.lan"), other).starts_with(&prefix));
        }
        assert!(!pending_for(account, &name("a.lan"), plain).starts_with(&prefix));
    }
}
