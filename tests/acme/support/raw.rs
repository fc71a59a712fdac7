//! A client that sends whatever a test wants sent.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::Bytes;
use chancery::pki::certificate::Certificate;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::Ca;

/// An account key.
#[derive(Clone)]
pub struct Key(Arc<EcdsaKeyPair>);

impl Key {
    pub fn new() -> Self {
        Self(Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()))
    }

    pub fn from_pkcs8(der: &[u8]) -> Self {
        Self(Arc::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).unwrap()))
    }

    pub fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256",
            "x": Base64UrlUnpadded::encode_string(&point[1..33]),
            "y": Base64UrlUnpadded::encode_string(&point[33..65]),
        })
    }

    pub fn thumbprint(&self) -> String {
        let jwk = self.jwk();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        Base64UrlUnpadded::encode_string(digest.as_ref())
    }

    /// A flattened JWS over exactly this header; an empty payload is POST-as-GET.
    pub fn sign(&self, header: &Value, payload: &str) -> Value {
        let protected = Base64UrlUnpadded::encode_string(header.to_string().as_bytes());
        let payload = Base64UrlUnpadded::encode_string(payload.as_bytes());
        let signed = format!("{protected}.{payload}");
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        json!({
            "protected": protected,
            "payload": payload,
            "signature": Base64UrlUnpadded::encode_string(signature.as_ref()),
        })
    }
}

/// An answer, read whole.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} {:?}\n{body}", self.status, self.headers)
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn links(&self) -> Vec<&str> {
        self.headers.get_all("link").iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem's type without its prefix; panics unless this is a problem document.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        let kind = problem["type"].as_str().unwrap();
        kind.strip_prefix("urn:ietf:params:acme:error:").unwrap().to_owned()
    }
}

/// One connection, one key.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    pub key: Key,
    pub account: Option<String>,
    pub base: String,
}

/// Trusts the CA's root, and checks.
pub fn trust(ca: &Ca) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(ca.root.der().to_vec())).unwrap();
    roots
}

/// A TLS connection to the HTTPS listener that offers these protocols.
pub async fn tls(ca: &Ca, protocols: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(trust(ca)).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    tls_with(ca, config).await
}

pub async fn tls_with(
    ca: &Ca,
    config: rustls::ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(ca.addresses.https[0]).await?;
    stream.set_nodelay(true)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(ca.name.clone(), stream).await
}

