//! The issuing CAs as clients see them: which one a certificate is of, and the chains it is handed out with.

use super::StartError;
use crate::pki::certificate::Certificate;

/// An issuing CA.
pub struct Issuing {
    /// What the box calls it; `NAME.der` is published.
    pub name: String,
    /// The line of issuing CAs that it stands in; of each the last issues.
    pub line: String,
    pub certificate: Certificate,
    /// What may stand behind a leaf, the usual first. All begin with this certificate, or one for its name and key.
    pub chains: Vec<Vec<Certificate>>,
}

/// All of them, oldest first.
pub(crate) struct Chains {
    issuers: Vec<Served>,
}

/// One of them.
pub(crate) struct Served {
    name: String,
    line: String,
    certificate: Certificate,
    /// In PEM.
    pub(crate) chains: Vec<String>,
}

impl Chains {
    pub(super) fn new(issuers: Vec<Issuing>) -> Result<Self, StartError> {
        let issuers = issuers.into_iter().map(|Issuing { name, line, certificate, chains }| {
            if chains.is_empty() || chains.len() > usize::from(u8::MAX) {
                let why = format!("{name}: more cross-certificates than can be counted, or none");
                return Err(StartError::Settings(why));
            }
            let pem = |chain: &Vec<Certificate>| chain.iter().map(Certificate::pem).collect();
            Ok(Served { name, line, certificate, chains: chains.iter().map(pem).collect() })
        });
        Ok(Self { issuers: issuers.collect::<Result<_, _>>()? })
    }

    /// The one that a certificate is of: by name and key id.
    pub(crate) fn of(&self, leaf: &Certificate) -> Option<&Served> {
        self.issuers.iter().find(|issuer| {
            leaf.issuer_der() == issuer.certificate.subject_der()
                && leaf.authority_key_id() == issuer.certificate.subject_key_id()
        })
    }

    /// Whether a key id (RFC 9773 section 4.1) is of one of them.
    pub(crate) fn knows(&self, key_id: &[u8]) -> bool {
        self.issuers.iter().any(|issuer| issuer.certificate.subject_key_id() == Some(key_id))
    }

    /// The one that issues in a line.
    pub(crate) fn newest(&self, line: &str) -> Option<&Served> {
        self.issuers.iter().rev().find(|issuer| issuer.line == line)
    }
}

impl Served {
    /// The file of its certificate below the base URL.
    pub(crate) fn file(&self) -> String {
        format!("{}.der", self.name)
    }

    /// Its end, which no certificate of it outlives.
    pub(crate) fn ends(&self) -> crate::id::Timestamp {
        self.certificate.validity().1
    }
}
