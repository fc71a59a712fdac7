//! The state of the ACME side: accounts, orders, authorizations. One trait, held by one contract
//! test against every implementation.
//!
//! The pattern: load facts with their versions, decide purely, `commit` the changed facts with the
//! versions the decision was based on. A conflict changes nothing; load and decide again.

pub mod embedded;
pub mod memory;

use crate::acme::account::Account;
use crate::acme::authz::Authorization;
use crate::acme::jws::Thumbprint;
use crate::acme::order::Order;
use crate::env::BoxFuture;
use crate::id::{AccountId, AuthzId, OrderId, Timestamp};

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
}

/// Why facts could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// A fact has another version, or its key or thumbprint exists already: load and decide again.
    Conflict,
    /// Nothing was changed; trying later may help (queue full, shutting down).
    Busy,
    /// What is stored is unknown: stop serving. The text is for the operator.
    Halt(String),
}

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
    /// The authorization with the orders it serves that have not expired.
    fn authorization(
        &self,
        id: AuthzId,
    ) -> BoxFuture<'_, Result<Option<(Authorization, Version)>, StoreError>>;
    /// Orders of an account created after `after` in listing order, at most `limit`.
    fn orders_of(
        &self,
        account: AccountId,
        after: Option<OrderId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>>;
    /// Finalized orders without an outcome: to be asked for again after a restart.
    fn processing(&self) -> BoxFuture<'_, Result<Vec<OrderId>, StoreError>>;
    /// Authorizations with a challenge that is processing: to be tried again after a restart.
    fn validating(&self) -> BoxFuture<'_, Result<Vec<AuthzId>, StoreError>>;
    /// All changes or none; durable when it returns `Ok`.
    fn commit(&self, changes: Vec<Change>) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Removes orders, with authorizations no order names, that ended or lapsed before `before`; at most
    /// `limit` of them; returns how many. An order that is processing is never removed.
    fn sweep(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, StoreError>>;
}

/// An order and what its status is computed from.
#[derive(Clone, Debug)]
pub struct OrderFacts {
    pub order: Order,
    pub version: Version,
    pub authorizations: Vec<(Authorization, Version)>,
}
