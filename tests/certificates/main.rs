//! Certificates and CRLs as this CA writes them, judged by verifiers that are not ours: the openssl
//! command and rustls-webpki. Also leaves samples in `target/samples` (or `$CHANCERY_SAMPLES`) for the
//! linters of `tests/clients/lint-certificates.sh`.

#![allow(clippy::unwrap_used)]

mod algorithms;
mod authorities;
mod chain;
mod leaves;
mod revocation;
mod samples;
