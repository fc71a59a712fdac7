//! The privileged process: registry, policy, pipeline, publication. The only room that brings log
//! and HSM together. Believes nothing but what an account signed.

mod admin;
mod caps;
mod ceremonies;
pub mod clock;
mod core;
mod cosigner;
mod crls;
pub mod epoch;
mod figures;
mod fork;
mod formats;
mod handshake;
mod issuers;
mod keeper;
mod log_keys;
mod memory_key;
mod own;
mod pipeline;
mod publish;
mod refusals;
pub mod refused_pin;
mod registry;
mod renewal;
mod revocation;
mod root_crl;
mod service;
pub mod signing;
pub mod start;
mod starts;
mod succession;
mod tickets;
mod witnesses;
mod workers;
pub mod wrong_signatures;

pub use self::core::{OnHalt, TokenProbe};
pub use admin::day_of_log;
pub use ceremonies::Transcripts;
pub use clock::build_date;
pub use cosigner::CosignerKey;
pub use memory_key::MemoryKey;
pub use revocation::read_tbs;
pub use signing::{CheckpointKey, SignQueue, pins};
pub use start::{Parts, Running, ca_of, start, start_pool};
pub use starts::{Configuration, Program, TokenIdentity};

use serde::{Deserialize, Serialize};

use crate::tlog::note::{NoteKeyKind, VerifierKey};

/// The `[issuer]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Names and addresses of this box for its own TLS certificate; DNS, .local and IP.
    pub tls_names: Vec<String>,
    /// Lifetime of that certificate in days; renewed when a third remains.
    pub tls_days: u32,
    /// Lifetime of a CRL in hours; renewed at half.
    pub crl_hours: u32,
    /// A clock ahead of the newest record by more hours than this refuses to sign.
    pub clock_jump_hours: u32,
    /// Threads that rehearse and verify.
    pub workers: usize,
    /// Finalize requests under way at most.
    pub queue: usize,
    /// Certificates one account may be issued within an hour; 0: no cap.
    pub issuance_per_account_per_hour: u32,
    /// Certificates issued to orders within an hour at most, over all accounts; 0: no cap.
    pub issuance_per_hour: u32,
    /// Accounts registered within an hour at most, over all clients; 0: no cap.
    pub registrations_per_hour: u32,
    /// CRL shards: into how many CRLs certificates made from now on are spread.
    pub crl_shards: u16,
    /// Certificates of its own that one account may revoke within an hour; 0: no cap.
    pub revocations_per_account_per_hour: u32,
    /// Certificates of others that accounts may revoke within an hour because they control the identifiers
    /// now, over all accounts; 0: no cap.
    pub revocations_of_others_per_hour: u32,
    /// Key changes of one account within an hour; 0: no cap.
    pub key_changes_per_account_per_hour: u32,
    /// Whether accounts register by enrolment ticket only (RFC 8555 section 7.3.4).
    pub external_account_required: bool,
    /// Seconds between two visits to the witnesses of this log at least.
    pub witness_seconds: u32,
    /// The logs that this box is a witness of: their vkeys. A log that changes its key is here with both.
    pub watched_logs: Vec<String>,
}

impl Settings {
    /// The vkeys of `watched-logs`. The text of an error is for the operator.
    pub fn watched_keys(&self) -> Result<Vec<VerifierKey>, String> {
        self.watched_logs
            .iter()
            .map(|vkey| {
                vkey.parse::<VerifierKey>()
                    .map_err(|why| why.to_string())
                    .and_then(|key| match key.kind() {
                        NoteKeyKind::Cosignature => {
                            Err("this is a witness's key, not a log's".into())
                        }
                        _ => Ok(key),
                    })
                    .map_err(|why| {
                        format!("CHY-WITNESS-VKEY: [issuer] watched-logs: {vkey:?}: {why}")
                    })
            })
            .collect()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tls_names: Vec::new(),
            tls_days: 90,
            crl_hours: 168,
            clock_jump_hours: 24,
            workers: 2,
            queue: 256,
            issuance_per_account_per_hour: 3600,
            issuance_per_hour: 10_000,
            registrations_per_hour: 3600,
            crl_shards: 8,
            revocations_per_account_per_hour: 100,
            revocations_of_others_per_hour: 20,
            key_changes_per_account_per_hour: 10,
            external_account_required: false,
            witness_seconds: 10,
            watched_logs: Vec::new(),
        }
    }
}
