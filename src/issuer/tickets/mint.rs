//! The operator's side of tickets: minting, listing, revoking.

use std::sync::mpsc;

use super::file::{self, Entry, Files};
use super::{DIR, State, Tickets};
use crate::acme::ticket::{Constraints, Secret, first_clash};
use crate::env::Rng;
use crate::id::{Timestamp, hex};
use crate::ipc::admin::tickets::{MintedTicket, NewTicket, TicketStatus};
use crate::issuer::core::{NotNow, lock};
use crate::log::Release;
use crate::log::record::{Actor, Record, TicketMintedV1, TicketRevokedV1};
use crate::pki::name::Identifier;

/// Why tickets were not minted, or one not revoked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::issuer) enum MintError {
    /// Not now.
    NotNow(NotNow),
    /// Not this; begins with a code.
    Refused(String),
}

impl From<NotNow> for MintError {
    fn from(why: NotNow) -> Self {
        Self::NotNow(why)
    }
}

impl Tickets {
    /// Mints all or, when one of them makes no sense or `dry`, none. The secrets are durable in their file, and
    /// the records in the log, before this returns: it is the only time that anyone is told them.
    pub(in crate::issuer) fn mint(
        &self,
        wanted: Vec<NewTicket>,
        dry: bool,
        by: &Actor,
    ) -> Result<Vec<MintedTicket>, MintError> {
        let _one = lock(&self.changing);
        let now = self.core.now()?;
        self.judge(&wanted, now)?;
        if dry || wanted.is_empty() {
            return Ok(Vec::new());
        }
        let rng = &*self.core.rng;
        let entries: Vec<Entry> = wanted
            .into_iter()
            .map(|NewTicket { constraints, uses, expires, note }| Entry {
                id: new_id(rng),
                secret: Some(Secret::generate(&mut |octets| rng.fill(octets))),
                uses,
                minted: now,
                expires,
                note,
                constraints,
            })
            .collect();
        let name = file::name(&entries[0].id);
        self.files().write(&name, &entries).map_err(|error| {
            MintError::Refused(format!(
                "CHY-TICKET-FILE: {}: {error}; nothing was minted",
                self.files().dir.join(&name).display()
            ))
        })?;
        let recorded = self.record(&entries, by, now);
        let mut state = lock(&self.state);
        let mut minted = Vec::with_capacity(entries.len());
        let mut failure = None;
        for (entry, recorded) in entries.into_iter().zip(recorded) {
            match recorded {
                Ok(()) => {
                    let (ticket, secret) = (entry.id.clone(), entry.secret.clone());
                    minted.extend(secret.map(|secret| MintedTicket { ticket, secret }));
                    state.insert(entry, &name, false);
                }
                Err(why) => failure = Some(why),
            }
        }
        match failure {
            None => Ok(minted),
            Some(why) if minted.is_empty() => Err(why.into()),
            Some(_) => Err(MintError::Refused(format!(
                "CHY-TICKET-PARTLY: the log took only {} of the tickets, and their secrets are not shown; find them with \
                 `chancery ticket list`, revoke them, and mint again when `chancery status` is well",
                minted.len()
            ))),
        }
    }

    /// Ends a ticket. Accounts that registered with it stay; its names are free when they have ended. Says whether
    /// it was in force.
    pub(in crate::issuer) fn revoke(&self, id: &str, by: &Actor) -> Result<bool, MintError> {
        let _one = lock(&self.changing);
        let file = match lock(&self.state).tickets.get(id) {
            None => {
                return Err(MintError::Refused(format!(
                    "CHY-TICKET-UNKNOWN: there is no ticket {id:?}; `chancery ticket list` shows all"
                )));
            }
            Some(ticket) if ticket.revoked => return Ok(false),
            Some(ticket) => ticket.file.clone(),
        };
        let at = self.core.now()?;
        let record = TicketRevokedV1 { at, ticket: id.to_owned(), by: by.clone() };
        self.core.append_wait(Record::TicketRevokedV1(record), Release::Durable)?;
        let mut state = lock(&self.state);
        if let Some(ticket) = state.tickets.get_mut(id) {
            ticket.revoked = true;
            ticket.entry.secret = None;
        }
        let of_file = |state: &State| -> Vec<Entry> {
            let own = state.tickets.values().filter(|ticket| ticket.file == file);
            own.map(|ticket| ticket.entry.clone()).collect()
        };
        let entries = of_file(&state);
        drop(state);
        if let Err(error) = self.files().write(&file, &entries) {
            // The next start tries again; the log says that it is over.
            tracing::warn!(%error, file, "the secret of a revoked ticket could not be removed");
        }
        tracing::info!(ticket = id, "ticket revoked");
        Ok(true)
    }

