//! Enrolment tickets (RFC 8555 section 7.3.4): minting, spending, and what is bound to them.
//!
//! A ticket counts when the log says that it was minted with these constraints. Its uses are counted by the
//! registrations in the log, so that a registration and the use it spends are one record: neither can be
//! there without the other. In memory there is besides what is on its way.

mod file;
mod mint;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::core::{Core, NotNow, lock};
use crate::acme::jws::Jwk;
use crate::acme::problem::{Problem, ProblemType, Subproblem};
use crate::acme::ticket::{Binding, Bindings, Constraints};
use crate::id::Timestamp;
use crate::ipc::Refusal;
use crate::log::record::Record;
use crate::pki::name::Identifier;

use file::{Entry, Files};

pub(super) use mint::MintError;

pub(super) struct Tickets {
    core: Arc<Core>,
    state: Mutex<State>,
    /// Held while tickets are minted or revoked: one at a time.
    changing: Mutex<()>,
}

#[derive(Default)]
struct State {
    tickets: BTreeMap<String, Ticket>,
    exclusive: Bindings<String>,
    shared: Bindings<String>,
}

struct Ticket {
    entry: Entry,
    /// The file it is in.
    file: String,
    /// Whether the log's record was compared.
    checked: bool,
    /// Uses the log knows; `None` until they were counted.
    used: Option<u32>,
    /// Uses whose record is on its way.
    reserved: u32,
    revoked: bool,
}

/// One use of a ticket, set aside. Dropped, it is free again.
pub(super) struct Reservation {
    tickets: Arc<Tickets>,
    ticket: String,
}

impl Reservation {
    pub(super) fn ticket(&self) -> &str {
        &self.ticket
    }

    /// The registration that spends it is durable.
    pub(super) fn spent(self) {
        if let Some(ticket) = lock(&self.tickets.state).tickets.get_mut(&self.ticket) {
            ticket.used = ticket.used.map(|used| used.saturating_add(1));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(ticket) = lock(&self.tickets.state).tickets.get_mut(&self.ticket) {
            ticket.reserved = ticket.reserved.saturating_sub(1);
        }
    }
}

impl Tickets {
    /// Reads the files. Tickets that were written but never recorded are removed: nobody was given them.
    /// Secrets of those that are over are removed too.
    pub(super) fn open(core: Arc<Core>) -> Result<Self, String> {
        let now = core.rule.clock().now();
        let index = core.log.index();
        let mut state = State::default();
        let files = Files { disk: &*core.disk, dir: core.dir.join(DIR) };
        for (file, entries) in files.read()? {
            let before = entries.clone();
            let mut kept = Vec::with_capacity(entries.len());
            for mut entry in entries {
                if index.ticket(&entry.id)?.is_none() {
                    tracing::warn!(ticket = entry.id, "a ticket was never recorded; removed");
                    continue;
                }
                let revoked = index.ticket_end(&entry.id)?.is_some();
                if revoked || now >= entry.expires {
                    entry.secret = None;
                }
                kept.push((entry, revoked));
            }
            let after: Vec<Entry> = kept.iter().map(|(entry, _)| entry.clone()).collect();
            if after != before
                && let Err(error) = files.write(&file, &after)
            {
                tracing::warn!(%error, file, "secrets of tickets that are over could not be removed");
            }
            for (entry, revoked) in kept {
                state.insert(entry, &file, revoked);
            }
        }
        Ok(Self { core, state: Mutex::new(state), changing: Mutex::new(()) })
    }

    /// Judges a binding for a newAccount request and sets one use aside.
    pub(super) fn reserve(
        self: &Arc<Self>,
        binding: &Binding,
        url: &str,
        key: &Jwk,
        now: Timestamp,
    ) -> Result<Reservation, Refusal> {
        let id = &binding.ticket().0;
        let refused = |why: &str| Refusal::Refused(Problem::new(ProblemType::Unauthorized, why));
        // One answer for an unknown ticket, a wrong MAC and another key, so that it tells nothing.
        let unverified = || refused("the external account binding does not verify");
        let mut state = lock(&self.state);
        let Some(ticket) = state.tickets.get_mut(id) else {
            return Err(unverified());
        };
        match &ticket.entry.secret {
            // Revoked, or expired long ago.
            None => return Err(unverified()),
            Some(secret) if !binding.verify(secret.octets(), url, key) => return Err(unverified()),
            Some(_) => {}
        }
        if ticket.revoked {
            return Err(refused("this enrolment ticket was revoked"));
        }
        if now >= ticket.entry.expires {
            return Err(refused("this enrolment ticket has expired"));
        }
        self.check(ticket)?;
        let used = match ticket.used {
            Some(used) => used,
            None => {
                let accounts = self.core.log.index().ticket_accounts(id);
                let accounts = accounts.map_err(|why| self.core.lost_index(&why))?;
                let used = u32::try_from(accounts.len()).unwrap_or(u32::MAX);
                ticket.used = Some(used);
                used
            }
        };
        if used >= ticket.entry.uses {
            return Err(refused("this enrolment ticket has been used up"));
        }
        if used.saturating_add(ticket.reserved) >= ticket.entry.uses {
            // The last uses are on their way to others, and may come back.
            return Err(Refusal::Retry(500));
        }
        ticket.reserved += 1;
        Ok(Reservation { tickets: Arc::clone(self), ticket: id.clone() })
    }

