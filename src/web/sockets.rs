//! Which sockets are listened on: those that a service manager listens on for this process, and for addresses
//! that it has none for, sockets of our own.
//!
//! A given socket outlives this process: who connects while it restarts waits in the kernel's queue for the next
//! one. And whoever gave it had the privilege that ports below 1024 need, so this process needs none.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::Settings;

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// Listening sockets, there before anything else is started; no runtime is needed yet.
#[derive(Debug)]
pub struct Listeners {
    https: Vec<TcpListener>,
    http: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
}

/// The addresses really listened on, in the order of the settings; port 0 has become a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub metrics: Vec<SocketAddr>,
}

/// Why it cannot be listened as the settings say. `Display` is for the operator.
#[derive(Debug)]
pub enum BindError {
    Address {
        key: &'static str,
        address: SocketAddr,
        error: io::Error,
    },
    /// A given socket is for an address that no setting names.
    Surplus(SocketAddr),
    /// A given socket cannot be used.
    Unfit(io::Error),
}

impl BindError {
    /// Whether another process holds the address, perhaps not for long.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Address { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, address, error) = match self {
            Self::Address { key, address, error } => (key, address, error),
            Self::Surplus(address) => {
                return write!(
                    f,
                    "CHY-PORT-GIVEN: the service manager listens on {address} for this process, but neither [web] \
                     listen, listen-http nor listen-metrics is that address; let them and ListenStream= of \
                     chancery-web.socket (systemctl edit chancery-web.socket) say the same"
                );
            }
            Self::Unfit(error) => {
                return write!(
                    f,
                    "CHY-PORT-GIVEN: the service manager gave a socket that is no use here: {error}; see \
                     chancery-web.socket: TCP, Accept=no"
                );
            }
        };
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "another program listens there; stop it or choose another port"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 are chancery-web.socket's to listen on; start the shipped units, or choose another port"
            }
            io::ErrorKind::AddrNotAvailable => "this box has no such address",
            _ => "see the system's message",
        };
        write!(f, "CHY-PORT: cannot listen on {address} ([web] {key}): {error}; {hint}")
    }
}

impl std::error::Error for BindError {}

impl Listeners {
    /// Binds every address of the settings; connections queue until a server accepts them.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        Self::open(settings, &[])
    }

    /// Every address of the settings: by the socket that was given for it, else bound here. Fails where the settings
    /// have no use for a given socket: whoever connects to it would wait for ever.
    pub fn open(settings: &Settings, given: &[TcpListener]) -> Result<Self, BindError> {
        let mut given: Vec<Given<'_>> =
            given.iter().map(Given::new).collect::<Result<_, _>>().map_err(BindError::Unfit)?;
        let listeners = Self {
            https: open_all("listen", &settings.listen, &mut given)?,
            http: open_all("listen-http", &settings.listen_http, &mut given)?,
            metrics: open_all("listen-metrics", &settings.listen_metrics, &mut given)?,
        };
        match given.iter().find(|given| !given.used) {
            Some(surplus) => Err(BindError::Surplus(surplus.address)),
            None => Ok(listeners),
        }
    }

    /// What is listened on.
    pub fn addresses(&self) -> Addresses {
        let of = |listeners: &[TcpListener]| {
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
        };
        Addresses { https: of(&self.https), http: of(&self.http), metrics: of(&self.metrics) }
    }

    /// Hands them to the current runtime: https, http, metrics.
    pub(crate) fn start(self) -> io::Result<[Vec<tokio::net::TcpListener>; 3]> {
        let start = |sockets: Vec<TcpListener>| -> io::Result<Vec<tokio::net::TcpListener>> {
            sockets.into_iter().map(tokio::net::TcpListener::from_std).collect()
        };
        Ok([start(self.https)?, start(self.http)?, start(self.metrics)?])
    }
}

/// A socket of the service manager's.
struct Given<'a> {
    listener: &'a TcpListener,
    address: SocketAddr,
    /// Takes IPv4 and IPv6.
    both: bool,
    used: bool,
}

