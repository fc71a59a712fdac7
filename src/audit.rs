//! Reads a log and trusts nothing: verification, proofs, reports. Empty of power: it cannot write.

#[cfg(test)]
mod bench;
pub mod describe;
mod fields;
pub mod proof;
pub mod report;
pub mod verify;
