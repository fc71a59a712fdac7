//! What of the index is in memory: the records of the last seconds, and the few things that are always at hand; and
//! how a record becomes part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::certificates::{CertificateEntry, TbsFacts};
use super::table::Facts;
use super::{Deactivation, Holder, LoggedCrl, Point, keys, leaves, revocations};
use crate::id::{AccountId, LeafIndex, Timestamp};
use crate::log::record::{Actor, RETIRE, Record};
use crate::log::tree::{Hash, sha256};

/// What was applied since the last transaction.
#[derive(Default)]
pub(super) struct Layer {
    pub(super) leaves: leaves::Layer,
    pub(super) keys: BTreeSet<keys::Key>,
    /// Reversed.
    pub(super) names: BTreeSet<String>,
    pub(super) accounts: BTreeMap<AccountId, LeafIndex>,
    /// By RFC 7638 thumbprint.
    pub(super) holders: BTreeMap<Hash, Holder>,
    pub(super) key_changes: BTreeMap<AccountId, LeafIndex>,
    pub(super) deactivated: BTreeMap<AccountId, Deactivation>,
    pub(super) changes: BTreeMap<u64, AccountId>,
    pub(super) tickets: BTreeMap<String, LeafIndex>,
    pub(super) ticket_ends: BTreeMap<String, Timestamp>,
    pub(super) ticket_uses: BTreeSet<(String, AccountId)>,
    pub(super) revocations: revocations::Layer,
    pub(super) point: Option<Point>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) recent: Layer,
    /// On its way into the file.
    pub(super) leaving: Option<Arc<Layer>>,
    pub(super) facts: Facts,
    /// Leaves below this were counted in their days.
    pub(super) counted: u64,
    /// How much each CRL got to list since this process began, by URL.
    pub(super) marks: BTreeMap<String, u64>,
}

impl State {
    /// `read` is of an intent's bytes; `known` what is known of an abandoned one.
    pub(super) fn apply(
        &mut self,
        leaf: LeafIndex,
        offset: u64,
        record: &Record,
        read: Option<TbsFacts>,
        known: Option<CertificateEntry>,
    ) {
        let Self { recent, facts, marks, counted, .. } = self;
        let again = leaf.0 < *counted;
        recent.leaves.apply(leaf, offset, record, again);
        let ending = match record {
            Record::IntentV1(_) => read.as_ref().map(|read| (read.not_after, 1)),
            Record::AbandonedV1(_) => known.as_ref().map(|known| (known.not_after, -1)),
            Record::RevokedV1(r) => Some((r.not_after, -1)),
            _ => None,
        };
        if let Some((at, more)) = ending.filter(|_| !again) {
            recent.leaves.ending(at, more);
        }
        *counted = (leaf.0 + 1).max(*counted);
        facts.newest = record.at().max(facts.newest);
        match record {
            Record::CeremonyV1(r) => drop(facts.ceremonies.insert(r.transcript_sha256, leaf)),
            Record::LogSucceededV1(r) => {
                facts.ceremonies.insert(r.ceremony.transcript_sha256, leaf);
            }
            Record::CeremonyHeldV1(r) => {
                facts.ceremonies.insert(r.transcript_sha256, leaf);
                if r.act == RETIRE {
                    facts.retired = Some(leaf);
                }
            }
            Record::ClockAcceptedV1(_)
            | Record::RefusedV1(_)
            | Record::StartedV1(_)
            | Record::ConfigChangedV1(_)
            | Record::RestoredV1(_)
            | Record::EpochTakenV1(_)
            | Record::FormatRaisedV1(_) => {}
            Record::AccountRegisteredV1(r) => recent.registered(leaf, r.account, &r.jwk),
            Record::AccountRegisteredV2(r) => {
                recent.registered(leaf, r.account, &r.jwk);
                if let Some(ticket) = &r.ticket {
                    recent.ticket_uses.insert((ticket.clone(), r.account));
                }
            }
            Record::KeyChangedV1(r) => {
                let account = r.account;
                recent.holders.insert(r.former, Holder { account, current: false });
                recent.holders.insert(sha256(r.jwk.as_bytes()), Holder { account, current: true });
                recent.key_changes.insert(account, leaf);
                recent.changes.insert(leaf.0, account);
            }
            Record::AccountDeactivatedV1(r) => {
                let by_operator = matches!(r.by, Actor::Operator { .. });
                recent.deactivated.insert(r.account, Deactivation { at: r.at, by_operator });
                recent.changes.insert(leaf.0, r.account);
            }
            Record::TicketMintedV1(r) => {
                recent.tickets.insert(r.ticket.clone(), leaf);
            }
            Record::TicketRevokedV1(r) => {
                recent.ticket_ends.insert(r.ticket.clone(), r.at);
            }
            Record::IntentV1(r) => {
                recent.intended(leaf, r, read);
                facts.open.insert(leaf, r.serial);
            }
            Record::IssuedV1(r) => drop(facts.open.remove(&r.intent)),
            Record::AbandonedV1(r) => {
                facts.open.remove(&r.intent);
                *marks.entry(recent.revocations.abandoned(r, known)).or_default() += 1;
            }
            Record::CrlV1(r) => facts.crl_number = r.number.max(facts.crl_number),
            Record::CrlV2(r) => {
                facts.crl_number = r.number.max(facts.crl_number);
                let logged = LoggedCrl { number: r.number, tbs_sha256: r.tbs_sha256 };
                facts.crls.insert(r.issuer_sha256, logged);
            }
            Record::IssuerAddedV1(r) => {
                facts.authorities.insert(leaf);
                facts.ceremonies.insert(r.transcript_sha256, leaf);
            }
            Record::RootAddedV1(r) => {
                facts.authorities.insert(leaf);
                facts.ceremonies.insert(r.transcript_sha256, leaf);
            }
            Record::AuthorityRetiredV1(_) => drop(facts.authorities.insert(leaf)),
            Record::LogKeyRotatedV1(r) => {
                facts.log_keys.insert(leaf);
                facts.ceremonies.insert(r.transcript_sha256, leaf);
            }
            Record::LogKeyRetiredV1(_) => drop(facts.log_keys.insert(leaf)),
            Record::RecallV1(_) => drop(facts.recalls.insert(leaf)),
            Record::RecallEndedV1(r) => drop(facts.recalls.remove(&r.recall)),
            Record::RevokedV1(r) => {
                *marks.entry(recent.revocations.revoked(leaf, r)).or_default() += 1;
            }
        }
    }
}

impl Layer {
    pub(super) fn registered(&mut self, leaf: LeafIndex, account: AccountId, jwk: &str) {
        self.accounts.insert(account, leaf);
        self.holders.insert(sha256(jwk.as_bytes()), Holder { account, current: true });
    }
}