    /// Whether an account, by the ticket it registered with, may have these names under this profile (`None`: the
    /// default). Gives the profile its ticket says.
    pub(super) fn permits<'a>(
        &self,
        own: Option<&str>,
        identifiers: impl IntoIterator<Item = &'a Identifier>,
        profile: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<String>, Refusal> {
        let mut state = lock(&self.state);
        let constraints = match own {
            None => Constraints::default(),
            Some(id) => match state.tickets.get_mut(id) {
                Some(ticket) => {
                    self.check(ticket)?;
                    ticket.entry.constraints.clone()
                }
                None => {
                    tracing::error!(
                        ticket = id,
                        "CHY-TICKET-LOST: an account asks for a certificate, and what its ticket allows is in no file"
                    );
                    return Err(Refusal::Refused(Problem::new(
                        ProblemType::Unauthorized,
                        "the enrolment ticket of this account is not known any more; its operator can see why",
                    )));
                }
            },
        };
        if let (Some(bound), Some(asked)) = (&constraints.profile, profile)
            && bound != asked
        {
            return Err(Refusal::Refused(Problem::new(
                ProblemType::InvalidProfile,
                format!("this account's enrolment ticket is for the profile {bound}"),
            )));
        }
        let mut parts = Vec::new();
        for identifier in identifiers {
            let why = if !constraints.permits(identifier) {
                Some(format!(
                    "{identifier} is not a name that this account's enrolment ticket allows"
                ))
            } else if self.is_bound_to_another(&state, own, identifier, now)? {
                Some(format!("{identifier} is bound to another enrolment ticket"))
            } else {
                None
            };
            parts.extend(
                why.map(|why| Subproblem::of(ProblemType::RejectedIdentifier, why, identifier)),
            );
        }
        if parts.is_empty() {
            Ok(constraints.profile)
        } else {
            Err(Refusal::Refused(Problem::compound(parts)))
        }
    }

    fn is_bound_to_another(
        &self,
        state: &State,
        own: Option<&str>,
        identifier: &Identifier,
        now: Timestamp,
    ) -> Result<bool, NotNow> {
        for owner in state.exclusive.touched_by(identifier) {
            if Some(owner.as_str()) != own && self.holds(state, owner, now)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a ticket still holds its names: while it may be used, or an account that it registered is active.
    fn holds(&self, state: &State, id: &str, now: Timestamp) -> Result<bool, NotNow> {
        let Some(ticket) = state.tickets.get(id) else {
            return Ok(false);
        };
        if !ticket.revoked && now < ticket.entry.expires {
            return Ok(true);
        }
        let index = self.core.log.index();
        let lost = |why: String| self.core.lost_index(&why);
        for account in index.ticket_accounts(id).map_err(lost)? {
            if index.deactivated(account).map_err(lost)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the file says must be what was recorded when the ticket was minted.
    fn check(&self, ticket: &mut Ticket) -> Result<(), NotNow> {
        if ticket.checked {
            return Ok(());
        }
        let Entry { id, uses, expires, constraints, .. } = &ticket.entry;
        let lost = |why: String| self.core.lost_index(&why);
        let leaf = self.core.log.index().ticket(id).map_err(lost)?;
        let record = leaf.map(|leaf| self.core.log.read(leaf)).transpose().map_err(lost)?;
        match record {
            Some(Record::TicketMintedV1(minted))
                if minted.ticket == *id
                    && minted.uses == *uses
                    && minted.expires == *expires
                    && minted.constraints_sha256 == constraints.sha256() =>
            {
                ticket.checked = true;
                Ok(())
            }
            _ => {
                tracing::error!(
                    ticket = %id, file = ticket.file,
                    "CHY-TICKET-ALTERED: a ticket's file says something else than the log recorded when it was minted; the ticket is not honoured"
                );
                Err(NotNow::Never)
            }
        }
    }
}

impl State {
    fn insert(&mut self, entry: Entry, file: &str, revoked: bool) {
        let bindings =
            if entry.constraints.exclusive { &mut self.exclusive } else { &mut self.shared };
        bindings.insert(&entry.constraints, &entry.id);
        let ticket = Ticket {
            file: file.to_owned(),
            checked: false,
            used: None,
            reserved: 0,
            revoked,
            entry,
        };
        self.tickets.insert(ticket.entry.id.clone(), ticket);
    }
}

/// In the issuer's directory.
const DIR: &str = "tickets";
