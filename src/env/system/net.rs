//! Name resolution and TCP as DNS and the operating system give them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::net::TcpStream;

use crate::env::BoxFuture;
use crate::env::net::{Connection, Dialer, ResolveError, Resolver};

/// Asks DNS servers, chosen by the zone of the name; the longest zone wins.
///
/// Every question goes to a server: nothing is cached, `/etc/hosts` is not read, no search domain
/// is appended. Truncated answers are asked for again over TCP. Names below `local` are asked like
/// any other, so they resolve where a DNS server knows them; multicast DNS is not spoken.
pub struct SystemResolver {
    zones: Vec<Zone>,
}

struct Zone {
    /// Without dots at its ends, lower case; empty for the default zone.
    suffix: String,
    servers: TokioResolver,
}

impl SystemResolver {
    /// Servers by zone; `.` is the default zone. Without a default zone, the system's servers
    /// (`/etc/resolv.conf`, read now and never again) answer what no zone covers.
    ///
    /// `timeout` bounds one question to one server, which is asked twice.
    pub fn new(zones: &[(String, Vec<SocketAddr>)], timeout: Duration) -> Result<Self, String> {
        let mut built = Vec::with_capacity(zones.len() + 1);
        for (zone, servers) in zones {
            let suffix = zone.trim_matches('.').to_ascii_lowercase();
            if servers.is_empty() {
                return Err(format!("CHY-CONFIG-VALUE: the DNS zone `{zone}` has no servers"));
            }
            if built.iter().any(|known: &Zone| known.suffix == suffix) {
                return Err(format!("CHY-CONFIG-VALUE: the DNS zone `{zone}` stands twice"));
            }
            let servers = servers.iter().map(|server| name_server(*server)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            built.push(Zone { suffix, servers: resolver(config, timeout)? });
        }
        if !built.iter().any(|zone| zone.suffix.is_empty()) {
            match hickory_resolver::system_conf::read_system_conf() {
                Ok((config, _)) => {
                    let servers = config.name_servers().to_vec();
                    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
                    let servers = resolver(config, timeout)?;
                    built.push(Zone { suffix: String::new(), servers });
                }
                // Enough for a box that validates only names of its zones, or none.
                Err(error) => tracing::warn!(
                    %error,
                    "CHY-DNS-SYSTEM: the system's DNS servers cannot be read; only names in configured zones will resolve"
                ),
            }
        }
        built.sort_by_key(|zone| std::cmp::Reverse(zone.suffix.len()));
        Ok(Self { zones: built })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, ResolveError> {
        let zone =
            self.zones.iter().find(|zone| covers(&zone.suffix, name)).ok_or_else(|| {
                ResolveError::Failed("no DNS server is configured for it".to_owned())
            })?;
        // With its final dot the name is absolute, and search domains do not apply.
        let name = Name::from_ascii(format!("{name}."))
            .map_err(|error| ResolveError::Failed(error.to_string()))?;
        match zone.servers.lookup(name, kind).await {
            Ok(found) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Err(error) if error.is_nx_domain() => Err(ResolveError::NoSuchName),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(NetError::Timeout) => Err(ResolveError::Timeout),
            Err(error) => Err(ResolveError::Failed(error.to_string())),
        }
    }
}

impl Resolver for SystemResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let (six, four) =
                tokio::join!(self.ask(name, RecordType::AAAA), self.ask(name, RecordType::A));
            merge(six, four)
        })
    }

    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, ResolveError>> {
        Box::pin(async move {
            let records = self.ask(name, RecordType::TXT).await?;
            let text = |data: RData| match data {
                RData::TXT(txt) => Some(txt.txt_data.concat()),
                _ => None,
            };
            Ok(records.into_iter().filter_map(text).collect())
        })
    }
}

/// Connects over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDialer;

impl Dialer for SystemDialer {
    fn connect(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            let stream = tokio::time::timeout(deadline, TcpStream::connect(address))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    }
}

/// One family's failure does not hide the other's addresses; without any, NXDOMAIN is the answer
/// that says most, since it holds for every record type.
fn merge(
    six: Result<Vec<RData>, ResolveError>,
    four: Result<Vec<RData>, ResolveError>,
) -> Result<Vec<IpAddr>, ResolveError> {
    let address = |data: RData| match data {
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        RData::A(a) => Some(IpAddr::V4(a.0)),
        _ => None,
    };
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for answer in [six, four] {
        match answer {
            Ok(records) => found.extend(records.into_iter().filter_map(address)),
            Err(error) => failures.push(error),
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    if failures.contains(&ResolveError::NoSuchName) {
        return Err(ResolveError::NoSuchName);
    }
    failures.into_iter().next().map_or(Ok(found), Err)
}

fn covers(suffix: &str, name: &str) -> bool {
    suffix.is_empty()
        || name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
    NameServerConfig::new(server.ip(), true, connections)
}

fn resolver(config: ResolverConfig, timeout: Duration) -> Result<TokioResolver, String> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.timeout = timeout;
    options.attempts = 2;
    options.edns0 = true;
    // A burst of validations must not run into the limit per connection.
    options.max_active_requests = 256;
    builder
        .build()
        .map_err(|error| format!("CHY-DNS-SYSTEM: the resolver cannot be built: {error}"))
}

#[cfg(test)]
mod tests;
