//! One zone's DNS servers, asked one question at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, Record, RecordType};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use crate::env::net::ResolveError;

/// Servers that all know the same.
pub(super) struct Servers(NameServerPool<TokioRuntimeProvider>);

impl Servers {
    /// `tcp`: over TCP from the start, where a spoofed datagram cannot answer.
    pub(super) fn new(
        servers: &[SocketAddr],
        tcp: bool,
        timeout: Duration,
    ) -> Result<Self, String> {
        Self::of(servers.iter().map(|server| name_server(*server, tcp)).collect(), timeout)
    }

    /// Those of `/etc/resolv.conf`.
    pub(super) fn of_the_system(timeout: Duration) -> Result<Self, String> {
        let (config, _) = hickory_resolver::system_conf::read_system_conf()
            .map_err(|error| format!("CHY-DNS-SYSTEM: /etc/resolv.conf: {error}"))?;
        Self::of(config.name_servers().to_vec(), timeout)
    }

    fn of(servers: Vec<NameServerConfig>, timeout: Duration) -> Result<Self, String> {
        let mut options = ResolverOpts::default();
        options.cache_size = 0;
        options.timeout = timeout;
        options.attempts = 2;
        options.edns0 = true;
        // A burst of validations must not run into the limit per connection.
        options.max_active_requests = 256;
        let tls = TlsConfig::new()
            .map_err(|error| format!("CHY-DNS-SYSTEM: the resolver cannot be built: {error}"))?;
        let context = Arc::new(PoolContext::new(options, tls));
        Ok(Self(NameServerPool::from_config(servers, context, TokioRuntimeProvider::default())))
    }

    /// The answer section, whatever is in it; empty if the name has no records of this type.
    pub(super) async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
    ) -> Result<Vec<Record>, ResolveError> {
        let mut options = DnsRequestOptions::default();
        options.use_edns = true;
        options.recursion_desired = true;
        let query = Query::query(name.clone(), kind);
        match self.0.lookup(query, options).first_answer().await {
            Ok(response) => Ok(response.into_message().answers),
            Err(error) if error.is_nx_domain() => Err(ResolveError::NoSuchName),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(NetError::Timeout) => Err(ResolveError::Timeout),
            Err(error) => Err(ResolveError::Failed(error.to_string())),
        }
    }
}

fn name_server(server: SocketAddr, tcp: bool) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    let mut connections = vec![on_port(ConnectionConfig::tcp())];
    if !tcp {
        connections.insert(0, on_port(ConnectionConfig::udp()));
    }
    NameServerConfig::new(server.ip(), true, connections)
}
