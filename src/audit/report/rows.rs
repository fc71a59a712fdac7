//! Records as rows of a report.

use super::Places;
use crate::audit::describe::{self, Described};
use crate::audit::verify::Open;
use crate::id::{AccountId, LeafIndex, OrderId, Serial, Timestamp};
use crate::log::reader::{Entry, Reader};
use crate::log::record::{IntentV1, Record, Requester, ValidationV1};
use crate::log::recover::OpenError;
use crate::pki::certificate::Certificate;

/// One record, with what is known of its certificate. Text is as the log has it: whoever writes it escapes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Row {
    pub leaf: LeafIndex,
    /// `None` where this version cannot read the record.
    pub at: Option<Timestamp>,
    pub kind: &'static str,
    pub serial: Option<Serial>,
    pub names: Vec<String>,
    pub profile: Option<String>,
    pub account: Option<AccountId>,
    pub order: Option<OrderId>,
    pub not_after: Option<Timestamp>,
    /// By what each name of the certificate was proven.
    pub validations: Vec<ValidationV1>,
    /// Who had it done.
    pub actor: Option<String>,
    /// What it says, in words.
    pub what: String,
    /// Where the proof is that it is in the log.
    pub proof: Option<String>,
    /// Refusals, by what was asked, why, and of whom.
    pub refusals: Vec<(String, Option<AccountId>, u64)>,
    /// Of a CRL: its URL and number.
    pub crl: Option<(String, u64)>,
}

impl Row {
    /// By what its names were proven: the method where it is one for all, else each name with its own.
    pub(super) fn methods(&self) -> String {
        let [first, others @ ..] = self.validations.as_slice() else { return String::new() };
        if others.iter().all(|other| other.method == first.method) {
            return first.method.clone();
        }
        let each = self.validations.iter().map(|v| format!("{} {}", v.identifier, v.method));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// A part of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Section {
    All,
    /// What was issued.
    Certificates,
    /// What was revoked, or intended and abandoned.
    Endings,
    /// What people had done: operators, and account holders to their accounts.
    Actions,
    /// How the CA itself went.
    Life,
}

impl Section {
    pub(super) fn takes(self, row: &Row) -> bool {
        let of = match row.kind {
            "issued" => Self::Certificates,
            "revoked" | "abandoned" => Self::Endings,
            "account" | "keychange" | "deactivated" | "ticket" | "ticket-end" | "recall"
            | "recall-end" => Self::Actions,
            // Made by the dozen each day: counted only.
            "crl" | "refused" => return self == Self::All,
            _ => Self::Life,
        };
        self == of || self == Self::All
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::All => "Records",
            Self::Certificates => "Certificates issued",
            Self::Endings => "Certificates revoked or abandoned",
            Self::Actions => "Accounts, tickets and recalls",
            Self::Life => "The CA: ceremonies, keys, starts, configuration, clock",
        }
    }
}

/// Makes rows of records that come in order.
pub(super) struct Rows<'a> {
    reader: &'a Reader,
    proof: Option<&'a dyn Fn(Serial) -> String>,
    open: Open,
    places: &'a Places,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        reader: &'a Reader,
        proof: Option<&'a dyn Fn(Serial) -> String>,
        places: &'a Places,
    ) -> Self {
        Self { reader, proof, open: Open::default(), places }
    }

    /// The next record's row; an intent alone has none.
    pub(super) fn row(&mut self, entry: Entry) -> Result<Option<Row>, OpenError> {
        let mut row = Row { leaf: entry.leaf, kind: "unknown", ..Row::default() };
        let record = match &entry.record {
            Ok(record) => record,
            Err(why) => {
                row.what = why.to_string();
                return Ok(Some(row));
            }
        };
        row.at = Some(record.at());
        row.kind = record.kind();
        row.serial = describe::serial(record);
        match record {
            Record::IntentV1(intent) => {
                self.open.insert(entry.leaf, intent.clone());
                return Ok(None);
            }
            Record::IssuedV1(issued) => {
                let intent = self.open.close(issued.intent);
                self.of_intent(&mut row, issued.intent, issued.serial, intent)?;
                row.what = format!("intent {}", issued.intent);
                row.proof = self.proof.map(|proof| proof(issued.serial));
                return Ok(Some(row));
            }
            Record::AbandonedV1(abandoned) => {
                let intent = self.open.close(abandoned.intent);
                self.of_intent(&mut row, abandoned.intent, abandoned.serial, intent)?;
                row.what.clone_from(&abandoned.reason);
                return Ok(Some(row));
            }
            Record::RevokedV1(revoked) => {
                self.of_intent(&mut row, revoked.intent, revoked.serial, None)?;
                row.not_after = Some(revoked.not_after);
            }
            Record::AccountRegisteredV1(r) => row.account = Some(r.account),
            Record::AccountRegisteredV2(r) => row.account = Some(r.account),
            Record::KeyChangedV1(r) => row.account = Some(r.account),
            Record::AccountDeactivatedV1(r) => row.account = Some(r.account),
            Record::CrlV1(r) => row.crl = Some((String::new(), r.number)),
            Record::CrlV2(r) => row.crl = Some((r.crl.clone(), r.number)),
            Record::RefusedV1(r) => {
                let each = r.refusals.iter();
                row.refusals =
                    each.map(|r| (format!("{} {}", r.asked, r.why), r.account, r.count)).collect();
            }
            _ => {}
        }
        let described = Described::of(&entry);
        row.actor = described.actor().map(str::to_owned);
        described.gist().clone_into(&mut row.what);
        Ok(Some(row))
    }

    /// What the intent says; it is read again if it is not at hand.
    fn of_intent(
        &self,
        row: &mut Row,
        leaf: LeafIndex,
        serial: Serial,
        intent: Option<IntentV1>,
    ) -> Result<(), OpenError> {
        let intent = match intent {
            Some(intent) => intent,
            None if leaf >= row.leaf => return Ok(()),
            None => match self.read(leaf)?.map(|entry| entry.record) {
                Some(Ok(Record::IntentV1(intent))) => intent,
                _ => return Ok(()),
            },
        };
        if intent.serial != serial {
            return Ok(());
        }
        if let Requester::Order { order, account, .. } = intent.requester {
            row.order = Some(order);
            row.account = Some(account);
        }
        row.names = describe::names(&intent.tbs);
        row.not_after = Certificate::of_tbs(&intent.tbs).ok().map(|c| c.validity().1);
        row.profile = Some(intent.profile);
        row.validations = intent.validations;
        Ok(())
    }

    /// A record from before.
    fn read(&self, leaf: LeafIndex) -> Result<Option<Entry>, OpenError> {
        if let Some(offset) = self.places.get(&leaf)
            && let Ok(entry) = self.reader.at(leaf, *offset)
            && entry.record.is_ok()
        {
            return Ok(Some(entry));
        }
        // No index told, or one that does not fit: the segment is read from its beginning.
        self.reader.entries(leaf).next().transpose()
    }
}
