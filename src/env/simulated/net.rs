//! A network of programmed answers and peers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::env::BoxFuture;
use crate::env::net::{CaaRecord, Connection, Dialer, ResolveError, Resolver};

type Answer<T> = Result<Vec<T>, ResolveError>;

/// Answers as programmed; a name that was not programmed does not exist.
///
/// Answers to one name are given in turn and the last is repeated, so that a name can point
/// somewhere else the second time it is asked.
#[derive(Debug, Default)]
pub struct SimulatedResolver {
    addresses: Mutex<HashMap<String, VecDeque<Answer<IpAddr>>>>,
    texts: Mutex<HashMap<String, VecDeque<Answer<Vec<u8>>>>>,
    properties: Mutex<HashMap<String, VecDeque<Answer<CaaRecord>>>>,
    asked: Mutex<Vec<String>>,
}

impl SimulatedResolver {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next answer for the addresses of `name`.
    pub fn answer(&self, name: &str, answer: Result<Vec<IpAddr>, ResolveError>) {
        locked(&self.addresses).entry(name.to_owned()).or_default().push_back(answer);
    }

    /// Adds the next answer for the TXT records of `name`.
    pub fn answer_txt(&self, name: &str, answer: Result<Vec<Vec<u8>>, ResolveError>) {
        locked(&self.texts).entry(name.to_owned()).or_default().push_back(answer);
    }

    /// Adds the next answer for the CAA records of `name`.
    pub fn answer_caa(&self, name: &str, answer: Result<Vec<CaaRecord>, ResolveError>) {
        locked(&self.properties).entry(name.to_owned()).or_default().push_back(answer);
    }

    /// Every name that was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }

    fn take<T: Clone>(
        &self,
        answers: &Mutex<HashMap<String, VecDeque<Answer<T>>>>,
        name: &str,
    ) -> Answer<T> {
        locked(&self.asked).push(name.to_owned());
        let mut answers = locked(answers);
        let Some(programmed) = answers.get_mut(name) else {
            return Err(ResolveError::NoSuchName);
        };
        let next =
            if programmed.len() > 1 { programmed.pop_front() } else { programmed.front().cloned() };
        next.unwrap_or(Err(ResolveError::NoSuchName))
    }
}

impl Resolver for SimulatedResolver {
    fn addresses<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move { self.take(&self.addresses, name) })
    }

    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, ResolveError>> {
        Box::pin(async move { self.take(&self.texts, name) })
    }

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<CaaRecord>, ResolveError>> {
        Box::pin(async move { self.take(&self.properties, name) })
    }
}

/// What a peer does with a connection it accepted.
type Behaviour = Arc<dyn Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Clone)]
enum Peer {
    Accepts(Behaviour),
    /// Neither accepts nor refuses, like an address that nobody has.
    Silent,
}

/// Connects to programmed peers in memory; every other address refuses.
#[derive(Default)]
pub struct SimulatedDialer {
    peers: Mutex<HashMap<SocketAddr, Peer>>,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl SimulatedDialer {
    pub fn new() -> Self {
        Self::default()
    }

    /// A peer that runs `behaviour` on a task of its own for each connection.
    pub fn listen<F>(&self, address: SocketAddr, behaviour: F)
    where
        F: Fn(DuplexStream) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    {
        locked(&self.peers).insert(address, Peer::Accepts(Arc::new(behaviour)));
    }

    /// A peer that reads the head of one HTTP request and writes what `respond` makes of it.
    pub fn listen_http<F>(&self, address: SocketAddr, respond: F)
    where
        F: Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    {
        let respond = Arc::new(respond);
        self.listen(address, move |mut stream| {
            let respond = Arc::clone(&respond);
            Box::pin(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(octet) => head.push(octet),
                        Err(_) => return,
                    }
                }
                let response = respond(&String::from_utf8_lossy(&head));
                // The client may have hung up already; that is its affair.
                let _ = stream.write_all(&response).await;
                let _ = stream.shutdown().await;
            })
        });
    }

    /// An address where connecting takes for ever.
    pub fn silent(&self, address: SocketAddr) {
        locked(&self.peers).insert(address, Peer::Silent);
    }

    /// Every address that was dialled, in order.
    pub fn dialled(&self) -> Vec<SocketAddr> {
        locked(&self.dialled).clone()
    }
}

impl Dialer for SimulatedDialer {
    fn connect(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            locked(&self.dialled).push(address);
            let peer = locked(&self.peers).get(&address).cloned();
            match peer {
                None => Err(io::ErrorKind::ConnectionRefused.into()),
                Some(Peer::Silent) => {
                    tokio::time::sleep(deadline).await;
                    Err(io::ErrorKind::TimedOut.into())
                }
                Some(Peer::Accepts(behaviour)) => {
                    let (ours, theirs) = tokio::io::duplex(BUFFER);
                    tokio::spawn(behaviour(theirs));
                    Ok(Box::new(ours) as Box<dyn Connection>)
                }
            }
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As little as a slow network might take at once, so that writers must wait for readers.
const BUFFER: usize = 1024;
