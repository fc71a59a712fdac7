//! Looks at the network to see whether a challenge was answered. Returns observations, not verdicts.

pub mod address;
pub mod http01;

mod location;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::acme::challenge::{ChallengeType, RetryRule};
use crate::acme::problem::{Problem, ProblemType};
use crate::env::net::{Connection, ResolveError};
use crate::env::{BoxFuture, Dialer, Resolver};
use crate::pki::name::Identifier;
use address::Rules;

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
    /// CIDR networks that never are, whatever is allowed (CA and HSM networks). Link-local,
    /// multicast, unspecified, reserved and metadata addresses never are in any case, nor those
    /// that wrap an IPv4 address in an IPv6 one; loopback is not without `allow-loopback`.
    pub deny_networks: Vec<String>,
    /// Loopback addresses may be dialled without being listed. For labs only; refused in a
    /// production board.
    pub allow_loopback: bool,
    /// DNS servers by zone; zone `.` is the default. Empty: the system's.
    pub resolvers: Vec<ZoneServers>,
    /// Bounds one TCP connection attempt.
    pub connect_timeout_seconds: u64,
    /// Bounds one whole attempt, redirects included.
    pub total_timeout_seconds: u64,
    /// How often a challenge is attempted before it fails.
    pub attempts: u32,
    /// The wait before the second attempt; later ones wait longer.
    pub retry_seconds: u64,
    /// Attempts under way at once, over all accounts.
    pub concurrency: usize,
}

/// DNS servers for one zone.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ZoneServers {
    pub zone: String,
    pub servers: Vec<SocketAddr>,
}

impl Default for Settings {
    /// Ports 80 and 443, private networks, the system's DNS; ten seconds an attempt, five attempts
    /// that begin five seconds apart.
    fn default() -> Self {
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];
        Self {
            http_port: 80,
            tls_port: 443,
            redirect_ports: vec![80, 443],
            allow_networks: private.map(str::to_owned).to_vec(),
            deny_networks: Vec::new(),
            allow_loopback: false,
            resolvers: Vec::new(),
            connect_timeout_seconds: 3,
            total_timeout_seconds: 10,
            attempts: 5,
            retry_seconds: 5,
            concurrency: 64,
        }
    }
}

/// What one attempt looks for.
#[derive(Clone)]
pub struct Attempt {
    pub kind: ChallengeType,
    pub identifier: Identifier,
    pub token: String,
    pub key_authorization: String,
}

impl std::fmt::Debug for Attempt {
    /// Without token and key authorization: whoever reads a log need not know what a device serves.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attempt({:?} {})", self.kind, self.identifier)
    }
}

/// What it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The expected response, from this address.
    Matched { from: IpAddr },
    /// Anything else; the problem is fit for the client and quotes nothing that was read.
    Failed(Problem),
}

/// Runs attempts. Shared by all flows.
pub struct Validator {
    settings: Settings,
    rules: Rules,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    tls: tokio_rustls::TlsConnector,
    permits: Semaphore,
}

impl Validator {
    /// Checks the settings; the error is for the operator and names the key.
    pub fn new(
        settings: Settings,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, String> {
        for (key, zero) in [
            ("http-port", settings.http_port == 0),
            ("tls-port", settings.tls_port == 0),
            ("connect-timeout-seconds", settings.connect_timeout_seconds == 0),
            ("total-timeout-seconds", settings.total_timeout_seconds == 0),
            ("attempts", settings.attempts == 0),
            ("retry-seconds", settings.retry_seconds == 0),
            ("concurrency", settings.concurrency == 0),
        ] {
            if zero {
                return Err(format!("CHY-CONFIG-VALUE: [validation] {key} is 0; give it more"));
            }
        }
        let rules = Rules::new(&settings).map_err(|why| format!("CHY-CONFIG-VALUE: {why}"))?;
        let permits = Semaphore::new(settings.concurrency.min(Semaphore::MAX_PERMITS));
        let tls = http01::tls_connector()
            .map_err(|why| format!("CHY-CONFIG-VALUE: TLS towards devices: {why}"))?;
        Ok(Self { settings, rules, resolver, dialer, tls, permits })
    }

    /// Never takes longer than `total-timeout-seconds`, the wait for a permit included.
    pub fn attempt(&self, attempt: Attempt) -> BoxFuture<'_, Observation> {
        Box::pin(async move {
            let limit = Duration::from_secs(self.settings.total_timeout_seconds);
            let looked = tokio::time::timeout(limit, self.look(&attempt)).await;
            let problem = match looked {
                Ok(Ok(from)) => {
                    tracing::debug!(identifier = %attempt.identifier, %from, "challenge matched");
                    return Observation::Matched { from };
                }
                Ok(Err(problem)) => problem,
                Err(_) => Problem::new(
                    ProblemType::Connection,
                    format!(
                        "{} did not answer completely within {} seconds",
                        attempt.identifier,
                        limit.as_secs()
                    ),
                ),
            };
            tracing::debug!(identifier = %attempt.identifier, problem = %problem.detail, "challenge not matched");
            Observation::Failed(problem)
        })
    }

