//! Looks at the network to see whether a challenge was answered. Returns observations, not verdicts.

pub mod address;
pub mod caa;
pub mod http01;
pub mod settings;

mod admission;
mod dns01;
mod location;
mod tls_alpn01;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::acme::challenge::{ChallengeType, RetryRule};
use crate::acme::jws::Thumbprint;
use crate::acme::problem::{Problem, ProblemType};
use crate::env::net::{Connection, ResolveError};
use crate::env::{BoxFuture, Dialer, Resolver};
use crate::id::{AccountId, Timestamp};
use crate::pki::name::{DnsName, Identifier};
use address::Rules;
use admission::Admission;

pub use caa::CaaQuestion;
pub use settings::{Settings, ZoneServers};

/// What one attempt looks for.
#[derive(Clone)]
pub struct Attempt {
    pub kind: ChallengeType,
    /// Without `*.`.
    pub identifier: Identifier,
    /// Whether `*.` stood before it in the order.
    pub wildcard: bool,
    /// Whether it shall stand for every name below as well (RFC 9444).
    pub subdomains: bool,
    pub token: String,
    pub key_authorization: String,
    pub asker: Asker,
    pub now: Timestamp,
}

/// Who wants to prove it.
#[derive(Clone, Debug)]
pub struct Asker {
    pub id: AccountId,
    pub url: String,
    /// Of every key the account has or had, the current one first.
    pub thumbprints: Vec<Thumbprint>,
    /// The directory's `accountHashPrefix`.
    pub hash_prefix: String,
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
    /// The expected response.
    Matched {
        /// The address that gave it; none if DNS did.
        from: Option<IpAddr>,
        /// When what was seen stops to prove anything (dns-persist-01); none: it does not by itself.
        until: Option<Timestamp>,
    },
    /// Anything else; the problem is fit for the client and quotes nothing that was read.
    Failed(Problem),
}

/// Runs attempts. Shared by all flows.
pub struct Validator {
    settings: Settings,
    rules: Rules,
    offered: Vec<ChallengeType>,
    caa_zones: Vec<Option<DnsName>>,
    resolver: Arc<dyn Resolver>,
    dialer: Arc<dyn Dialer>,
    tls: tokio_rustls::TlsConnector,
    alpn: tls_alpn01::Alpn,
    admission: Arc<Admission>,
}

impl Validator {
    /// Checks the settings; the error is for the operator and names the key.
    pub fn new(
        settings: Settings,
        resolver: Arc<dyn Resolver>,
        dialer: Arc<dyn Dialer>,
    ) -> Result<Self, String> {
        let settings::Parsed { rules, offered, caa_zones } = settings
            .parse()
            .map_err(|bad| format!("CHY-CONFIG-VALUE: [validation] {} {}", bad.key, bad.why))?;
        let no_tls = |why| format!("CHY-CONFIG-VALUE: TLS towards devices: {why}");
        let tls = http01::tls_connector().map_err(no_tls)?;
        let alpn = tls_alpn01::Alpn::new().map_err(no_tls)?;
        let admission = Admission::new(settings.concurrency);
        Ok(Self { settings, rules, offered, caa_zones, resolver, dialer, tls, alpn, admission })
    }

    /// The challenge types to offer, the preferred one first.
    pub fn offered(&self) -> &[ChallengeType] {
        &self.offered
    }

    /// The names by which CAA records mean this server.
    pub fn caa_identities(&self) -> &[String] {
        &self.settings.caa_identities
    }

    /// The names by which records of dns-persist-01 mean this server; none if that is not offered.
    pub fn issuer_domain_names(&self) -> &[String] {
        match self.offered.contains(&ChallengeType::DnsPersist01) {
            true => &self.settings.caa_identities,
            false => &[],
        }
    }

