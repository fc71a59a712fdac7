//! Certificate profiles: what a leaf is allowed to be, from `firmware-config/profile/*.toml`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::authority::Authority;
use super::key::KeyKind;
use super::name::{DnsName, Identifier};
use super::policy::Network;

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
    /// Key kinds accepted: `ec-p256`, `ec-p384`, `ec-p521`, `rsa-2048`, `rsa-3072`, `rsa-4096`, `ed25519`, `ml-dsa-44`,
    /// `ml-dsa-65`, `ml-dsa-87`.
    pub keys: Vec<String>,
    /// At most this many identifiers in a certificate.
    pub max_names: usize,
    /// Whether the subject carries the first SAN that fits as CN; else the subject is empty and the SAN critical.
    pub common_name: bool,
    /// DNS suffixes: a name must equal one or be below it, and within the policy besides. With neither
    /// suffixes nor networks the policy alone decides; with one kind alone the other is not certified.
    #[serde(default)]
    pub allow_names: Vec<DnsName>,
    /// Networks, likewise.
    #[serde(default)]
    pub allow_networks: Vec<Network>,
    /// Challenge types by their registered names that may prove a name for it; empty: every type offered.
    #[serde(default)]
    pub challenges: Vec<String>,
    /// Whether the certificate says that it is never revoked (RFC 9608), and so names no CRL.
    #[serde(default)]
    pub no_rev_avail: bool,
    /// The line of issuing CAs that signs it: of each line the newest issues.
    #[serde(default = "first_line")]
    pub issuer: String,
}

/// The line that the first ceremony begins.
fn first_line() -> String {
    Authority::FIRST_ISSUING.to_owned()
}

/// Why a name is outside a profile; `Display` is fit for a problem document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutOfProfile {
    /// Neither suffix nor network of the profile covers it.
    NotAllowed { profile: String, identifier: Identifier },
    /// A wildcard names servers and nothing else (RFC 9525 section 6.3).
    Wildcard { profile: String, identifier: Identifier },
}

impl fmt::Display for OutOfProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed { profile, identifier } => {
                write!(f, "{identifier} is outside the names of profile {profile}")
            }
            Self::Wildcard { profile, identifier } => {
                write!(
                    f,
                    "{identifier}: a wildcard names servers, and profile {profile} is not for them alone"
                )
            }
        }
    }
}

