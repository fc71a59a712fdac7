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
    /// The CAA records of `name` itself, CNAMEs followed; climbing is the caller's.
    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<CaaRecord>, ResolveError>>;
}

/// One CAA property (RFC 8659 section 4.1), its value as it stood in the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaRecord {
    /// Whoever does not know the tag must not issue.
    pub critical: bool,
    pub tag: String,
    pub value: Vec<u8>,
}

/// Why a question has no answer. All but `NoSuchName` are worth asking again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// NXDOMAIN.
    NoSuchName,
    /// More records than any honest answer has.
    TooManyRecords,
    /// A chain of CNAMEs that is longer than any honest one, or a ring of them.
    TooManyAliases,
    /// The name is one of multicast DNS, which knows addresses only.
    Multicast,
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
