//! A certificate with rustls-acme: `rustls-acme NAME METHOD`, the rest in the environment: DIRECTORY, ROOT (PEM),
//! HTTP and HOOK_TLS (address:port). Ends when the certificate is deployed; it is in `cache/` then.

use std::env::var;
use std::sync::Arc;

use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, EventOk, UseChallenge, is_tls_alpn_challenge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio_stream::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (name, method) = (arguments.next().unwrap(), arguments.next().unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(var("ROOT").unwrap()).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let over_http = method == "http-01";
    let challenge = if over_http { UseChallenge::Http01 } else { UseChallenge::TlsAlpn01 };
    let mut state = AcmeConfig::new_with_client_config([name], Arc::new(client))
        .directory(var("DIRECTORY").unwrap())
        .challenge_type(challenge)
        .cache(DirCache::new("cache"))
        .state();

    if over_http {
        let listener = TcpListener::bind(var("HTTP").unwrap()).await.unwrap();
        let resolver = state.resolver();
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut head = vec![0; 2048];
                let length = tcp.read(&mut head).await.unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..length]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or("/");
                let token = path.rsplit('/').next().unwrap_or_default();
                let body = resolver.get_http_01_key_auth(token).unwrap_or_default();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        });
    } else {
        let listener = TcpListener::bind(var("HOOK_TLS").unwrap()).await.unwrap();
        let config = state.challenge_rustls_config();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(hello) = LazyConfigAcceptor::new(Default::default(), tcp).await else { continue };
                if is_tls_alpn_challenge(&hello.client_hello()) {
                    if let Ok(mut tls) = hello.into_stream(Arc::clone(&config)).await {
                        let _ = tls.shutdown().await;
                    }
                }
            }
        });
    }
    let deployed = async {
        while let Some(event) = state.next().await {
            println!("{event:?}");
            if let Ok(EventOk::DeployedNewCert) = event {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), deployed).await.unwrap();
    // What follows the deployment is the certificate's way into the cache.
    while let Ok(Some(event)) =
        tokio::time::timeout(std::time::Duration::from_millis(500), state.next()).await
    {
        println!("{event:?}");
    }
}
