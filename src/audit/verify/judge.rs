//! The records in their order: what each may say after those before it.

use std::collections::HashMap;
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

use super::accounts::Accounts;
use super::authorities::{Authorities, Issuers};
use super::ceremonies::Ceremonies;
use super::checkpoints::Stated;
use super::crls::{Announced, Published};
use super::findings::Findings;
use super::frames::{Batch, Walked};
use super::ledger::{Fate, Ledger, Said};
use super::pairs::{self, Open};
use super::restored::Restored;
use super::signatures::{JOBS, Job};
use super::starts::Starts;
use super::tiles::Tiled;
use super::verdict::Verdict;
use super::{Evidence, SETTLING};
use crate::id::{LeafIndex, Serial, Timestamp};
use crate::log::reader::Reader;
use crate::log::record::{
    AbandonedV1, CeremonyV1, IntentV1, IssuedV1, Record, Requester, RevokedV1,
};
use crate::log::recover::OpenError;
use crate::log::segment::{HEADER, origin_hash};
use crate::tlog::keys::LogKeys;
use crate::tlog::tree::TreeHead;

/// What the log is held against.
pub(super) struct Expected<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) issuers: &'a Issuers,
    pub(super) stated: Stated<'a>,
    pub(super) published: Published,
    pub(super) tiled: Tiled,
}

