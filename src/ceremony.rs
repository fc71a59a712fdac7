//! Ceremonies: one reviewed file says which keys and certificates shall exist; execution makes exactly those,
//! reads them back, and writes a transcript.
//!
//! The commit point is `ca/authority.json`, written last. Before the first key is made, `ca/unfinished.json`
//! names the ids of the keys that will be: what a crash leaves behind is then known, refused by the next run,
//! and removed only when asked for.

mod certificates;
pub mod cross;
pub mod execute;
mod keys;
mod later;
pub mod new_root;
pub mod plan;
pub mod request;
pub mod retire;
pub mod root_crl;
pub mod rotate;
mod settle;
pub mod state;
pub mod succession;
pub mod tls;
pub mod transcript;
pub mod understudy;

pub use execute::{export_request, import, run, sign_request};
pub use plan::Plan;
pub use state::{Attendance, Place, Tokens};

/// Why a ceremony was not held. The text is for the operator and begins with its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CeremonyError {
    /// Nothing was changed.
    Refused(String),
    /// Keys may exist on the token: `ca/unfinished.json` names them.
    Unfinished(String),
}

impl std::fmt::Display for CeremonyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Unfinished(why) => write!(
                f,
                "{why}\nthe ceremony is unfinished: ca/unfinished.json names the keys it may have made; \
                 --discard-unfinished removes them and begins anew"
            ),
        }
    }
}

impl std::error::Error for CeremonyError {}
