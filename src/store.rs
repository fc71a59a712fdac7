//! The state of the ACME side: accounts, orders, authorizations. One trait, held by one contract
//! test against every implementation.
//!
//! The pattern: load facts with their versions, decide purely, `commit` the changed facts with the
//! versions the decision was based on. A conflict changes nothing; load and decide again.

#[cfg(test)]
mod contract;
pub mod embedded;
pub mod memory;

use std::time::Duration;

use crate::acme::Identifier;
use crate::acme::account::Account;
use crate::acme::authz::Authorization;
use crate::acme::jws::Thumbprint;
use crate::acme::name_set::NameSet;
use crate::acme::order::{Order, Replaced};
use crate::env::BoxFuture;
use crate::id::{AccountId, AuthzId, OrderId, Serial, Timestamp};

/// The version of a fact: 0 says it does not exist; each commit of it adds one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version(pub u64);

impl Version {
    /// What a creation expects to find.
    pub const ABSENT: Self = Self(0);
}

/// One change: the fact as it shall be, and the version it replaces.
#[derive(Clone, Debug)]
pub enum Change {
    Account(Account, Version),
    Order(Order, Version),
    Authorization(Authorization, Version),
    /// No change: the authorization still has the version that the decision was based on.
    Holds(AuthzId, Version),
    Replaced(Replaced, Version),
}

/// Why facts could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// A fact has another version, or its key or thumbprint exists already: load and decide again.
    Conflict,
    /// Nothing was changed; trying later may help (queue full, disk full, shutting down).
    Busy,
    /// What is stored is unknown: stop serving. The text is for the operator.
    Halt(String),
}

/// How much longer than an order it is remembered that its names were certified.
const HELD: Duration = Duration::from_secs(365 * 86_400);

/// Where the facts live.
pub trait Store: Send + Sync {
    fn account(
        &self,
        id: AccountId,
    ) -> BoxFuture<'_, Result<Option<(Account, Version)>, StoreError>>;
    fn account_by_key(
        &self,
        key: Thumbprint,
    ) -> BoxFuture<'_, Result<Option<(Account, Version)>, StoreError>>;
    /// The order with all its authorizations, in its order, read in one snapshot.
    fn order(&self, id: OrderId) -> BoxFuture<'_, Result<Option<OrderFacts>, StoreError>>;
    /// One authorization.
    fn authorization(
        &self,
        id: AuthzId,
    ) -> BoxFuture<'_, Result<Option<(Authorization, Version)>, StoreError>>;
    /// Orders of an account that were created after `after`, oldest first, at most `limit`; from the
    /// beginning if `after` is `None` or was swept.
    fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>>;
    /// For each identifier as ordered (`*.` included) the account's valid authorizations, of those made for the
    /// same name the one that expires last: for the name itself, and for names above it that stand for the names
    /// below them (RFC 9444). None twice; they may have expired meanwhile.
    fn valid_authorizations<'a>(
        &'a self,
        account: AccountId,
        identifiers: &'a [Identifier],
    ) -> BoxFuture<'a, Result<Vec<Authorization>, StoreError>>;
    /// The account's pending authorization for an identifier, `*.` included, that lapses last; it may have
    /// lapsed meanwhile.
    fn pending_authorization<'a>(
        &'a self,
        account: AccountId,
        identifier: &'a Identifier,
        subdomains: bool,
    ) -> BoxFuture<'a, Result<Option<Authorization>, StoreError>>;
    /// Which order replaces the certificate of this serial.
    fn replaced(
        &self,
        serial: Serial,
    ) -> BoxFuture<'_, Result<Option<(Replaced, Version)>, StoreError>>;
    /// Finalized orders without an outcome: to be asked for again after a restart.
    fn processing(&self) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>>;
    /// Authorizations with a challenge that is processing: to be tried again after a restart.
    fn validating(&self) -> BoxFuture<'_, Result<Vec<AuthzId>, StoreError>>;
    /// When a certificate was last issued for exactly these names. Remembered for a year longer than its order.
    fn held(&self, names: NameSet) -> BoxFuture<'_, Result<Option<Timestamp>, StoreError>>;
    /// All changes or none; durable when it returns `Ok`. A fact named twice, or an account whose key
    /// another account has, is a conflict. Dropping the future does not take a commit back.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Removes orders that ended or lapsed before `before`, and authorizations that expired before it and
    /// that no order names any more, and which order replaces what certificates that ended before it; at most
    /// `limit` orders, lone authorizations and replacements, and returns how many. An order that is processing is never removed, nor an authorization that may still be reused.
    fn sweep(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;
    /// Octets that the facts take on disk, and octets free there; `None` where they are on none.
    fn disk(&self) -> Option<(u64, u64)> {
        None
    }
    /// Whether changes are answered `Busy` because the disk is full.
    fn is_full(&self) -> bool {
        false
    }
}

/// A future that was ready from the start: facts are read where they are asked for.
fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

/// An order and what its status is computed from.
#[derive(Clone, Debug)]
pub struct OrderFacts {
    pub order: Order,
    pub version: Version,
    pub authorizations: Vec<(Authorization, Version)>,
}
