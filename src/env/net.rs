//! The network seam for validation: resolve a name, dial an address that was vetted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::BoxFuture;

/// Answers DNS questions from the servers it was built for; caches nothing.
pub trait Resolver: Send + Sync {
    /// Addresses of `name` (an A-label name without trailing dot), IPv6 first. Empty means the
    /// name exists without addresses.
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
    /// The TXT records of `name`, each with its character-strings joined, CNAMEs followed.
    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, ResolveError>>;
}

/// Why a question has no answer. All but `NoSuchName` are worth asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// NXDOMAIN.
    NoSuchName,
    /// No server answered in time.
    Timeout,
    /// SERVFAIL, REFUSED, or an answer that does not parse; the text is for the operator.
    Failed(String),
}

/// Opens TCP connections to exactly the address it is given; resolves nothing itself.
pub trait Dialer: Send + Sync {
    /// Connects within `deadline`.
    fn connect(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, io::Result<Box<dyn Connection>>>;
}

/// A connected byte stream.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}