impl std::error::Error for OutOfProfile {}

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
    /// The longest lifetime of a certificate that cannot be revoked: ten days, in hours.
    pub const MAX_UNREVOCABLE_HOURS: u32 = 10 * 24;
    /// The spelling of every key kind.
    pub const KEYS: [(&'static str, KeyKind); 10] = [
        ("ec-p256", KeyKind::EcP256),
        ("ec-p384", KeyKind::EcP384),
        ("ec-p521", KeyKind::EcP521),
        ("rsa-2048", KeyKind::Rsa(2048)),
        ("rsa-3072", KeyKind::Rsa(3072)),
        ("rsa-4096", KeyKind::Rsa(4096)),
        ("ed25519", KeyKind::Ed25519),
        ("ml-dsa-44", KeyKind::MlDsa44),
        ("ml-dsa-65", KeyKind::MlDsa65),
        ("ml-dsa-87", KeyKind::MlDsa87),
    ];
    /// How many of them, from the first, a profile takes that names none of its own: ML-DSA must be asked for.
    const USUAL_KEYS: usize = 7;

    /// The built-in default: `server`, 90 days, 60 minutes' backdating, every supported key kind but ML-DSA,
    /// an empty subject.
    pub fn server() -> Self {
        Self {
            name: "server".to_owned(),
            description: "TLS servers on this network, 90 days".to_owned(),
            lifetime_hours: 90 * 24,
            backdate_minutes: Self::MAX_BACKDATE_MINUTES,
            usages: vec![ExtendedUsage::Server],
            keys: Self::KEYS[..Self::USUAL_KEYS]
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect(),
            max_names: Self::MAX_NAMES,
            common_name: false,
            allow_names: Vec::new(),
            allow_networks: Vec::new(),
            challenges: Vec::new(),
            no_rev_avail: false,
            issuer: first_line(),
        }
    }

    /// Whether the values make sense together; the text names the key and its limits.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty()
            || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        {
            return Err(format!("name: {:?} is not letters, digits, - and _", self.name));
        }
        if self.issuer.is_empty() {
            return Err("issuer: the name of a line of issuing CAs".to_owned());
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
        if let Some(wildcard) = self.allow_names.iter().find(|name| name.is_wildcard()) {
            let base = wildcard.base();
            return Err(format!("allow-names: write {base}; names below it are covered"));
        }
        if self.no_rev_avail && self.lifetime_hours > Self::MAX_UNREVOCABLE_HOURS {
            return Err(format!(
                "no-rev-avail: only where lifetime-hours is at most {}",
                Self::MAX_UNREVOCABLE_HOURS
            ));
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

    /// Whether a certificate of this profile may name `identifier`; the policy is asked besides.
    pub fn permits(&self, identifier: &Identifier) -> Result<(), OutOfProfile> {
        let (profile, identifier) = (self.name.clone(), identifier.clone());
        if identifier.is_wildcard() && !self.is_for_servers_alone() {
            return Err(OutOfProfile::Wildcard { profile, identifier });
        }
        let unlimited = self.allow_names.is_empty() && self.allow_networks.is_empty();
        let covered = match &identifier {
            Identifier::Dns(name) => self.allow_names.iter().any(|suffix| name.is_within(suffix)),
            Identifier::Ip(address) => self.allow_networks.iter().any(|n| n.contains(*address)),
        };
        if unlimited || covered {
            return Ok(());
        }
        Err(OutOfProfile::NotAllowed { profile, identifier })
    }

    /// Whether a challenge of this registered name may prove a name for it.
    pub fn accepts_challenge(&self, name: &str) -> bool {
        self.challenges.is_empty() || self.challenges.iter().any(|challenge| challenge == name)
    }

    /// Whether its certificates name servers and nothing else.
    pub fn is_for_servers_alone(&self) -> bool {
        self.usages.iter().all(|usage| *usage == ExtendedUsage::Server)
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
        for (name, kind) in Profile::KEYS {
            assert_eq!(kind.to_string(), name);
            assert_eq!(profile.accepts(kind), !name.starts_with("ml-dsa"), "{name}");
        }
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
    fn names_of_its_own_are_judged_by_label_and_network() {
        let id = |text: &str| {
            let kind = if text.parse::<std::net::IpAddr>().is_ok() { "ip" } else { "dns" };
            Identifier::parse(kind, text).unwrap()
        };
        let all = Profile::server();
        assert_eq!(all.permits(&id("a.lan")), Ok(()));
        assert_eq!(all.permits(&id("*.a.lan")), Ok(()));
        assert_eq!(all.permits(&id("10.0.0.1")), Ok(()));
        let own =
            Profile { allow_names: vec![DnsName::parse("print.lan").unwrap()], ..all.clone() };
        for (name, good) in [
            ("print.lan", true),
            ("a.b.print.lan", true),
            ("*.print.lan", true),
            ("blueprint.lan", false),
            ("lan", false),
            ("print.lan.b", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(own.permits(&id(name)).is_ok(), good, "{name}");
        }
        let network = Network::parse("10.1.0.0/16").unwrap();
        let addresses = Profile { allow_networks: vec![network], ..all.clone() };
        assert_eq!(addresses.permits(&id("10.1.2.3")), Ok(()));
        for name in ["10.2.0.1", "a.lan"] {
            let why = addresses.permits(&id(name)).unwrap_err();
            assert!(why.to_string().contains(name) && why.to_string().contains("server"), "{why}");
        }
        let clients = Profile { usages: vec![ExtendedUsage::Server, ExtendedUsage::Client], ..all };
        assert!(matches!(clients.permits(&id("*.a.lan")), Err(OutOfProfile::Wildcard { .. })));
        assert_eq!(clients.permits(&id("a.lan")), Ok(()));
    }

    #[test]
    fn challenges_are_those_listed_or_all() {
        let all = Profile::server();
        let one = Profile { challenges: vec!["dns-01".to_owned()], ..Profile::server() };
        assert!(all.accepts_challenge("http-01") && one.accepts_challenge("dns-01"));
        assert!(!one.accepts_challenge("http-01"));
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
            (
                Profile { allow_names: vec![DnsName::parse("*.lan").unwrap()], ..good.clone() },
                "allow-names",
            ),
            (Profile { no_rev_avail: true, ..good.clone() }, "no-rev-avail"),
        ] {
            let why = bad.check().unwrap_err();
            assert!(why.starts_with(&format!("{key}:")), "{why}");
        }
    }
}
