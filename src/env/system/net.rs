//! Name resolution and TCP as DNS, multicast DNS and the operating system give them.

mod dns;
pub mod mdns;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::net::TcpStream;

use crate::env::BoxFuture;
use crate::env::net::{CaaRecord, Connection, Dialer, ResolveError, Resolver};
use dns::Servers;
use mdns::MulticastDns;

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Resolving {
    /// DNS servers by zone; `.` is the default zone.
    pub zones: Vec<ZoneServers>,
    /// Interfaces on which names below `local` are asked by multicast DNS; none: they are asked of
    /// DNS servers like any other.
    pub multicast: Vec<String>,
    /// Bounds one question to one server, which is asked twice.
    pub timeout: Duration,
}

/// The DNS servers of one zone.
#[derive(Clone, Debug)]
pub struct ZoneServers {
    pub zone: String,
    pub servers: Vec<SocketAddr>,
    /// Ask over TCP from the start.
    pub tcp: bool,
}

/// Asks DNS servers, chosen by the zone of the name; the longest zone wins.
///
/// Every question goes to a server: nothing is cached, neither answers nor their absence,
/// `/etc/hosts` is not read, no search domain is appended. Truncated answers are asked for again
/// over TCP. A CNAME that leads into another zone is followed with that zone's servers.
///
/// Names below `local` are asked by multicast DNS if an interface is given for it and no zone of
/// the configuration covers them.
pub struct SystemResolver {
    zones: Vec<Zone>,
    multicast: Option<MulticastDns>,
}

struct Zone {
    /// Without dots at its ends, lower case; empty for the default zone.
    suffix: String,
    servers: Servers,
}

impl SystemResolver {
    /// Without a default zone, the system's servers (`/etc/resolv.conf`, read now and never again)
    /// answer what no zone covers.
    pub fn new(resolving: &Resolving) -> Result<Self, String> {
        let Resolving { zones, multicast, timeout } = resolving;
        let mut built = Vec::with_capacity(zones.len() + 1);
        for ZoneServers { zone, servers, tcp } in zones {
            let suffix = zone.trim_matches('.').to_ascii_lowercase();
            if servers.is_empty() {
                return Err(format!("CHY-CONFIG-VALUE: the DNS zone `{zone}` has no servers"));
            }
            if built.iter().any(|known: &Zone| known.suffix == suffix) {
                return Err(format!("CHY-CONFIG-VALUE: the DNS zone `{zone}` stands twice"));
            }
            built.push(Zone { suffix, servers: Servers::new(servers, *tcp, *timeout)? });
        }
        if !built.iter().any(|zone| zone.suffix.is_empty()) {
            match Servers::of_the_system(*timeout) {
                Ok(servers) => built.push(Zone { suffix: String::new(), servers }),
                // Enough for a box that validates only names of its zones, or none.
                Err(error) => tracing::warn!(
                    %error,
                    "CHY-DNS-SYSTEM: the system's DNS servers cannot be read; only names in configured zones will resolve"
                ),
            }
        }
        built.sort_by_key(|zone| std::cmp::Reverse(zone.suffix.len()));
        let multicast = match multicast.as_slice() {
            [] => None,
            interfaces => Some(MulticastDns::new(interfaces, *timeout)?),
        };
        Ok(Self { zones: built, multicast })
    }

    /// The zone whose servers know `name`.
    fn zone(&self, name: &str) -> Option<&Zone> {
        self.zones.iter().find(|zone| covers(&zone.suffix, name))
    }

    /// Whom to ask for a name by multicast DNS, if that is how it is asked.
    fn multicast(&self, name: &str) -> Option<&MulticastDns> {
        let configured = self.zone(name).is_some_and(|zone| !zone.suffix.is_empty());
        self.multicast.as_ref().filter(|_| covers("local", name) && !configured)
    }

    /// The records of one type, behind however many aliases are allowed.
    async fn ask(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, ResolveError> {
        let failed = |why: &dyn std::fmt::Display| ResolveError::Failed(why.to_string());
        // With its final dot the name is absolute.
        let mut wanted = Name::from_ascii(format!("{name}.")).map_err(|why| failed(&why))?;
        let mut aliases = 0;
        loop {
            let text = wanted.to_lowercase().to_ascii();
            let text = text.trim_end_matches('.');
            if self.multicast(text).is_some() {
                return Err(ResolveError::Multicast);
            }
            let zone = self.zone(text).ok_or_else(|| failed(&"no DNS server is configured"))?;
            let answers = zone.servers.ask(&wanted, kind).await?;
            if answers.len() > MOST_RECORDS {
                return Err(ResolveError::TooManyRecords);
            }
            let asked = wanted.clone();
            loop {
                let found: Vec<RData> = answers
                    .iter()
                    .filter(|record| record.name == wanted && record.record_type() == kind)
                    .map(|record| record.data.clone())
                    .collect();
                if !found.is_empty() {
                    return Ok(found);
                }
                let alias = answers.iter().find_map(|record| match &record.data {
                    RData::CNAME(target) if record.name == wanted => Some(target.0.clone()),
                    _ => None,
                });
                let Some(target) = alias else { break };
                aliases += 1;
                if aliases > MOST_ALIASES {
                    return Err(ResolveError::TooManyAliases);
                }
                wanted = target;
            }
            // An answer that leads nowhere further is the last word of the servers asked.
            if wanted == asked {
                return Ok(Vec::new());
            }
        }
    }
}

impl Resolver for SystemResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            if let Some(multicast) = self.multicast(name) {
                return multicast.addresses(name).await;
            }
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

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<CaaRecord>, ResolveError>> {
        Box::pin(async move {
            let records = self.ask(name, RecordType::CAA).await?;
            let property = |data: RData| match data {
                RData::CAA(caa) => Some(CaaRecord {
                    // Bit 0 is critical (RFC 8659 section 4.1.1); RFC 6844 as first published was read by
                    // some as meaning the lowest bit, and who set that meant the same.
                    critical: caa.issuer_critical || caa.reserved_flags & 1 != 0,
                    tag: caa.tag,
                    value: caa.value,
                }),
                _ => None,
            };
            Ok(records.into_iter().filter_map(property).collect())
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

/// CNAMEs followed in one look-up, within one answer or over several.
const MOST_ALIASES: usize = 8;
/// Records of one answer. A message of DNS has room for thousands.
const MOST_RECORDS: usize = 256;

#[cfg(test)]
mod tests;
