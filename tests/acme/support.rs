//! A CA to test against, a software issuer behind it, and a client that signs exactly what it is told to.

pub mod issuer;
pub mod raw;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chancery::env::net::{CaaRecord, Connection, ResolveError};
use chancery::env::system::{SystemClock, SystemRng};
use chancery::env::{BoxFuture, Clock, Dialer, Resolver};
use chancery::id::Timestamp;
use chancery::ipc::Service;
use chancery::ipc::local::Local;
use chancery::pki::certificate::Certificate;
use chancery::pki::policy::{self, Policy};
use chancery::pki::profile::Profile;
use chancery::store::Store;
use chancery::store::memory::Memory;
use chancery::validate::{self, Validator};
use chancery::web::{Addresses, Issuing, Listeners, Parts, Settings, Web};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use rustls::pki_types::ServerName;

use crate::issuing::house::{House, Office, profiles};

pub use issuer::SoftIssuer;
pub use raw::{Client, Key};

/// A running server and everything around it.
pub struct Ca {
    pub web: Web,
    /// Nobody's, where there is an office.
    pub issuer: Arc<SoftIssuer>,
    /// The whole issuer, if that was wished for, and what it is made of.
    pub office: Option<Arc<Office>>,
    pub house: Option<House>,
    pub root: Certificate,
    /// What the TLS certificate names.
    pub name: ServerName<'static>,
    pub store: Arc<dyn Store>,
    pub responder: Responder,
    pub network: Loopback,
    pub addresses: Addresses,
    pub base: String,
    pub public: tempfile::TempDir,
}

/// What a test wants otherwise.
pub struct Wish {
    pub settings: Settings,
    pub validation: validate::Settings,
    pub issuer: Arc<SoftIssuer>,
    pub store: Arc<dyn Store>,
    pub external_account_required: bool,
    pub profiles: Vec<Profile>,
    pub cross: Vec<Vec<Certificate>>,
    /// RFC 9444.
    pub subdomains: bool,
    pub wildcards: bool,
    /// Another clock than the system's.
    pub clock: Option<Arc<dyn Clock>>,
    /// A whole issuer, whose clock is then everyone's.
    pub house: Option<House>,
}

impl Wish {
    pub fn new() -> Self {
        let loopback = |port| vec![SocketAddr::from(([127, 0, 0, 1], port))];
        Self {
            settings: Settings {
                listen: loopback(0),
                listen_http: loopback(0),
                listen_metrics: loopback(0),
                ..Settings::default()
            },
            validation: validate::Settings {
                allow_loopback: true,
                attempts: 3,
                retry_seconds: 1,
                ..validate::Settings::default()
            },
            issuer: Arc::new(SoftIssuer::new()),
            store: Arc::new(Memory::new()),
            external_account_required: false,
            profiles: vec![Profile::server()],
            cross: Vec::new(),
            subdomains: false,
            wildcards: false,
            clock: None,
            house: None,
        }
    }

    /// With a whole issuer instead of the software one.
    pub fn whole() -> Self {
        let now = Timestamp(SystemClock::new().now().unix_seconds() * 1000);
        Self { house: Some(House::made_at(now)), profiles: profiles(), ..Self::new() }
    }
}

impl Ca {
    /// The usual one.
    pub async fn start() -> Self {
        Self::with(Wish::new()).await
    }

    pub async fn with(wish: Wish) -> Self {
        let Wish {
            mut settings,
            mut validation,
            issuer,
            store,
            external_account_required,
            profiles,
            cross,
            subdomains,
            wildcards,
            mut clock,
            mut house,
        } = wish;
        let responder = Responder::start().await;
        let network = Loopback::default();
        validation.http_port = responder.address.port();
        validation.redirect_ports = vec![responder.address.port()];
        validation.allow_networks = vec!["127.0.0.0/8".into()];
        let listeners = Listeners::bind(&settings).unwrap();
        let addresses = listeners.addresses();
        let mut names = policy::Settings { subdomains, wildcards, ..policy::Settings::default() };
        let mut service: Arc<dyn Service> = issuer.clone();
        let (mut root, mut issuing) = (issuer.root.clone(), issuer.issuing.clone());
        // No name: clients must be served without SNI.
        let mut name = ServerName::from(addresses.https[0].ip());
        settings.base_url = format!("https://{}", addresses.https[0]);
        let mut office = None;
        if let Some(house) = &mut house {
            name = ServerName::try_from("ca.lan").unwrap();
            settings.base_url = format!("https://ca.lan:{}", addresses.https[0].port());
            house.base_url = settings.base_url.clone();
            house.policy = names.clone();
            (root, issuing) = (house.root.clone(), house.issuing.clone());
            clock = Some(house.clock.clone());
            let opened = tokio::task::block_in_place(|| house.start());
            service = opened.running.service();
            office = Some(Arc::new(opened));
        } else {
            names.allow_networks.push("127.0.0.0/8".into());
        }
        let base = settings.base_url.clone();
        let public = tempfile::tempdir().unwrap();
        std::fs::write(public.path().join("root.pem"), root.pem()).unwrap();
        let parts = Parts {
            settings,
            issuer: Arc::new(Local::new(service)),
            store: store.clone(),
            validator: Arc::new(
                Validator::new(validation, Arc::new(network.clone()), Arc::new(network.clone()))
                    .unwrap(),
            ),
            clock: clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            rng: Arc::new(SystemRng),
            policy: Policy::new(&names).unwrap(),
            default_profile: profiles[0].name.clone(),
            profiles,
            external_account_required,
            issuers: vec![Issuing {
                name: "issuing".into(),
                line: "issuing".into(),
                chains: [vec![vec![issuing.clone()], vec![issuing.clone(), root.clone()]], cross]
                    .concat(),
                certificate: issuing,
            }],
            root: root.clone(),
            public: public.path().to_owned(),
            cosigns: true,
            courier: None,
        };
        let web = Web::start(parts, listeners).unwrap();
        Self {
            web,
            issuer,
            office,
            house,
            root,
            name,
            store,
            responder,
            network,
            addresses,
            base,
            public,
        }
    }