    /// Waits until it is the account's turn, then looks for at most `total-timeout-seconds`.
    pub fn attempt(&self, attempt: Attempt) -> BoxFuture<'_, Observation> {
        Box::pin(async move {
            let Some(_permit) = self.admission.permit(attempt.asker.id).await else {
                let detail = "the server is shutting down";
                return Observation::Failed(Problem::new(ProblemType::ServerInternal, detail));
            };
            let limit = Duration::from_secs(self.settings.total_timeout_seconds);
            let looked = tokio::time::timeout(limit, self.look(&attempt)).await;
            let problem = match looked {
                Ok(Ok((from, until))) => {
                    tracing::debug!(identifier = %attempt.identifier, ?from, "challenge matched");
                    return Observation::Matched { from, until };
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

    /// Whether CAA still permits issuance: to be asked again for a proof that is hours old. Takes no longer
    /// than an attempt.
    pub async fn check_caa(&self, question: &CaaQuestion) -> Result<(), Problem> {
        let limit = Duration::from_secs(self.settings.total_timeout_seconds);
        let checked = tokio::time::timeout(limit, caa::check(self, question)).await;
        checked.unwrap_or_else(|_| {
            let name = &question.identifier;
            let detail = format!(
                "looking up the CAA records of {name} took too long, which forbids issuance"
            );
            Err(Problem::new(ProblemType::Caa, detail))
        })
    }

    /// How often and in what rhythm attempts are repeated.
    pub fn retry_rule(&self) -> RetryRule {
        let first = Duration::from_secs(self.settings.retry_seconds);
        RetryRule { attempts: self.settings.attempts, first, longest: first.max(LONGEST_RETRY) }
    }

    async fn look(
        &self,
        attempt: &Attempt,
    ) -> Result<(Option<IpAddr>, Option<Timestamp>), Problem> {
        if !self.offered.contains(&attempt.kind) {
            let detail = format!("this server no longer validates {}", attempt.kind);
            return Err(Problem::new(ProblemType::Unauthorized, detail));
        }
        let seen = match attempt.kind {
            ChallengeType::Http01 => (Some(http01::look(self, attempt).await?), None),
            ChallengeType::TlsAlpn01 => (Some(tls_alpn01::look(self, attempt).await?), None),
            ChallengeType::Dns01 | ChallengeType::DnsAccount01 | ChallengeType::DnsPersist01 => {
                (None, dns01::look(self, attempt).await?)
            }
            ChallengeType::DeviceAttest01 => {
                let detail = "this server does not validate challenges of this type";
                return Err(Problem::new(ProblemType::ServerInternal, detail));
            }
        };
        let question = CaaQuestion {
            identifier: attempt.identifier.clone(),
            wildcard: attempt.wildcard,
            account_url: attempt.asker.url.clone(),
            method: Some(attempt.kind),
        };
        caa::check(self, &question).await?;
        Ok(seen)
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
                let found = self.resolver.addresses(name.as_str()).await;
                found.map_err(|error| lookup_problem(&shown, error))?
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

/// What a client is told of a look-up that failed.
fn lookup_problem(shown: &str, error: ResolveError) -> Problem {
    let detail = match error {
        ResolveError::NoSuchName => format!("DNS: {shown} does not exist"),
        ResolveError::Timeout => format!("DNS: no server answered in time for {shown}"),
        ResolveError::TooManyRecords => {
            format!("DNS: {shown} has more records than this server reads")
        }
        ResolveError::TooManyAliases => {
            format!("DNS: {shown} is an alias (CNAME) of too many others, or of itself")
        }
        ResolveError::Multicast => {
            format!("DNS: {shown} is a name of multicast DNS, which has addresses only")
        }
        ResolveError::Failed(why) => {
            tracing::info!(name = shown, %why, "name does not resolve");
            format!("DNS: looking up {shown} failed")
        }
    };
    Problem::new(ProblemType::Dns, detail)
}

/// How a host is called that only a response named.
const REDIRECTED: &str = "the host that a redirect leads to";
/// A host with many addresses must not eat the whole attempt.
const MOST_PER_FAMILY: usize = 2;
const LONGEST_RETRY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
