//! PKCS#11 URIs (RFC 7512): how configuration and key files name a token or a key.

/// A parsed URI. `pin-value` is refused: secrets do not belong in names.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pkcs11Uri {
    pub token: Option<String>,
    pub serial: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub object: Option<String>,
    pub id: Option<Vec<u8>>,
    pub object_type: Option<String>,
    pub module_path: Option<String>,
    pub pin_source: Option<String>,
}

impl Pkcs11Uri {
    pub fn parse(text: &str) -> Result<Self, String> {
        todo!()
    }
}

impl std::fmt::Display for Pkcs11Uri {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