impl<'a> Given<'a> {
    fn new(listener: &'a TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        if !sockopt::socket_acceptconn(listener)? {
            return Err(io::Error::other(format!("{address} is not listened on")));
        }
        let both = address.is_ipv6() && !sockopt::ipv6_v6only(listener)?;
        Ok(Self { listener, address, both, used: false })
    }

    /// Whether it takes what is wanted, and nothing else: of all addresses of a box, IPv4's alone will do where
    /// there is no IPv6.
    fn is_for(&self, wanted: SocketAddr) -> bool {
        let any = |ip: IpAddr| ip.is_unspecified();
        self.address == wanted
            || (self.address.port() == wanted.port()
                && self.address.is_ipv4()
                && wanted.is_ipv6()
                && any(self.address.ip())
                && any(wanted.ip()))
    }
}

fn open_all(
    key: &'static str,
    addresses: &[SocketAddr],
    given: &mut [Given<'_>],
) -> Result<Vec<TcpListener>, BindError> {
    // `[::]` takes IPv4 too, unless `0.0.0.0` is asked for with the same port.
    let other = |address: &SocketAddr, is_ipv6: bool| {
        addresses.iter().find(|other| other.is_ipv6() == is_ipv6 && other.port() == address.port())
    };
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let failed = |error| BindError::Address { key, address: *address, error };
        if let Some(given) = given.iter_mut().find(|given| given.is_for(*address)) {
            given.used = true;
            let listener = given.listener.try_clone().map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            listeners.push(listener);
            continue;
        }
        // A given socket that takes both stands for both.
        let six =
            other(address, true).filter(|_| address.is_ipv4() && address.ip().is_unspecified());
        if six.is_some_and(|six| given.iter().any(|given| given.both && given.is_for(*six))) {
            continue;
        }
        let v6_only = address.is_ipv6() && other(address, false).is_some();
        listeners.push(bind(*address, v6_only).map_err(failed)?);
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, v6_only: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(net::ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if v6_only {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &[SocketAddr]) -> Settings {
        Settings {
            listen: listen.to_vec(),
            listen_http: Vec::new(),
            listen_metrics: Vec::new(),
            ..Settings::default()
        }
    }

    fn local() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_given_socket_stands_for_its_address() {
        let given = [local(), local()];
        let [first, second] = [&given[0], &given[1]].map(|it| it.local_addr().unwrap());
        let settings = Settings { listen_http: vec![second], ..settings(&[first]) };
        let listeners = Listeners::open(&settings, &given).unwrap();
        assert_eq!(listeners.addresses().https, [first]);
        assert_eq!(listeners.addresses().http, [second]);
        drop(listeners);
        // It goes on listening when its user is gone, and serves the next one.
        std::net::TcpStream::connect(first).unwrap();
        Listeners::open(&settings, &given).unwrap();
        // Bound by itself, the address is taken.
        let taken = Listeners::bind(&settings).unwrap_err();
        assert!(taken.is_in_use(), "{taken}");
    }

    #[test]
    fn a_socket_that_no_setting_names_is_refused() {
        let given = [local()];
        let refused = Listeners::open(&settings(&[]), &given).unwrap_err().to_string();
        let address = given[0].local_addr().unwrap();
        assert!(
            refused
                .starts_with(&format!("CHY-PORT-GIVEN: the service manager listens on {address}"))
        );
        // The loopback address is not every address.
        let any = SocketAddr::from(([0, 0, 0, 0], address.port()));
        assert!(!Given::new(&given[0]).unwrap().is_for(any));
    }

    #[test]
    fn every_ipv4_address_will_do_for_every_address_but_not_the_reverse() {
        let four = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = four.local_addr().unwrap().port();
        let given = Given::new(&four).unwrap();
        assert!(given.is_for(format!("[::]:{port}").parse().unwrap()));
        assert!(given.is_for(SocketAddr::from(([0, 0, 0, 0], port))));
        assert!(!given.is_for(SocketAddr::from(([10, 0, 0, 1], port))));
        drop(four);
        let Ok(six) = TcpListener::bind("[::]:0") else { return };
        let port = six.local_addr().unwrap().port();
        let (four, six) = (SocketAddr::from(([0, 0, 0, 0], port)), [six]);
        assert!(!Given::new(&six[0]).unwrap().is_for(four));
        // Both are wanted, one takes both.
        let both = settings(&[four, six[0].local_addr().unwrap()]);
        assert_eq!(Listeners::open(&both, &six).unwrap().addresses().https.len(), 1);
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let given = [TcpListener::from(socket)];
        let address = given[0].local_addr().unwrap();
        let refused = Listeners::open(&settings(&[address]), &given).unwrap_err();
        assert!(refused.to_string().starts_with("CHY-PORT-GIVEN"), "{refused}");
    }
}
