//! Looks at the network to see whether a challenge was answered. Returns observations, not verdicts.

pub mod address;
pub mod http01;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::acme::challenge::ChallengeType;
use crate::acme::problem::Problem;
use crate::env::{BoxFuture, Dialer, Resolver};
use crate::pki::name::Identifier;

/// The `[validation]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Port that http-01 starts at; 80 but in labs.
    pub http_port: u16,
    /// Port of tls-alpn-01; 443 but in labs.
    pub tls_port: u16,
    /// Ports that redirects may lead to.
    pub redirect_ports: Vec<u16>,
    /// CIDR networks whose addresses may be dialled.
    pub allow_networks: Vec<String>,
    /// CIDR networks that never are, whatever is allowed (CA and HSM networks). Loopback, link-local,
    /// multicast and unspecified addresses are denied too unless `allow-loopback`.
    pub deny_networks: Vec<String>,
    /// For labs only; refused in a production board.
    pub allow_loopback: bool,
    /// DNS servers by zone; zone `.` is the default. Empty: the system's.
    pub resolvers: Vec<ZoneServers>,
    pub connect_timeout_seconds: u64,
    /// Bounds one whole attempt, redirects included.
    pub total_timeout_seconds: u64,
    pub attempts: u32,
    pub retry_seconds: u64,
    /// Attempts under way at once, over all accounts.
    pub concurrency: usize,
}

/// DNS servers for one zone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ZoneServers {
    pub zone: String,
    pub servers: Vec<std::net::SocketAddr>,
}

impl Default for Settings {
    fn default() -> Self {
        todo!()
    }
}

/// What one attempt looks for.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub kind: ChallengeType,
    pub identifier: Identifier,
    pub token: String,
    pub key_authorization: String,
}

/// What it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The expected response, from this address.
    Matched { from: std::net::IpAddr },
    /// Anything else; the problem is fit for the client and quotes nothing that was read.
    Failed(Problem),
}

/// Runs attempts. Shared by all flows.
pub struct Validator {
    _private: (),
}

impl Validator {
    pub fn new(
        settings: Settings,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, String> {
        todo!()
    }
    /// Never takes longer than `total-timeout-seconds`.
    pub fn attempt(&self, attempt: Attempt) -> BoxFuture<'_, Observation> {
        todo!()
    }
    pub fn retry_rule(&self) -> crate::acme::challenge::RetryRule {
        let _: Duration;
        todo!()
    }
}
