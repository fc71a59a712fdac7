//! Judges a TBSCertificate as x509-cert parsed it. Each lint has a certificate in the tests that
//! only it refuses.

/// One lint's refusal: its stable name and what it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub lint: &'static str,
    pub saw: String,
}
