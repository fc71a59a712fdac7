//! What the configuration says about validation.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::address::Rules;
use crate::acme::challenge::ChallengeType;
use crate::pki::name::DnsName;

/// The `[validation]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Challenge types that are offered, by name, the preferred one first.
    pub challenges: Vec<String>,
    /// Port that http-01 starts at; 80 but in labs.
    pub http_port: u16,
    /// Port of tls-alpn-01; 443 but in labs.
    pub tls_port: u16,
    /// Ports that redirects may lead to.
    pub redirect_ports: Vec<u16>,
    /// CIDR networks whose addresses may be dialled.
    pub allow_networks: Vec<String>,
    /// CIDR networks that never are, whatever is allowed (CA and HSM networks). Link-local,
    /// multicast, unspecified, reserved and metadata addresses never are in any case, nor those
    /// that wrap an IPv4 address in an IPv6 one; loopback is not without `allow-loopback`.
    pub deny_networks: Vec<String>,
    /// Loopback addresses may be dialled without being listed. For labs only; refused in a
    /// production board.
    pub allow_loopback: bool,
    /// DNS servers by zone; zone `.` is the default. Empty: the system's.
    pub resolvers: Vec<ZoneServers>,
    /// Interfaces on which names below `local` are asked by multicast DNS. None: they are asked of DNS servers,
    /// as are those that a zone of `resolvers` covers.
    pub mdns_interfaces: Vec<String>,
    /// Zones whose CAA records are obeyed; `.` is all.
    pub caa_zones: Vec<String>,
    /// The names by which CAA records, and those of dns-persist-01, mean this server.
    pub caa_identities: Vec<String>,
    /// Bounds one TCP connection attempt.
    pub connect_timeout_seconds: u64,
    /// Bounds one whole attempt, redirects included.
    pub total_timeout_seconds: u64,
    /// How often a challenge is attempted before it fails.
    pub attempts: u32,
    /// The wait before the second attempt; later ones wait longer.
    pub retry_seconds: u64,
    /// Attempts under way at once, over all accounts; one account has at most half of them.
    pub concurrency: usize,
}

/// DNS servers for one zone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ZoneServers {
    pub zone: String,
    pub servers: Vec<SocketAddr>,
    /// Ask over TCP from the start.
    #[serde(default)]
    pub tcp: bool,
}

impl Default for Settings {
    /// What RFCs define, on ports 80 and 443, private networks, the system's DNS; ten seconds an attempt, five attempts
    /// that begin five seconds apart.
    fn default() -> Self {
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        let offered = ["http-01", "dns-01", "tls-alpn-01"];
        Self {
            challenges: offered.map(str::to_owned).to_vec(),
            http_port: 80,
            tls_port: 443,
            redirect_ports: vec![80, 443],
            allow_networks: private.map(str::to_owned).to_vec(),
            deny_networks: Vec::new(),
            allow_loopback: false,
            resolvers: Vec::new(),
            mdns_interfaces: Vec::new(),
            caa_zones: Vec::new(),
            caa_identities: Vec::new(),
            connect_timeout_seconds: 3,
            total_timeout_seconds: 10,
            attempts: 5,
            retry_seconds: 5,
            concurrency: 64,
        }
    }
}

/// A setting that cannot work: its key, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting {
    pub key: &'static str,
    pub why: String,
}

/// The settings, parsed.
pub(super) struct Parsed {
    pub(super) rules: Rules,
    pub(super) offered: Vec<ChallengeType>,
    /// `None` is the root: every zone.
    pub(super) caa_zones: Vec<Option<DnsName>>,
}

impl Settings {
    /// Whether everything here can work.
    pub fn check(&self) -> Result<(), BadSetting> {
        self.parse().map(drop)
    }

    pub(super) fn parse(&self) -> Result<Parsed, BadSetting> {
        let bad = |key, why: String| Err(BadSetting { key, why });
        for (key, zero) in [
            ("http-port", self.http_port == 0),
            ("tls-port", self.tls_port == 0),
            ("connect-timeout-seconds", self.connect_timeout_seconds == 0),
            ("total-timeout-seconds", self.total_timeout_seconds == 0),
            ("attempts", self.attempts == 0),
            ("retry-seconds", self.retry_seconds == 0),
            ("concurrency", self.concurrency == 0),
        ] {
            if zero {
                return bad(key, "is 0; give it more".to_owned());
            }
        }
        let mut offered = Vec::new();
        for name in &self.challenges {
            match ChallengeType::parse(name) {
                Some(kind) if !offered.contains(&kind) => offered.push(kind),
                Some(_) => return bad("challenges", format!("has `{name}` twice")),
                None => {
                    let known = ChallengeType::VALIDATED.map(ChallengeType::name).join(", ");
                    let why = format!("has `{name}`, which is none of {known}");
                    return bad("challenges", why);
                }
            }
        }
        if offered.is_empty() {
            return bad("challenges", "is empty: nothing could be proven".to_owned());
        }
        let canonical =
            |name: &str| DnsName::parse(name).is_ok_and(|parsed| parsed.as_str() == name);
        if let Some(name) =
            self.caa_identities.iter().find(|name| !canonical(name) || name.starts_with("*."))
        {
            let why = format!("has `{name}`, which is no domain name in lower case");
            return bad("caa-identities", why);
        }
        // draft-ietf-acme-dns-persist-02 section 3.1: clients refuse more than ten.
        let persists = offered.contains(&ChallengeType::DnsPersist01);
        if self.caa_identities.len() > 10 {
            return bad("caa-identities", "has more than ten names".to_owned());
        }
        if self.caa_identities.is_empty() && (persists || !self.caa_zones.is_empty()) {
            let why = "is empty; CAA records and those of dns-persist-01 must name this server";
            return bad("caa-identities", why.to_owned());
        }
        let mut caa_zones = Vec::new();
        for zone in &self.caa_zones {
            match zone.as_str() {
                "." => caa_zones.push(None),
                name => match DnsName::parse(name) {
                    Ok(name) if !name.is_wildcard() => caa_zones.push(Some(name)),
                    _ => return bad("caa-zones", format!("has `{name}`, which is no domain name")),
                },
            }
        }
        let rules = Rules::new(self)?;
        Ok(Parsed { rules, offered, caa_zones })
    }
}
