//! What of the index is in memory: the records of the last seconds, and the few things that are always at hand; and
//! how a record becomes part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::certificates::{CertificateEntry, TbsFacts};
use super::{Deactivation, Holder, LoggedCrl, Point, keys, leaves, revocations};
use crate::id::{AccountId, LeafIndex, Serial, Timestamp};
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
    /// All of them: there are few, and they are asked for at start.
    pub(super) open: BTreeMap<LeafIndex, Serial>,
    pub(super) crl_number: u64,
    /// The newest CRL of each issuer.
    pub(super) crls: BTreeMap<Hash, LoggedCrl>,
    /// The recalls that count.
    pub(super) recalls: BTreeSet<LeafIndex>,
    /// Leaves about the log's own keys.
    pub(super) log_keys: BTreeSet<LeafIndex>,
    /// Leaves about roots and issuing CAs that came after the ceremony.
    pub(super) authorities: BTreeSet<LeafIndex>,
    /// By digest of the transcript.
    pub(super) ceremonies: BTreeMap<Hash, LeafIndex>,
    /// The leaf of a ceremony that retired this CA.
    pub(super) retired: Option<LeafIndex>,
    pub(super) newest: Timestamp,
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
        let Self {
            recent,
            open,
            crl_number,
            crls,
            recalls,
            log_keys,
            authorities,
            ceremonies,
            retired,
            newest,
            marks,
            counted,
            ..
        } = self;
        let again = leaf.0 < *counted;
        recent.leaves.apply(leaf, offset, record, again);
        let ending = match record {
            Record::IntentV1(_) => read.as_ref().map(|facts| (facts.not_after, 1)),
            Record::AbandonedV1(_) => known.as_ref().map(|known| (known.not_after, -1)),
            Record::RevokedV1(r) => Some((r.not_after, -1)),
            _ => None,
        };
        if let Some((at, more)) = ending.filter(|_| !again) {
            recent.leaves.ending(at, more);
        }
        *counted = (leaf.0 + 1).max(*counted);
        *newest = record.at().max(*newest);
        match record {
            Record::CeremonyV1(r) => drop(ceremonies.insert(r.transcript_sha256, leaf)),
            Record::LogSucceededV1(r) => {
                ceremonies.insert(r.ceremony.transcript_sha256, leaf);
            }
            Record::CeremonyHeldV1(r) => {
                ceremonies.insert(r.transcript_sha256, leaf);
                if r.act == RETIRE {
                    *retired = Some(leaf);
                }
            }
            Record::ClockAcceptedV1(_)
            | Record::RefusedV1(_)
            | Record::StartedV1(_)
            | Record::ConfigChangedV1(_)
            | Record::RestoredV1(_)
            | Record::EpochTakenV1(_) => {}
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
                open.insert(leaf, r.serial);
            }
            Record::IssuedV1(r) => drop(open.remove(&r.intent)),
            Record::AbandonedV1(r) => {
                open.remove(&r.intent);
                *marks.entry(recent.revocations.abandoned(r, known)).or_default() += 1;
            }
            Record::CrlV1(r) => *crl_number = r.number.max(*crl_number),
            Record::CrlV2(r) => {
                *crl_number = r.number.max(*crl_number);
                let logged = LoggedCrl { number: r.number, tbs_sha256: r.tbs_sha256 };
                crls.insert(r.issuer_sha256, logged);
            }
            Record::IssuerAddedV1(r) => {
                authorities.insert(leaf);
                ceremonies.insert(r.transcript_sha256, leaf);
            }
            Record::RootAddedV1(r) => {
                authorities.insert(leaf);
                ceremonies.insert(r.transcript_sha256, leaf);
            }
            Record::AuthorityRetiredV1(_) => drop(authorities.insert(leaf)),
            Record::LogKeyRotatedV1(r) => {
                log_keys.insert(leaf);
                ceremonies.insert(r.transcript_sha256, leaf);
            }
            Record::LogKeyRetiredV1(_) => drop(log_keys.insert(leaf)),
            Record::RecallV1(_) => drop(recalls.insert(leaf)),
            Record::RecallEndedV1(r) => drop(recalls.remove(&r.recall)),
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
