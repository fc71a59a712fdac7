//! What the operator's tools ask of the running issuer, over a socket that the web process has no way to.
//!
//! The socket and the *key* that opens it lie in a directory of the issuer's own. Three things must hold
//! for a connection: the kernel says that the peer is the issuer's user or root; it came through a directory
//! of mode 0700; and it could read the key, which is new at every start. The last is for boxes with one
//! user: Landlock does not mediate `connect`, but it does keep the web process from reading a file.
//!
//! Frames are those of `frame`: a hello whose digest is the key, then one question, one answer, in turn.

pub mod accounts;
pub mod certificate;
pub mod client;
pub mod recalls;
pub mod records;
pub mod server;
#[cfg(test)]
mod tests;
pub mod tickets;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::accounts::{AccountAnswer, AccountQuestion};
use self::recalls::{RecallAnswer, RecallQuestion};
use self::tickets::{TicketAnswer, TicketQuestion};
use crate::id::LeafIndex;

/// Who asks: by the kernel's word, never by the asker's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Operator {
    pub uid: u32,
    /// The user's name in /etc/passwd, or the number where it has none.
    pub user: String,
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (uid {})", self.user, self.uid)
    }
}

/// What an operator can ask. To add a verb: a variant here (a nested enum for a noun with several), its answer
/// below, its arm in `issuer/admin.rs`, its subcommand in `cli`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AdminQuestion {
    /// Whom the issuer takes the asker for.
    Who,
    Ticket(TicketQuestion),
    Account(AccountQuestion),
    Certificate(certificate::CertificateQuestion),
    Recall(RecallQuestion),
    Record(records::RecordQuestion),
    /// The former log key shall sign no more.
    RetireLogKey,
    /// This release is kept: the state may be written in its format.
    KeepRelease,
}

/// What the issuer answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AdminAnswer {
    Operator(Operator),
    Ticket(TicketAnswer),
    Account(AccountAnswer),
    Page(certificate::Page),
    Certificate(Box<certificate::Detail>),
    Recall(RecallAnswer),
    Record(records::RecordAnswer),
    /// The leaf that says so.
    LogKeyRetired(LeafIndex),
    /// The state's format before and now, and the leaf that says so; none if there was nothing to raise.
    ReleaseKept {
        from: u32,
        to: u32,
        leaf: Option<LeafIndex>,
    },
}

/// Why it did not do it. Both are for the operator and begin with a code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum AdminRefusal {
    /// Not now; the same question may be asked again.
    Retry(String),
    /// Not this.
    Refused(String),
}

/// The issuer as it is served to its operator. May wait for log and token: each connection has a thread of its own.
pub trait AdminService: Send + Sync {
    fn answer(
        &self,
        operator: &Operator,
        question: AdminQuestion,
    ) -> Result<AdminAnswer, AdminRefusal>;

    /// Told when a peer broke the rules of the socket and was turned away.
    fn trespassed(&self, _what: super::Trespass) {}
}

/// The secret that opens the socket, 32 random octets. Compared in constant time, never printed.
#[derive(Clone)]
pub struct AdminKey(pub [u8; 32]);

impl AdminKey {
    fn is(&self, other: &[u8; 32]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, other).is_ok()
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

/// One exchange, as it travels back.
type Reply = Result<AdminAnswer, AdminRefusal>;
