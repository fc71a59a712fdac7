//! The issuer as the web process meets it. Contents:
//!
//! - issuance: one order, one certificate, whatever happens between; promises 1 to 3
//! - petitioner: promise 4, what a taken-over web process can try at the socket
//! - accounts: registration and caps
//! - revocation: who may revoke; record, shard, file
//! - shards: what fifty thousand revocations cost, and that OpenSSL reads what comes of them
//! - registry: key change, deactivation, and what is told of them
//! - tickets: minting, spending, what is bound to them, and a crash in between
//! - algorithms: an issuing key of each algorithm, from the order to the verified log
//! - log_key: the day on which a former log key is retired
//! - upkeep: clock, CRL, the box's own certificate
//! - witness: cosigning other logs, and what this log's own witnesses are believed
//! - succession: an issuing CA takes over from another
//! - start: a foreign log, foreign keys, a refused PIN

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod algorithms;
mod house;
mod issuance;
mod log_key;
mod petitioner;
mod registry;
mod renewal;
mod revocation;
mod shards;
mod start;
mod starts;
mod succession;
mod tickets;
mod upkeep;
mod witness;

use std::time::Duration;

use chancery::acme::problem::ProblemType;
use chancery::id::{LeafIndex, Serial};
use chancery::ipc::AskError;
use chancery::ipc::message::Answer;
use chancery::pki::certificate::Certificate;

const HOUR: Duration = Duration::from_secs(3600);

fn refused(answer: Result<Answer, AskError>) -> ProblemType {
    match answer {
        Err(AskError::Refused(problem)) => problem.kind,
        other => panic!("not refused: {other:?}"),
    }
}

fn certificate(answer: Result<Answer, AskError>) -> (Certificate, Serial, LeafIndex) {
    match answer {
        Ok(Answer::Certificate { der, serial, leaf, .. }) => {
            (Certificate::parse(&der).unwrap(), serial, leaf)
        }
        other => panic!("no certificate: {other:?}"),
    }
}