/// What is known at one place of the log.
pub(super) struct Judge<'a> {
    evidence: &'a Evidence,
    issuers: &'a Issuers,
    authorities: Authorities,
    findings: &'a Findings,
    ledger: &'a Mutex<Ledger>,
    reader: &'a Reader,
    /// `None` when everything was read.
    send: Option<SyncSender<Vec<Job>>>,
    jobs: Vec<Job>,
    stated: Stated<'a>,
    published: Published,
    tiled: Tiled,
    /// As the records so far tell of them; `None` if the first names none.
    keys: Option<LogKeys>,
    accounts: Accounts,
    starts: Starts,
    open: Open,
    /// Whether each recall ended.
    recalls: HashMap<LeafIndex, bool>,
    ceremony: bool,
    ceremonies: Ceremonies,
    restored: Restored,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        expected: Expected<'a>,
        findings: &'a Findings,
        ledger: &'a Mutex<Ledger>,
        reader: &'a Reader,
        send: SyncSender<Vec<Job>>,
    ) -> Self {
        let Expected { evidence, issuers, stated, published, tiled } = expected;
        Self {
            evidence,
            issuers,
            authorities: Authorities::default(),
            findings,
            ledger,
            reader,
            send: Some(send),
            jobs: Vec::new(),
            stated,
            published,
            tiled,
            keys: None,
            accounts: Accounts::default(),
            starts: Starts::default(),
            open: Open::default(),
            recalls: HashMap::new(),
            ceremony: false,
            ceremonies: Ceremonies::default(),
            restored: Restored::default(),
            verdict: Verdict::default(),
        }
    }

    /// The next records.
    pub(super) fn batch(&mut self, batch: &Batch) {
        for (leaf, octets, head) in batch.records() {
            self.tiled.leaf(leaf, octets, self.findings);
            let record = Record::decode(octets);
            if leaf.0 == 0 {
                self.first(record.as_ref().ok());
            }
            let judged = self.restored.leaf(leaf, octets, record.as_ref().ok(), self.reader);
            self.wrong(leaf, judged);
            match record {
                Ok(record) => self.record(leaf, record),
                Err(why) => self.findings.find(leaf, why.to_string()),
            }
            if let Some(head) = head {
                let when = self.verdict.newest;
                self.stated.judge(self.keys.as_ref(), head, when, self.findings);
            }
        }
    }

    /// There are no more.
    pub(super) fn close(&mut self) {
        for (leaf, intent) in self.open.drain().collect::<Vec<_>>() {
            self.say(intent.serial, leaf, Said::Intended(None));
        }
        self.send_jobs();
        self.send = None;
    }

    /// What lies behind the last frames.
    pub(super) fn tail(&mut self, walked: &Walked) {
        if let Some(bad) = walked.torn {
            let Some(last) = self.reader.segments().last() else { return };
            let octet = HEADER + walked.end.saturating_sub(last.header.base);
            self.verdict.notes.push(format!(
                "{}: at octet {octet}, after the last record, where leaf {} would be, there are the remains of an \
                 unfinished write ({bad}); the next start cuts them",
                last.name, walked.head.size
            ));
        }
        for (segment, octet) in &walked.dirty {
            let text =
                format!("{segment}: there is something at octet {octet}, behind its last frame");
            self.findings.find(None, text);
        }
    }

    /// The log cannot be read to its end.
    pub(super) fn broken(&mut self, head: &TreeHead, error: &OpenError) {
        self.findings.find(LeafIndex(head.size), error.to_string());
    }

    /// Holds the ceremony's record against the evidence.
    fn first(&mut self, record: Option<&Record>) {
        let (evidence, findings) = (self.evidence, self.findings);
        let Some(ceremony) = record.and_then(Record::first) else { return };
        self.ceremony = true;
        self.authorities.begin(ceremony, evidence);
        let CeremonyV1 { origin, log_key, issuing_sha256, .. } = ceremony;
        let leaf = LeafIndex(0);
        if self.reader.segments().iter().any(|s| s.header.origin != origin_hash(origin)) {
            findings.find(leaf, "the segments are of another origin than the ceremony's record");
        }
        let notes = &mut self.verdict.notes;
        match &evidence.origin {
            Some(expected) if expected != origin => {
                findings.find(leaf, format!("the log is {origin}, and not {expected} as expected"));
            }
            Some(_) => {}
            None => notes.push(format!("the origin, {origin}, is taken from the log itself")),
        }
        if evidence.log_keys.is_empty() {
            notes.push("the log key is taken from the log itself".into());
        }
        // All zeros: the certificate of an offline root came after the ceremony.
        if !evidence.issuers.is_empty()
            && *issuing_sha256 != [0; 32]
            && evidence.issuers.iter().all(|issuer| issuer.fingerprint() != *issuing_sha256)
        {
            findings.find(leaf, "the issuing certificate is not the ceremony's");
        }
        if evidence.issuers.is_empty() {
            notes.push("no issuing certificate was given: signatures are not verified".into());
        }
        self.verdict.origin.clone_from(origin);
        match LogKeys::begin(origin, log_key) {
            Ok(keys) => self.keys = Some(keys),
            Err(why) => {
                findings.find(leaf, format!("the log key cannot sign checkpoints: {why}"));
            }
        }
        self.stated.judge_nothing(self.keys.as_ref(), findings);
    }

    fn record(&mut self, leaf: LeafIndex, record: Record) {
        self.instant(leaf, record.at());
        let judged = self.ceremonies.follows(leaf, &record);
        self.wrong(leaf, judged);
        match record {
            Record::CeremonyV1(_) | Record::LogSucceededV1(_) if leaf.0 > 0 => {
                self.findings.find(leaf, "a second ceremony");
            }
            Record::IssuerAddedV1(added) => {
                let judged = self.authorities.issuer_added(&added, self.issuers);
                self.wrong(leaf, judged);
            }
            Record::RootAddedV1(added) => {
                let judged = self.authorities.root_added(&added);
                self.wrong(leaf, judged);
            }
            Record::AuthorityRetiredV1(retired) => {
                let judged = self.authorities.retired(&retired);
                self.wrong(leaf, judged);
            }
            Record::CeremonyV1(_)
            | Record::CeremonyHeldV1(_)
            | Record::ClockAcceptedV1(_)
            | Record::RestoredV1(_)
            | Record::LogSucceededV1(_)
            | Record::EpochTakenV1(_)
            | Record::FormatRaisedV1(_) => {}
            Record::AccountRegisteredV1(r) => {
                self.verdict.accounts += 1;
                let judged = self.accounts.registered(r.at, r.account, &r.jwk, None);
                self.wrong(leaf, judged);
            }
            Record::AccountRegisteredV2(r) => {
                self.verdict.accounts += 1;
                let ticket = r.ticket.as_deref();
                let judged = self.accounts.registered(r.at, r.account, &r.jwk, ticket);
                self.wrong(leaf, judged);
            }
            Record::KeyChangedV1(r) => {
                let judged = self.accounts.key_changed(&r);
                self.wrong(leaf, judged);
            }
            Record::AccountDeactivatedV1(r) => {
                let judged = self.accounts.deactivated(r.at, r.account);
                self.wrong(leaf, judged);
            }
            Record::TicketMintedV1(r) => {
                let judged = self.accounts.minted(&r);
                self.wrong(leaf, judged);
            }
            Record::TicketRevokedV1(r) => {
                let judged = self.accounts.ticket_revoked(r.at, &r.ticket);
                self.wrong(leaf, judged);
            }
            Record::RecallV1(_) => drop(self.recalls.insert(leaf, false)),
            Record::RecallEndedV1(r) => match self.recalls.get_mut(&r.recall) {
                None => self.findings.find(leaf, format!("leaf {} is no recall", r.recall)),
                Some(ended) if *ended => {
                    self.findings.find(leaf, format!("the recall of leaf {} had ended", r.recall));
                }
                Some(ended) => *ended = true,
            },
            Record::StartedV1(started) => {
                let judged = self.starts.started(leaf, &started);
                self.wrong(leaf, judged);
            }
            Record::ConfigChangedV1(changed) => {
                let judged = self.starts.config_changed(&changed);
                self.wrong(leaf, judged);
            }
            // About the keys of the log before this one.
            Record::LogKeyRotatedV1(_) | Record::LogKeyRetiredV1(_)
                if self.restored.is_carried(leaf) => {}
            Record::LogKeyRotatedV1(_) | Record::LogKeyRetiredV1(_) => {
                let judged = self.keys.as_mut().map(|keys| record.turn_keys(leaf, keys));
                let judged = judged.unwrap_or(Ok(true)).map(drop);
                self.wrong(leaf, judged.map_err(|why| why.to_string()));
            }
            Record::RefusedV1(refused) => {
                let counts = refused.refusals.iter().map(|refusal| refusal.count);
                self.verdict.refused = counts.fold(self.verdict.refused, u64::saturating_add);
            }
            Record::IntentV1(intent) => self.intent(leaf, intent),
            Record::IssuedV1(issued) => self.issued(leaf, issued),
            Record::AbandonedV1(abandoned) => self.abandoned(leaf, abandoned),
            Record::RevokedV1(revoked) => self.revoked(leaf, revoked),
            Record::CrlV1(r) => self.crl(
                leaf,
                Announced {
                    at: r.at,
                    issuer: r.issuer_sha256,
                    url: None,
                    number: r.number,
                    this_update: r.this_update,
                    next_update: r.next_update,
                    entries: r.entries,
                    tbs_sha256: r.tbs_sha256,
                },
            ),
            Record::CrlV2(r) => self.crl(
                leaf,
                Announced {
                    at: r.at,
                    issuer: r.issuer_sha256,
                    url: Some(r.crl),
                    number: r.number,
                    this_update: r.this_update,
                    next_update: r.next_update,
                    entries: r.entries,
                    tbs_sha256: r.tbs_sha256,
                },
            ),
        }
    }

    /// Nothing is signed below the newest record, so instants only go back by what passes between reading the
    /// clock and writing.
    fn instant(&mut self, leaf: LeafIndex, at: Timestamp) {
        let newest = self.verdict.newest;
        if at.plus(SETTLING) < newest {
            let text = format!("it says {at}, but a record before it says {newest}");
            self.findings.find(leaf, text);
        }
        self.verdict.newest = at.max(newest);
    }

    fn wrong(&self, leaf: LeafIndex, judged: Result<(), String>) {
        if let Err(text) = judged {
            self.findings.find(leaf, text);
        }
    }

    fn intent(&mut self, leaf: LeafIndex, intent: IntentV1) {
        self.verdict.intents += 1;
        if let Requester::Order { account, .. } = intent.requester {
            let judged = self.accounts.active(account, intent.at);
            self.wrong(leaf, judged);
        }
        if !self.evidence.issuers.is_empty() && self.issuers.by(&intent.issuer_sha256).is_none() {
            self.findings.find(leaf, "the intent names an issuer that is not this CA's");
        }
        let judged = self.authorities.intended(&intent.issuer_sha256);
        self.wrong(leaf, judged);
        if let Some((leaf, evicted)) = self.open.insert(leaf, intent) {
            self.say(evicted.serial, leaf, Said::Intended(None));
        }
    }

    fn issued(&mut self, leaf: LeafIndex, issued: IssuedV1) {
        self.verdict.issued += 1;
        if let Ok(intent) = self.resolve(leaf, issued.intent, issued.serial, Fate::Issued) {
            if let Some(intent) = &intent {
                let judged = self.authorities.signs(&intent.issuer_sha256);
                self.wrong(leaf, judged);
            }
            self.job(Job::Issued { leaf, issued, intent });
        }
    }

    fn abandoned(&mut self, leaf: LeafIndex, abandoned: AbandonedV1) {
        self.verdict.abandoned += 1;
        let resolved = self.resolve(leaf, abandoned.intent, abandoned.serial, Fate::Abandoned);
        if let Ok(intent) = resolved {
            self.job(Job::Abandoned { leaf, abandoned, intent });
        }
    }

    fn revoked(&mut self, leaf: LeafIndex, revoked: RevokedV1) {
        self.verdict.revoked += 1;
        self.say(revoked.serial, leaf, Said::Revoked { intent: revoked.intent });
        self.job(Job::Revoked { leaf, revoked: Box::new(revoked) });
    }

    /// Closes an intent and hands it over if it is at hand; says what is wrong if there cannot be one.
    fn resolve(
        &mut self,
        leaf: LeafIndex,
        intent: LeafIndex,
        serial: Serial,
        fate: Fate,
    ) -> Result<Option<IntentV1>, ()> {
        match self.open.serial(intent) {
            Some(at_hand) if at_hand == serial => {
                self.say(serial, intent, Said::Intended(Some((fate, leaf))));
                Ok(self.open.close(intent))
            }
            None if intent < leaf => {
                self.say(serial, leaf, Said::Resolved { intent, fate });
                Ok(None)
            }
            Some(_) | None => {
                self.findings.find(leaf, pairs::no_intent(serial, intent));
                Err(())
            }
        }
    }

    fn crl(&mut self, leaf: LeafIndex, record: Announced) {
        self.verdict.crls += 1;
        let judged = self.authorities.signs(&record.issuer);
        self.wrong(leaf, judged);
        self.published.announced(leaf, record, self.findings);
    }

    fn say(&self, serial: Serial, leaf: LeafIndex, said: Said) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).push(serial, leaf, said);
    }

    fn job(&mut self, job: Job) {
        self.jobs.push(job);
        if self.jobs.len() == JOBS {
            self.send_jobs();
        }
    }

    fn send_jobs(&mut self) {
        let jobs = std::mem::take(&mut self.jobs);
        if let Some(send) = &self.send {
            // The threads end before this one only if they panic, and then the whole does.
            let _ = send.send(jobs);
        }
    }

    /// Everything was read: what only the whole log can tell.
    pub(super) fn finish(
        mut self,
        head: TreeHead,
        named: &HashMap<String, Timestamp>,
    ) -> Result<Verdict, OpenError> {
        let findings = self.findings;
        if !self.ceremony {
            findings.find(LeafIndex(0), "the first record is no ceremony");
        } else if let Some(keys) = &self.keys {
            // Either may know of rotations that the other does not know of yet.
            if self.evidence.newer_keys(&self.stated.later(keys)).is_none() {
                findings.find(LeafIndex(0), "the log key is not the expected one");
            }
        }
        self.stated.judge_beyond(self.keys.as_ref(), &head, self.verdict.newest, findings);
        if let Some(published) = &self.evidence.published {
            self.stated.judge_published(published, findings);
        }
        let verdict = &mut self.verdict;
        verdict.covered = self.stated.covered.unwrap_or_default();
        verdict.checkpoints = self.stated.verified;
        verdict.cosigned = self.stated.cosigned();
        verdict.cosignatures = self.stated.cosignatures;
        verdict.unknown_lines = self.stated.unknown_lines(self.keys.as_ref());
        let notes = verdict.about_witnesses(&self.evidence.witnesses);
        verdict.notes.extend(notes);
        if let Some(stated) = self.stated.continued {
            verdict.notes.push(format!(
                "this is an archive: the log goes on, to {stated} records at least, whose signed checkpoint \
                 continues these {}",
                head.size
            ));
        }
        match self.stated.greatest {
            None => findings.find(None, "there is no checkpoint that the log key signed"),
            Some(size) if size < head.size => verdict.notes.push(format!(
                "{} records are not covered by a checkpoint yet; none of them has been released",
                head.size - size
            )),
            Some(_) => {}
        }
        verdict.notes.extend(self.restored.close(findings));
        verdict.notes.extend(self.tiled.close(head.size, findings));
        self.published.close(verdict.newest, self.evidence.now, named, findings);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        (verdict.kept.rows, verdict.kept.spilled) = ledger.kept();
        verdict.kept.intents = self.open.peak();
        verdict.kept.accounts = self.accounts.kept();
        let published = &self.published;
        let mut open = 0;
        let judged = ledger.judge(&mut |serial, rows| {
            open += pairs::judge(serial, rows, findings);
            published.judge(serial, rows, findings);
        });
        judged.map_err(|why| {
            OpenError::Retry(format!(
                "CHY-LOG-SCRATCH: what the log says of each serial cannot be sorted: {why}; name a directory with \
                 room by --scratch"
            ))
        })?;
        verdict.open = open;
        verdict.head = Some(head);
        verdict.crl_files = self.published.files() as u64;
        if !self.published.given() {
            verdict.notes.push("no published CRLs were compared with the log".into());
        }
        if verdict.refused > 0 {
            verdict.notes.push(format!(
                "{} requests to the issuer were refused; `chancery log list --kind refused` shows them",
                verdict.refused
            ));
        }
        if open > 0 {
            verdict.notes.push(format!(
                "{open} intents have no signature yet; they are signed when asked for again, or abandoned"
            ));
        }
        Ok(self.verdict)
    }
}
