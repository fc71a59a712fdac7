//! PURE. X.509 as this CA practises it: names, keys, CSRs, profiles, policy, the rehearsal of a
//! certificate, its lints, its assembly, and CRLs. Bytes in, bytes or verdicts out; no file, no
//! socket, no clock, no key that signs.
//!
//! rcgen writes certificates, x509-cert reads them: the lints judge what an independent parser saw.

pub mod authority;
pub mod certificate;
pub mod constraint;
pub mod crl;
pub mod cross;
pub mod csr;
pub mod key;
pub mod lint;
pub mod name;
pub mod policy;
pub mod profile;
pub mod rehearse;
mod tlv;
pub mod uri;
