//! Certificate profiles: what a leaf is allowed to be, from `firmware-config/profile/*.toml`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

use super::key::KeyKind;

/// One profile, as written in its file. Unknown keys are refused by `config`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// The name clients ask for (draft-ietf-acme-profiles).
    pub name: String,
    /// One line for people, shown in the directory.
    pub description: String,
    /// Lifetime of a leaf in hours; notAfter is inclusive: notBefore + lifetime − 1 s.
    pub lifetime_hours: u32,
    /// How far notBefore lies in the past, in minutes, at most 60.
    pub backdate_minutes: u32,
    /// Purposes, each one of `server`, `client`, `code-signing`.
    pub usages: Vec<ExtendedUsage>,
    /// Key kinds accepted: `ec-p256`, `ec-p384`, `ec-p521`, `rsa-2048`, `rsa-3072`, `rsa-4096`, `ed25519`.
    pub keys: Vec<String>,
    /// At most this many identifiers in a certificate.
    pub max_names: usize,
    /// Whether the subject carries the first SAN that fits as CN; else the subject is empty and the SAN critical.
    pub common_name: bool,
}

/// An extended key usage purpose. Order is stored: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtendedUsage {
    Server,
    Client,
    CodeSigning,
}

impl ExtendedUsage {
    /// The KeyPurposeId, dotted (RFC 5280 section 4.2.1.12).
    pub fn oid(self) -> &'static str {
        match self {
            Self::Server => "1.3.6.1.5.5.7.3.1",
            Self::Client => "1.3.6.1.5.5.7.3.2",
            Self::CodeSigning => "1.3.6.1.5.5.7.3.3",
        }
    }
}

impl Profile {
    /// The furthest a profile may backdate, in minutes.
    pub const MAX_BACKDATE_MINUTES: u32 = 60;
    /// The most names a profile may allow in one certificate: what fits a log leaf with room to spare.
    pub const MAX_NAMES: usize = 100;
    /// The longest lifetime: ten years, in hours.
    pub const MAX_LIFETIME_HOURS: u32 = 10 * 366 * 24;
    /// The spelling of every key kind.
    pub const KEYS: [(&'static str, KeyKind); 7] = [
        ("ec-p256", KeyKind::EcP256),
        ("ec-p384", KeyKind::EcP384),
        ("ec-p521", KeyKind::EcP521),
        ("rsa-2048", KeyKind::Rsa(2048)),
        ("rsa-3072", KeyKind::Rsa(3072)),
        ("rsa-4096", KeyKind::Rsa(4096)),
        ("ed25519", KeyKind::Ed25519),
    ];

    /// The built-in default: `server`, 90 days, 60 minutes' backdating, every supported key kind,
    /// an empty subject.
    pub fn server() -> Self {
        Self {
            name: "server".to_owned(),
            description: "TLS servers on this network, 90 days".to_owned(),
            lifetime_hours: 90 * 24,
            backdate_minutes: Self::MAX_BACKDATE_MINUTES,
            usages: vec![ExtendedUsage::Server],
            keys: Self::KEYS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            max_names: Self::MAX_NAMES,
            common_name: false,
        }
    }

    /// Whether the values make sense together; the text names the key and its limits.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty()
            || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            return Err(format!("name: {:?} is not letters, digits, - and _", self.name));
        }
        if !(1..=Self::MAX_LIFETIME_HOURS).contains(&self.lifetime_hours) {
            return Err(format!("lifetime-hours: 1 to {}", Self::MAX_LIFETIME_HOURS));
        }
        if self.backdate_minutes > Self::MAX_BACKDATE_MINUTES {
            return Err(format!("backdate-minutes: at most {}", Self::MAX_BACKDATE_MINUTES));
        }
        if self.backdate_minutes >= self.lifetime_hours.saturating_mul(60) {
            return Err("backdate-minutes: less than the lifetime".to_owned());
        }
        if !(1..=Self::MAX_NAMES).contains(&self.max_names) {
            return Err(format!("max-names: 1 to {}", Self::MAX_NAMES));
        }
        let repeated = |i: usize| self.usages[..i].contains(&self.usages[i]);
        if self.usages.is_empty() || (0..self.usages.len()).any(repeated) {
            return Err("usages: at least one, none twice".to_owned());
        }
        if self.keys.is_empty() {
            return Err("keys: at least one kind".to_owned());
        }
        match self.keys.iter().find(|key| !Self::KEYS.iter().any(|(name, _)| name == key)) {
            Some(unknown) => Err(format!(
                "keys: {unknown:?} is none of {}",
                Self::KEYS.map(|(name, _)| name).join(", ")
            )),
            None => Ok(()),
        }
    }

    /// Whether a key of this kind may be certified.
    pub fn accepts(&self, kind: KeyKind) -> bool {
        Self::KEYS.iter().any(|(name, known)| *known == kind && self.keys.iter().any(|k| k == name))
    }

    /// The lifetime.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(u64::from(self.lifetime_hours) * 3600)
    }

    /// How far notBefore lies in the past.
    pub fn backdate(&self) -> Duration {
        Duration::from_secs(u64::from(self.backdate_minutes) * 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_sound_and_takes_every_key() {
        let profile = Profile::server();
        assert_eq!(profile.check(), Ok(()));
        assert!(Profile::KEYS.iter().all(|(_, kind)| profile.accepts(*kind)));
        assert!(!profile.accepts(KeyKind::Rsa(1024)));
    }

    #[test]
    fn only_listed_keys_are_accepted() {
        let profile = Profile { keys: vec!["rsa-3072".to_owned()], ..Profile::server() };
        assert!(profile.accepts(KeyKind::Rsa(3072)));
        assert!(!profile.accepts(KeyKind::Rsa(2048)));
        assert!(!profile.accepts(KeyKind::EcP256));
    }

    #[test]
    fn each_limit_names_its_key() {
        let good = Profile::server();
        for (bad, key) in [
            (Profile { name: "a b".to_owned(), ..good.clone() }, "name"),
            (Profile { lifetime_hours: 0, ..good.clone() }, "lifetime-hours"),
            (Profile { backdate_minutes: 61, ..good.clone() }, "backdate-minutes"),
            (
                Profile { lifetime_hours: 1, backdate_minutes: 60, ..good.clone() },
                "backdate-minutes",
            ),
            (Profile { max_names: 0, ..good.clone() }, "max-names"),
            (Profile { max_names: 101, ..good.clone() }, "max-names"),
            (Profile { usages: Vec::new(), ..good.clone() }, "usages"),
            (Profile { usages: vec![ExtendedUsage::Client; 2], ..good.clone() }, "usages"),
            (Profile { keys: Vec::new(), ..good.clone() }, "keys"),
            (Profile { keys: vec!["ec-p257".to_owned()], ..good.clone() }, "keys"),
        ] {
            let why = bad.check().unwrap_err();
            assert!(why.starts_with(&format!("{key}:")), "{why}");
        }
    }
}
