//! A small, fast ACME client for load and crash tests: one connection, one account, http-01.
//!
//! It trusts the server blindly (no certificate check): it measures and remembers, others verify.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// Why a step did not work.
#[derive(Debug)]
pub enum Failure {
    /// The connection broke or could not be made: the server may be restarting.
    Connection(String),
    /// The server answered with a problem document.
    Problem { status: StatusCode, body: Value, retry_after: Option<u64> },
    /// The server's answer makes no sense.
    Protocol(String),
}

pub type Result<T> = std::result::Result<T, Failure>;

/// One account on one connection.
pub struct Client {
    server: SocketAddr,
    host: String,
    tls: tokio_rustls::TlsConnector,
    connection: Option<SendRequest<Full<Bytes>>>,
    directory: Value,
    nonce: Option<String>,
    key: EcdsaKeyPair,
    jwk: Value,
    thumbprint: String,
    pub account: Option<String>,
    /// What newOrder asks for by name; else what the box gives who does not ask.
    pub profile: Option<String>,
    responder: Responder,
    /// The URL of every order the server said 201 to.
    pub created: Vec<String>,
    /// How long to wait between polls.
    pub poll: Duration,
}

/// What an order gave.
pub struct Issued {
    pub order_url: String,
    /// The PEM chain as downloaded.
    pub chain: String,
    /// Round trips this order took.
    pub requests: u32,
}

/// An http-01 responder on loopback, shared by every client of a test.
#[derive(Clone)]
pub struct Responder {
    tokens: Arc<Mutex<HashMap<String, String>>>,
    pub address: SocketAddr,
}