    /// A client of the HTTPS listener, without an account.
    pub async fn client(&self) -> Client {
        Client::connect(self).await
    }

    /// A client with an account.
    pub async fn registered(&self) -> Client {
        let mut client = self.client().await;
        let answer = client.register().await;
        assert_eq!(answer.status, 201, "{answer:?}");
        client
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub fn root_file(&self) -> PathBuf {
        self.public.path().join("root.pem")
    }
}

/// A network where every name is here, and whose DNS says what it is told.
#[derive(Clone, Default)]
pub struct Loopback {
    texts: Arc<Mutex<HashMap<String, Vec<Vec<u8>>>>>,
    properties: Arc<Mutex<HashMap<String, Vec<CaaRecord>>>>,
}

impl Loopback {
    pub fn txt(&self, name: &str, texts: &[&str]) {
        let texts = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        self.texts.lock().unwrap().insert(name.to_owned(), texts);
    }

    pub fn caa(&self, name: &str, tag: &str, value: &str) {
        let property = CaaRecord { critical: false, tag: tag.into(), value: value.into() };
        self.properties.lock().unwrap().insert(name.to_owned(), vec![property]);
    }
}

impl Resolver for Loopback {
    fn addresses<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async { Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]) })
    }

    fn txt<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Vec<u8>>, ResolveError>> {
        let found = self.texts.lock().unwrap().get(name).cloned();
        Box::pin(async { found.ok_or(ResolveError::NoSuchName) })
    }

    fn caa<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<CaaRecord>, ResolveError>> {
        let found = self.properties.lock().unwrap().get(name).cloned();
        Box::pin(async { Ok(found.unwrap_or_default()) })
    }
}

impl Dialer for Loopback {
    fn connect(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> BoxFuture<'_, io::Result<Box<dyn Connection>>> {
        Box::pin(async move {
            match tokio::time::timeout(deadline, TcpStream::connect(address)).await {
                Ok(stream) => stream.map(|stream| Box::new(stream) as Box<dyn Connection>),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        })
    }
}

/// Answers http-01 for what it was told.
#[derive(Clone)]
pub struct Responder {
    answers: Arc<Mutex<HashMap<String, String>>>,
    held: tokio::sync::watch::Sender<bool>,
    pub address: SocketAddr,
}

impl Responder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<HashMap<String, String>>> = Arc::default();
        let told = answers.clone();
        let held = tokio::sync::watch::Sender::new(false);
        let holding = held.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = told.clone();
                let mut held = holding.subscribe();
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut line = String::new();
                    let _ = stream.read_line(&mut line).await;
                    let _ = held.wait_for(|held| !held).await;
                    let path = line.split(' ').nth(1).unwrap_or_default();
                    let token = path.strip_prefix("/.well-known/acme-challenge/");
                    let answer = token.and_then(|token| told.lock().unwrap().get(token).cloned());
                    let response = match answer {
                        Some(body) => format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                            body.len()
                        ),
                        None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                            .to_owned(),
                    };
                    let _ = stream.get_mut().write_all(response.as_bytes()).await;
                });
            }
        });
        Self { answers, held, address }
    }

    /// Whether requests wait for their answer.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub fn tell(&self, token: &str, key_authorization: &str) {
        self.answers.lock().unwrap().insert(token.to_owned(), key_authorization.to_owned());
    }
}