    /// Tickets after this one, in the order of their ids, as many as fit in `octets`.
    pub(in crate::issuer) fn list(
        &self,
        after: Option<&str>,
        octets: usize,
    ) -> Result<Vec<TicketStatus>, NotNow> {
        let index = self.core.log.index();
        let state = lock(&self.state);
        let mut listed = Vec::new();
        let mut size = 0;
        for (id, ticket) in &state.tickets {
            if after.is_some_and(|after| id.as_str() <= after) {
                continue;
            }
            let accounts = index.ticket_accounts(id).map_err(|why| self.core.lost_index(&why))?;
            let Entry { uses, minted, expires, note, constraints, .. } = &ticket.entry;
            let status = TicketStatus {
                ticket: id.clone(),
                uses: *uses,
                used: u32::try_from(accounts.len()).unwrap_or(u32::MAX),
                minted: *minted,
                expires: *expires,
                revoked: ticket.revoked,
                note: note.clone(),
                constraints: constraints.clone(),
            };
            size += postcard::to_stdvec(&status).map_or(octets, |bytes| bytes.len());
            if size > octets && !listed.is_empty() {
                break;
            }
            listed.push(status);
        }
        Ok(listed)
    }

    /// Appends a record for each, some at a time, and says which were made.
    fn record(&self, entries: &[Entry], by: &Actor, at: Timestamp) -> Vec<Result<(), NotNow>> {
        let mut results: Vec<Result<(), NotNow>> = Vec::with_capacity(entries.len());
        for chunk in entries.chunks(AT_ONCE) {
            let (sender, receiver) = mpsc::channel();
            for (n, entry) in chunk.iter().enumerate() {
                let record = Record::TicketMintedV1(TicketMintedV1 {
                    at,
                    ticket: entry.id.clone(),
                    uses: entry.uses,
                    expires: entry.expires,
                    constraints_sha256: entry.constraints.sha256(),
                    by: by.clone(),
                });
                let sender = sender.clone();
                self.core.append(record, Release::Durable, move |result| {
                    // Nobody waits only when this process is ending.
                    let _ = sender.send((n, result.map(drop)));
                });
            }
            drop(sender);
            let unanswered = Err(NotNow::Wait(std::time::Duration::from_secs(5)));
            let mut answers = vec![unanswered; chunk.len()];
            for (n, answer) in receiver {
                answers[n] = answer;
            }
            results.extend(answers);
        }
        results
    }

    /// Whether all of them make sense, together and beside those that are.
    fn judge(&self, wanted: &[NewTicket], now: Timestamp) -> Result<(), MintError> {
        let state = lock(&self.state);
        let clash = first_clash(wanted.iter().map(|ticket| &ticket.constraints));
        for (n, ticket) in wanted.iter().enumerate() {
            let refused = |code: &str, why: String| {
                let place = match (wanted.len(), ticket.note.as_str()) {
                    (1, _) => String::new(),
                    (_, "") => format!("ticket {}: ", n + 1),
                    (_, note) => format!("ticket {} ({note}): ", n + 1),
                };
                MintError::Refused(format!("{code}: {place}{why}; nothing was minted"))
            };
            let bad = |why: String| refused("CHY-TICKET-BAD", why);
            let constraints = &ticket.constraints;
            if !(1..=MAX_USES).contains(&ticket.uses) {
                return Err(bad(format!(
                    "{} uses do not lie between 1 and {MAX_USES}",
                    ticket.uses
                )));
            }
            if ticket.expires <= now {
                return Err(bad(format!("it would have expired on {}", ticket.expires)));
            }
            if ticket.note.len() > MAX_NOTE || ticket.note.chars().any(char::is_control) {
                return Err(bad(format!("a note has at most {MAX_NOTE} octets, all printable")));
            }
            if let Some(profile) = &constraints.profile
                && !self.core.profiles.iter().any(|known| known.name == *profile)
            {
                let known: Vec<&str> = self.core.profiles.iter().map(|p| p.name.as_str()).collect();
                return Err(bad(format!(
                    "there is no profile {profile:?}; there are {}",
                    known.join(", ")
                )));
            }
            self.within_policy(constraints).map_err(bad)?;
            let theirs = constraints.exclusive.then_some(&state.shared);
            if let Some((first, second)) = clash
                && second == n
            {
                return Err(refused(
                    "CHY-TICKET-CLASH",
                    format!("it would share names with ticket {} of these", first + 1),
                ));
            }
            for bound in [Some(&state.exclusive), theirs].into_iter().flatten() {
                for other in bound.overlapping(constraints) {
                    if self.holds(&state, other, now)? {
                        return Err(refused(
                            "CHY-TICKET-CLASH",
                            format!(
                                "it would share names with ticket {other}; revoke that (and deactivate its accounts) first"
                            ),
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// A ticket for names that no one gets is a mistake.
    fn within_policy(&self, constraints: &Constraints) -> Result<(), String> {
        let names = constraints.names.iter().chain(&constraints.suffixes);
        let names = names.map(|name| Identifier::Dns(name.clone()));
        let addresses = constraints.networks.iter().map(|n| Identifier::Ip(n.address()));
        names.chain(addresses).try_for_each(|identifier| {
            self.core.policy.permits(&identifier).map_err(|refusal| refusal.to_string())
        })
    }

    fn files(&self) -> Files<'_> {
        Files { disk: &*self.core.disk, dir: self.core.dir.join(DIR) }
    }
}

/// `t` and 96 random bits in hexadecimal: no secret, and no character a command line minds.
fn new_id(rng: &dyn Rng) -> String {
    let mut octets = [0; 12];
    rng.fill(&mut octets);
    format!("t{}", hex(&octets))
}

const MAX_USES: u32 = 1_000_000;
const MAX_NOTE: usize = 200;
/// Records under way at once, fewer than the log's queue takes.
const AT_ONCE: usize = 32;
