//! Derived, disposable: where in the log an order, serial or account is. Rebuilt from the log alone.

use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};

/// The index of one log; reads see every record whose append was answered.
pub struct Index {
    _private: (),
}

/// How far an issuance has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issuance {
    /// An intent is durable, nothing else: may be signed again from its stored TBS.
    Intended {
        intent: LeafIndex,
        serial: Serial,
    },
    Issued {
        intent: LeafIndex,
        issued: LeafIndex,
        serial: Serial,
    },
    Abandoned {
        intent: LeafIndex,
        abandoned: LeafIndex,
        serial: Serial,
    },
}

impl Index {
    pub fn by_order(&self, order: OrderId) -> Result<Option<Issuance>, String> {
        todo!()
    }
    pub fn by_serial(&self, serial: Serial) -> Result<Option<Issuance>, String> {
        todo!()
    }
    /// The account's registration leaf.
    pub fn account(&self, account: AccountId) -> Result<Option<LeafIndex>, String> {
        todo!()
    }
    /// The account holding the key with this RFC 7638 thumbprint.
    pub fn account_by_key(&self, thumbprint: [u8; 32]) -> Result<Option<AccountId>, String> {
        todo!()
    }
    /// Every intent with neither Issued nor Abandoned.
    pub fn open_intents(&self) -> Result<Vec<(LeafIndex, Serial)>, String> {
        todo!()
    }
    /// Serials to be listed in the CRL (abandoned so far) with the instant of revocation.
    pub fn revoked(&self) -> Result<Vec<(Serial, Timestamp)>, String> {
        todo!()
    }
    /// The greatest CRL number logged.
    pub fn last_crl_number(&self) -> Result<u64, String> {
        todo!()
    }
    /// The newest instant any record states: the clock's floor.
    pub fn newest_instant(&self) -> Result<Timestamp, String> {
        todo!()
    }
}