impl Responder {
    /// Listens on a free port of 127.0.0.1, or on `port`.
    pub async fn start(port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let this = Self { tokens: Arc::default(), address: listener.local_addr()? };
        let tokens = Arc::clone(&this.tokens);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tokens = Arc::clone(&tokens);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request: Request<_>| {
                        let answer = answer(&tokens, &request);
                        async move { Ok::<_, std::convert::Infallible>(answer) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Ok(this)
    }

    pub fn put(&self, token: &str, key_authorization: String) {
        self.tokens.lock().unwrap().insert(token.to_owned(), key_authorization);
    }

    fn remove(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
    }
}

fn answer(
    tokens: &Mutex<HashMap<String, String>>,
    request: &Request<hyper::body::Incoming>,
) -> Response<Full<Bytes>> {
    let token = request.uri().path().rsplit('/').next().unwrap_or_default();
    match tokens.lock().unwrap().get(token) {
        Some(text) => Response::new(Full::from(text.clone())),
        None => {
            let mut answer = Response::new(Full::from("no such token"));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    }
}

impl Client {
    /// A client with a fresh account key; nothing is sent yet.
    pub fn new(server: SocketAddr, host: &str, directory_path: &str, responder: Responder) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..65]));
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, canonical.as_bytes());
        Self {
            server,
            host: host.to_owned(),
            tls: trusting_connector(),
            connection: None,
            directory: json!({ "path": directory_path }),
            nonce: None,
            key,
            jwk: json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y }),
            thumbprint: encode(digest.as_ref()),
            account: None,
            profile: None,
            responder,
            created: Vec::new(),
            poll: Duration::from_millis(3),
        }
    }

    /// The next request makes a connection anew, with a whole handshake.
    pub fn forget_connection(&mut self) {
        self.connection = None;
        self.tls = trusting_connector();
    }

    /// Fetches the directory and registers the account (or finds it).
    pub async fn register(&mut self) -> Result<()> {
        let path = self.directory["path"].as_str().unwrap_or("/").to_owned();
        let url = format!("https://{}:{}{path}", self.host, self.server.port());
        let response = self.send(Method::GET, &url, None).await?;
        let mut directory: Value = json_body(response).await?;
        directory["path"] = path.into();
        self.directory = directory;
        let (response, _) = self
            .post(&self.url("newAccount")?, Some(json!({ "termsOfServiceAgreed": true })))
            .await?;
        self.account = Some(location(&response)?);
        Ok(())
    }

    /// One whole order for DNS names: newOrder to download.
    pub async fn order(&mut self, names: &[&str]) -> Result<Issued> {
        let (order_url, order) = self.create(names).await?;
        let mut issued = self.pursue(&order_url, order, &request(names)).await?;
        issued.requests += 1;
        Ok(issued)
    }

    /// newOrder: the order's URL and what it is.
    pub async fn create(&mut self, names: &[&str]) -> Result<(String, Value)> {
        let identifiers: Vec<Value> =
            names.iter().map(|name| json!({ "type": "dns", "value": name })).collect();
        let new_order = self.url("newOrder")?;
        let mut payload = json!({ "identifiers": identifiers });
        if let Some(profile) = &self.profile {
            payload["profile"] = profile.as_str().into();
        }
        let (response, order) = self.post(&new_order, Some(payload)).await?;
        let order_url = location(&response)?;
        self.created.push(order_url.clone());
        Ok((order_url, order))
    }

    /// Takes an order from whatever it has come to through to the download. After a failure it may be called again
    /// with the order as it then is, and the same CSR.
    pub async fn pursue(
        &mut self,
        order_url: &str,
        mut order: Value,
        csr: &[u8],
    ) -> Result<Issued> {
        let mut requests = 0;
        if order["status"] == "pending" {
            for authorization in array(&order["authorizations"])? {
                requests += self.authorize(text(&authorization)?).await?;
            }
        }
        if order["status"] == "pending" || order["status"] == "ready" {
            let finalize = text(&order["finalize"])?.to_owned();
            order = self.post(&finalize, Some(json!({ "csr": encode(csr) }))).await?.1;
            requests += 1;
        }
        while order["status"] == "processing" || order["status"] == "ready" {
            tokio::time::sleep(self.poll).await;
            order = self.post(order_url, None).await?.1;
            requests += 1;
        }
        if order["status"] != "valid" {
            return Err(Failure::Protocol(format!("order ended: {order}")));
        }
        let chain = self.download(text(&order["certificate"])?).await?;
        requests += 1;
        Ok(Issued { order_url: order_url.to_owned(), chain, requests })
    }

    /// Revokes a certificate, DER, with this account's key; the status and the body.
    pub async fn revoke(&mut self, certificate: &[u8], reason: u8) -> Result<(u16, String)> {
        let url = self.url("revokeCert")?;
        let payload = json!({ "certificate": encode(certificate), "reason": reason });
        let response = self.signed(&url, Some(payload)).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// POST-as-GET of any resource that is JSON.
    pub async fn fetch(&mut self, url: &str) -> Result<Value> {
        Ok(self.post(url, None).await?.1)
    }

    /// A plain GET of JSON that anyone may read, such as renewal information (RFC 9773).
    pub async fn get(&mut self, url: &str) -> Result<Value> {
        json_body(self.send(Method::GET, url, None).await?).await
    }

    /// Downloads a chain.
    pub async fn download(&mut self, url: &str) -> Result<String> {
        let response = self.signed(url, None).await?;
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        String::from_utf8(body.to_vec()).map_err(|error| Failure::Protocol(error.to_string()))
    }

    async fn authorize(&mut self, url: &str) -> Result<u32> {
        let mut requests = 1;
        let mut authorization = self.post(url, None).await?.1;
        if authorization["status"] == "valid" {
            return Ok(requests);
        }
        let challenges = array(&authorization["challenges"])?;
        let challenge = challenges
            .iter()
            .find(|challenge| challenge["type"] == "http-01")
            .ok_or_else(|| Failure::Protocol("no http-01 challenge".into()))?;
        let token = text(&challenge["token"])?.to_owned();
        self.responder.put(&token, format!("{token}.{}", self.thumbprint));
        self.post(text(&challenge["url"])?, Some(json!({}))).await?;
        requests += 1;
        loop {
            authorization = self.post(url, None).await?.1;
            requests += 1;
            if authorization["status"] != "pending" {
                break;
            }
            tokio::time::sleep(self.poll).await;
        }
        self.responder.remove(&token);
        match authorization["status"].as_str() {
            Some("valid") => Ok(requests),
            _ => Err(Failure::Protocol(format!("authorization ended: {authorization}"))),
        }
    }

    fn url(&self, member: &str) -> Result<String> {
        text(&self.directory[member]).map(str::to_owned)
    }

    /// A signed POST whose answer is JSON; retries `badNonce` as clients do.
    async fn post(&mut self, url: &str, payload: Option<Value>) -> Result<(Response<()>, Value)> {
        let response = self.signed(url, payload).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        let value = serde_json::from_slice(&body).map_err(|error| {
            Failure::Protocol(format!("{url}: {error}: {}", String::from_utf8_lossy(&body)))
        })?;
        Ok((Response::from_parts(parts, ()), value))
    }

    async fn signed(
        &mut self,
        url: &str,
        payload: Option<Value>,
    ) -> Result<Response<hyper::body::Incoming>> {
        for _ in 0..8 {
            let nonce = match self.nonce.take() {
                Some(nonce) => nonce,
                None => self.new_nonce().await?,
            };
            let body = self.sign(url, &nonce, payload.as_ref());
            let response = self.send(Method::POST, url, Some(body)).await?;
            self.remember_nonce(&response);
            if response.status().is_success() {
                return Ok(response);
            }
            let (status, retry_after) = (response.status(), retry_after(&response));
            let body = json_body(response).await.unwrap_or(Value::Null);
            if body["type"] != "urn:ietf:params:acme:error:badNonce" {
                return Err(Failure::Problem { status, body, retry_after });
            }
        }
        Err(Failure::Protocol("badNonce eight times".into()))
    }

    async fn new_nonce(&mut self) -> Result<String> {
        let url = self.url("newNonce")?;
        let response = self.send(Method::HEAD, &url, None).await?;
        self.remember_nonce(&response);
        let _ = response.into_body().collect().await;
        self.nonce.take().ok_or_else(|| Failure::Protocol("newNonce gave none".into()))
    }

    fn remember_nonce<B>(&mut self, response: &Response<B>) {
        if let Some(nonce) = response.headers().get("replay-nonce") {
            self.nonce = nonce.to_str().ok().map(str::to_owned);
        }
    }

    fn sign(&self, url: &str, nonce: &str, payload: Option<&Value>) -> String {
        let protected = match &self.account {
            Some(kid) => json!({ "alg": "ES256", "kid": kid, "nonce": nonce, "url": url }),
            None => json!({ "alg": "ES256", "jwk": self.jwk, "nonce": nonce, "url": url }),
        };
        let protected = encode(protected.to_string().as_bytes());
        let payload = payload.map(|value| encode(value.to_string().as_bytes())).unwrap_or_default();
        let input = format!("{protected}.{payload}");
        let signature = self.key.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        let signature = encode(signature.as_ref());
        json!({ "protected": protected, "payload": payload, "signature": signature }).to_string()
    }

    async fn send(
        &mut self,
        method: Method,
        url: &str,
        body: Option<String>,
    ) -> Result<Response<hyper::body::Incoming>> {
        let path = url
            .strip_prefix("https://")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
            .ok_or_else(|| Failure::Protocol(format!("not an https URL: {url}")))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{}:{}", self.host, self.server.port()))
            .header("user-agent", "chancery-test");
        if body.is_some() {
            request = request.header("content-type", "application/jose+json");
        }
        let request = request.body(Full::from(body.unwrap_or_default())).unwrap();
        let connection = self.connection().await?;
        let answer = match connection.ready().await {
            Ok(()) => connection.send_request(request).await,
            Err(error) => Err(error),
        };
        answer.map_err(|error| {
            self.connection = None;
            broken(error)
        })
    }

    async fn connection(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        if self.connection.as_ref().is_none_or(SendRequest::is_closed) {
            let failed = |error: std::io::Error| Failure::Connection(error.to_string());
            let stream = TcpStream::connect(self.server).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let name = ServerName::try_from(self.host.clone()).unwrap();
            let stream = self.tls.connect(name, stream).await.map_err(failed)?;
            let (sender, connection) =
                http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
            tokio::spawn(connection);
            self.nonce = None;
            self.connection = Some(sender);
        }
        Ok(self.connection.as_mut().unwrap())
    }
}

/// A PKCS#10 request by a fresh P-256 key.
pub fn request(names: &[&str]) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serialize_request(&key).unwrap().der().to_vec()
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Connection(error.to_string())
}

async fn json_body(response: Response<hyper::body::Incoming>) -> Result<Value> {
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| Failure::Protocol(error.to_string()))
}

fn location<B>(response: &Response<B>) -> Result<String> {
    let value = response.headers().get("location").and_then(|value| value.to_str().ok());
    value.map(str::to_owned).ok_or_else(|| Failure::Protocol("no Location".into()))
}

fn retry_after<B>(response: &Response<B>) -> Option<u64> {
    response.headers().get("retry-after")?.to_str().ok()?.parse().ok()
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| Failure::Protocol(format!("not a string: {value}")))
}

fn array(value: &Value) -> Result<Vec<Value>> {
    value.as_array().cloned().ok_or_else(|| Failure::Protocol(format!("not an array: {value}")))
}

/// TLS that accepts whatever certificate the server shows.
fn trusting_connector() -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Trusting(Arc::clone(&provider)));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Arc::new(config).into()
}

#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
