//! A TLS server that shows the certificates it is told to, right and wrong ones, for tls-alpn-01.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{CertificateParams, CustomExtension, KeyPair, SanType, SignatureAlgorithm};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub const ACME_TLS: &[u8] = b"acme-tls/1";
pub const ACME_IDENTIFIER: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 1, 31];

/// What a certificate holds.
pub struct Answer {
    pub names: Vec<SanType>,
    pub extensions: Vec<CustomExtension>,
    pub algorithm: &'static SignatureAlgorithm,
}

impl Answer {
    /// The right one.
    pub fn to(name: &str, key_authorization: &str) -> Self {
        Self {
            names: vec![san(name)],
            extensions: vec![acme_identifier(ACME_IDENTIFIER, key_authorization, true)],
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }

    pub fn certified(&self) -> CertifiedKey {
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = self.names.clone();
        params.custom_extensions = self.extensions.clone();
        let certificate = params.self_signed(&key).unwrap();
        certified(certificate.der().to_vec(), &key)
    }
}

/// A certificate with the key it is shown with, which need not be its own.
pub fn certified(certificate: Vec<u8>, key: &KeyPair) -> CertifiedKey {
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).unwrap();
    CertifiedKey::new(vec![certificate.into()], key)
}

pub fn san(name: &str) -> SanType {
    match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().unwrap()),
    }
}

/// id-pe-acmeIdentifier, or the same content under another OID.
pub fn acme_identifier(oid: &[u64], key_authorization: &str, critical: bool) -> CustomExtension {
    let mut content = vec![0x04, 0x20];
    content.extend_from_slice(digest(&SHA256, key_authorization.as_bytes()).as_ref());
    let mut extension = CustomExtension::from_oid_content(oid, content);
    extension.set_criticality(critical);
    extension
}

/// A running server.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    shown: Arc<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    certificate: Mutex<Option<Arc<CertifiedKey>>>,
    asked: Mutex<Vec<String>>,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hello.server_name().unwrap_or_default().to_owned());
        self.certificate.lock().unwrap().clone()
    }
}

impl Server {
    /// Speaks these protocols in these versions of TLS at a free port of `host`.
    pub async fn start(
        host: &str,
        protocols: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let shown = Arc::new(Shown::default());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        // Until the other side hangs up.
                        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    }
                });
            }
        });
        Self { address, shown }
    }

    pub fn show(&self, certificate: CertifiedKey) {
        *self.shown.certificate.lock().unwrap() = Some(Arc::new(certificate));
    }

    /// The names that were asked for (SNI), in order.
    pub fn asked(&self) -> Vec<String> {
        self.shown.asked.lock().unwrap().clone()
    }
}