impl Client {
    pub async fn connect(ca: &Ca) -> Self {
        let stream = tls(ca, &[b"http/1.1"]).await.unwrap();
        Self { sender: http1(stream).await, key: Key::new(), account: None, base: ca.base.clone() }
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.sender.ready().await.unwrap();
        let response = self.sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn request(&mut self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", "ca");
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.request(Method::GET, path).await
    }

    pub fn path<'a>(&self, url: &'a str) -> &'a str {
        url.strip_prefix(&self.base).unwrap_or_else(|| panic!("{url} is elsewhere"))
    }

    pub async fn nonce(&mut self) -> String {
        let answer = self.request(Method::HEAD, "/acme/new-nonce").await;
        answer.header("replay-nonce").unwrap().to_owned()
    }

    /// Posts a body as it is.
    pub async fn post_body(&mut self, url: &str, kind: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.path(url))
            .header("host", "ca")
            .header("content-type", kind);
        self.send(request.body(Full::new(body.into())).unwrap()).await
    }

    pub async fn post_jws(&mut self, url: &str, jws: &Value) -> Answer {
        self.post_body(url, "application/jose+json", jws.to_string()).await
    }

    /// A header as it should be: by the account when there is one.
    pub async fn header(&mut self, url: &str) -> Value {
        let nonce = self.nonce().await;
        let mut header = json!({ "alg": "ES256", "nonce": nonce, "url": url });
        match &self.account {
            Some(kid) => header["kid"] = json!(kid),
            None => header["jwk"] = self.key.jwk(),
        }
        header
    }

    pub async fn post(&mut self, url: &str, payload: &Value) -> Answer {
        let header = self.header(url).await;
        let jws = self.key.sign(&header, &payload.to_string());
        self.post_jws(url, &jws).await
    }

    pub async fn post_as_get(&mut self, url: &str) -> Answer {
        let header = self.header(url).await;
        let jws = self.key.sign(&header, "");
        self.post_jws(url, &jws).await
    }

    pub fn new_account_url(&self) -> String {
        format!("{}/acme/new-account", self.base)
    }

    pub fn new_order_url(&self) -> String {
        format!("{}/acme/new-order", self.base)
    }

    pub async fn register(&mut self) -> Answer {
        let url = self.new_account_url();
        self.account = None;
        let answer = self.post(&url, &json!({ "termsOfServiceAgreed": true })).await;
        self.account = answer.header("location").map(str::to_owned);
        answer
    }

    /// A pending order for DNS names or addresses, as `type:value`.
    pub async fn order(&mut self, names: &[&str]) -> Answer {
        let identifiers: Vec<Value> = names
            .iter()
            .map(|name| {
                let (kind, value) = name.split_once(':').unwrap();
                json!({ "type": kind, "value": value })
            })
            .collect();
        let url = self.new_order_url();
        self.post(&url, &json!({ "identifiers": identifiers })).await
    }

    /// Posts until the object's status is none of these.
    pub async fn poll_while(&mut self, url: &str, statuses: &[&str]) -> Answer {
        for _ in 0..200 {
            let answer = self.post_as_get(url).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            if !statuses.contains(&answer.json()["status"].as_str().unwrap()) {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
        panic!("{url} stays {statuses:?}");
    }

    /// Proves every authorization of an order, and waits until it is ready.
    pub async fn prove(&mut self, ca: &Ca, order: &Answer) {
        for authz in order.json()["authorizations"].as_array().unwrap() {
            self.prove_authz(ca, authz.as_str().unwrap()).await;
        }
    }

    /// Proves one by http-01.
    pub async fn prove_authz(&mut self, ca: &Ca, url: &str) {
        let challenge = self.challenge(url).await;
        let token = challenge["token"].as_str().unwrap();
        ca.responder.tell(token, &format!("{token}.{}", self.key.thumbprint()));
        let answer = self.post(challenge["url"].as_str().unwrap(), &json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let authz = self.poll_while(url, &["pending"]).await;
        assert_eq!(authz.json()["status"], "valid", "{authz:?}");
    }

    /// Proves an authorization by dns-01 and gives the object it was before.
    pub async fn prove_by_dns(&mut self, ca: &Ca, url: &str) -> Value {
        let authz = self.post_as_get(url).await.json();
        let challenges = authz["challenges"].as_array().unwrap();
        let challenge = challenges.iter().find(|c| c["type"] == "dns-01").unwrap();
        let token = challenge["token"].as_str().unwrap();
        let text = format!("{token}.{}", self.key.thumbprint());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let name = authz["identifier"]["value"].as_str().unwrap();
        let record = Base64UrlUnpadded::encode_string(hash.as_ref());
        ca.network.txt(&format!("_acme-challenge.{name}"), &[&record]);
        self.post(challenge["url"].as_str().unwrap(), &json!({})).await;
        let decided = self.poll_while(url, &["pending"]).await.json();
        assert_eq!(decided["status"], "valid", "{decided}");
        authz
    }

    /// The http-01 challenge of an authorization.
    pub async fn challenge(&mut self, authz: &str) -> Value {
        let authz = self.post_as_get(authz).await.json();
        let challenges = authz["challenges"].as_array().unwrap();
        challenges.iter().find(|challenge| challenge["type"] == "http-01").unwrap().clone()
    }

    /// A ready order and its URL.
    pub async fn ready(&mut self, ca: &Ca, names: &[&str]) -> (String, Value) {
        let order = self.order(names).await;
        assert_eq!(order.status, 201, "{order:?}");
        self.prove(ca, &order).await;
        let url = order.header("location").unwrap().to_owned();
        let ready = self.post_as_get(&url).await.json();
        assert_eq!(ready["status"], "ready");
        (url, ready)
    }

    /// Orders names, proves them, and gets the certificate for this key.
    pub async fn certified(
        &mut self,
        ca: &Ca,
        names: &[&str],
        key: &rcgen::KeyPair,
    ) -> Certificate {
        let typed: Vec<String> = names.iter().map(|name| format!("dns:{name}")).collect();
        let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
        let (url, order) = self.ready(ca, &typed).await;
        let csr = json!({ "csr": csr_by(key, names) });
        let done = self.post(order["finalize"].as_str().unwrap(), &csr).await;
        assert_eq!(done.status, 200, "{done:?}");
        self.leaf(&url).await
    }

    /// The certificate of an order that was finalized.
    pub async fn leaf(&mut self, order: &str) -> Certificate {
        let order = self.poll_while(order, &["processing"]).await.json();
        assert_eq!(order["status"], "valid", "{order}");
        let chain = self.post_as_get(order["certificate"].as_str().unwrap()).await;
        let end = "-----END CERTIFICATE-----\n";
        let first = chain.text().find(end).unwrap() + end.len();
        Certificate::parse_pem(&chain.text()[..first]).unwrap()
    }
}

/// Speaks HTTP/1.1 over a stream.
pub async fn http1<S>(stream: S) -> SendRequest<Full<Bytes>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// HTTP/2 over TLS.
pub async fn http2(ca: &Ca) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    let stream = tls(ca, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let executor = hyper_util::rt::TokioExecutor::new();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// One plain GET.
pub async fn plain(address: std::net::SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut sender = http1(TcpStream::connect(address).await.unwrap()).await;
    let mut request = Request::builder().uri(path).header("host", "ca");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// A CSR for DNS names and addresses under a new P-256 key, base64url.
pub fn csr(names: &[&str]) -> String {
    csr_by(&rcgen::KeyPair::generate().unwrap(), names)
}

pub fn csr_by(key: &impl rcgen::SigningKey, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(key).unwrap();
    Base64UrlUnpadded::encode_string(request.der())
}
