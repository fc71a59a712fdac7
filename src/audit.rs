//! Reads a log and trusts nothing: verification, proofs, reports. Empty of power: it cannot write.

pub mod describe;
mod fields;
pub mod proof;
pub mod verify;