    /// How often and in what rhythm attempts are repeated.
    pub fn retry_rule(&self) -> RetryRule {
        let first = Duration::from_secs(self.settings.retry_seconds);
        RetryRule { attempts: self.settings.attempts, first, longest: first.max(LONGEST_RETRY) }
    }

    async fn look(&self, attempt: &Attempt) -> Result<IpAddr, Problem> {
        let _permit = self.permits.acquire().await.map_err(|_| {
            Problem::new(ProblemType::ServerInternal, "the server is shutting down")
        })?;
        match attempt.kind {
            ChallengeType::Http01 => http01::look(self, attempt).await,
            ChallengeType::Dns01
            | ChallengeType::TlsAlpn01
            | ChallengeType::DnsAccount01
            | ChallengeType::DnsPersist01
            | ChallengeType::DeviceAttest01 => Err(Problem::new(
                ProblemType::ServerInternal,
                "this server does not validate challenges of this type",
            )),
        }
    }

    /// The addresses of a host that may be dialled, in the order to dial them: at most
    /// [`MOST_PER_FAMILY`] of IPv6, then as many of IPv4.
    ///
    /// `asked_for` is what the client proves, as opposed to a host that a redirect named: only
    /// the former is repeated in a problem.
    async fn candidates(&self, host: &Identifier, asked_for: bool) -> Result<Vec<IpAddr>, Problem> {
        let shown = |text: &str| if asked_for { text.to_owned() } else { REDIRECTED.to_owned() };
        let addresses = match host {
            Identifier::Ip(address) => vec![*address],
            Identifier::Dns(name) => {
                let shown = shown(name.as_str());
                self.resolver.addresses(name.as_str()).await.map_err(|error| {
                    let detail = match error {
                        ResolveError::NoSuchName => format!("DNS: {shown} does not exist"),
                        ResolveError::Timeout => {
                            format!("DNS: no server answered in time for {shown}")
                        }
                        ResolveError::Failed(why) => {
                            tracing::info!(%name, %why, "name does not resolve");
                            format!("DNS: looking up {shown} failed")
                        }
                    };
                    Problem::new(ProblemType::Dns, detail)
                })?
            }
        };
        let shown = shown(&host.value());
        if addresses.is_empty() {
            return Err(Problem::new(ProblemType::Dns, format!("DNS: {shown} has no addresses")));
        }
        let mut allowed = Vec::new();
        for address in addresses {
            match self.rules.check(address) {
                Ok(()) => allowed.push(address),
                Err(why) => tracing::info!(%host, %address, %why, "address is not dialled"),
            }
        }
        if allowed.is_empty() {
            let kind =
                if asked_for { ProblemType::RejectedIdentifier } else { ProblemType::Unauthorized };
            return Err(Problem::new(
                kind,
                format!("{shown} has no address that this server may connect to"),
            ));
        }
        let six = allowed.iter().filter(|address| address.is_ipv6()).take(MOST_PER_FAMILY);
        let four = allowed.iter().filter(|address| address.is_ipv4()).take(MOST_PER_FAMILY);
        Ok(six.chain(four).copied().collect())
    }

    /// Connects to the first candidate that accepts: resolved here, vetted here, dialled here, so
    /// that no second look-up can lead elsewhere.
    async fn connect(
        &self,
        host: &Identifier,
        port: u16,
        asked_for: bool,
    ) -> Result<(IpAddr, Box<dyn Connection>), Problem> {
        let deadline = Duration::from_secs(self.settings.connect_timeout_seconds);
        let mut last = None;
        for address in self.candidates(host, asked_for).await? {
            match self.dialer.connect(SocketAddr::new(address, port), deadline).await {
                Ok(connection) => return Ok((address, connection)),
                Err(error) => {
                    tracing::debug!(%host, %address, port, %error, "connection failed");
                    last = Some((address, error));
                }
            }
        }
        let detail = match last {
            Some((address, error)) if asked_for => {
                let why = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => "the connection was refused",
                    std::io::ErrorKind::TimedOut => "no answer in time",
                    _ => "the connection failed",
                };
                format!("connecting to {host} at {address} port {port}: {why}")
            }
            _ => format!("connecting to {REDIRECTED} failed"),
        };
        Err(Problem::new(ProblemType::Connection, detail))
    }
}

/// How a host is called that only a response named.
const REDIRECTED: &str = "the host that a redirect leads to";
/// A host with many addresses must not eat the whole attempt.
const MOST_PER_FAMILY: usize = 2;
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
