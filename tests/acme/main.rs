//! The ACME server by section of RFC 8555: a whole web process in this one, with the store in memory, a
//! software key behind the issuer's messages, and clients that speak over real sockets. Where the issuer decides, the
//! whole issuer of `tests/issuer` is behind them instead.
//!
//! - `requests`    section 6: the order of checks, nonces, errors
//! - `negative`    what a client must not do, from section 6.1 to 7.6
//! - `limits`      section 6.6: rate limits, admission after a power-up
//! - `directory`   sections 7.1.1, 7.2: directory and newNonce
//! - `accounts`    section 7.3
//! - `account_changes` sections 7.3.5 and 7.3.6: key change, deactivation
//! - `orders`      section 7.4: newOrder, finalize, certificates, restarts
//! - `dates`       section 7.4: notBefore and notAfter, with the whole issuer
//! - `challenges`  sections 7.5 and 8: authorizations, http-01 and its retries
//! - `preauthorization` sections 7.4.1 and 7.5.2
//! - `chains`      section 7.4.2, and the headers of section 7.1
//! - `renewal`     RFC 9773
//! - `revocation`  section 7.6, as far as it is the web process's: what reaches the issuer
//! - `subdomains`  RFC 9444
//! - `tickets`     section 7.3.4 and names bound to tickets, with the whole issuer
//! - `profiles`    draft-ietf-acme-profiles
//! - `methods`     section 8.4, RFC 8737, RFC 8738, CAA: every challenge but http-01, and wildcards
//! - `client`      the whole path with instant-acme
//! - `transport`   TLS, HTTP/2, limits, timeouts, shutdown
//! - `public`      published files, the page, probes

#![allow(clippy::unwrap_used, unreachable_pub)]

mod account_changes;
mod accounts;
mod chains;
mod challenges;
mod client;
mod dates;
mod directory;
/// A whole issuer, as `tests/issuer` has it, with keys in this process.
#[path = "../issuer"]
mod issuing {
    #[allow(dead_code, unused_imports)]
    pub(crate) mod house;
}
mod limits;
mod methods;
mod negative;
mod orders;
mod preauthorization;
mod profiles;
mod public;
mod renewal;
mod requests;
mod revocation;
mod subdomains;
mod support;
mod tickets;
#[path = "../support/tls_alpn.rs"]
#[allow(dead_code)]
mod tls_alpn;
mod transport;
