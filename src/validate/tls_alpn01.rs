//! tls-alpn-01 (RFC 8737; for addresses RFC 8738 section 6).

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
};
use tokio_rustls::TlsConnector;

use super::{Attempt, Validator};
use crate::acme::challenge::alpn::{AlpnCertificate, Mismatch, PROTOCOL, server_name};
use crate::acme::problem::{Problem, ProblemType};

/// Handshakes, offering this one protocol, and judges the certificate that is shown; then hangs up.
pub(super) async fn look(validator: &Validator, attempt: &Attempt) -> Result<IpAddr, Problem> {
    let identifier = &attempt.identifier;
    if attempt.wildcard {
        let detail = "a wildcard name cannot be proven by tls-alpn-01";
        return Err(Problem::new(ProblemType::Unauthorized, detail));
    }
    let port = validator.settings.tls_port;
    let (from, connection) = validator.connect(identifier, port, true).await?;
    let tls = |why: &str| {
        Problem::new(
            ProblemType::Tls,
            format!("TLS with {identifier} at {from} port {port}: {why}"),
        )
    };
    let name = ServerName::try_from(server_name(identifier))
        .map_err(|_| tls("the name cannot be asked for"))?;
    let stream = validator
        .alpn
        .connector
        .connect(name, connection)
        .await
        .map_err(|error| tls(handshake_failure(&error)))?;
    let (_, session) = stream.get_ref();
    if session.alpn_protocol() != Some(PROTOCOL) {
        return Err(tls("the protocol acme-tls/1 was not negotiated (ALPN)"));
    }
    let leaf = session.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| tls("no certificate was shown"))?;
    judge(leaf, attempt, validator.alpn.algorithms).map_err(|Mismatch(why)| {
        let detail = format!("{identifier} showed a certificate that is no answer: {why}");
        Problem::new(ProblemType::IncorrectResponse, detail)
    })?;
    Ok(from)
}

fn judge(
    leaf: &CertificateDer<'_>,
    attempt: &Attempt,
    algorithms: WebPkiSupportedAlgorithms,
) -> Result<(), Mismatch> {
    let certificate = AlpnCertificate::parse(leaf)?;
    certificate.judge(&attempt.identifier, &attempt.key_authorization)?;
    let verifies = algorithms
        .all
        .iter()
        .filter(|algorithm| {
            algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
                && algorithm.public_key_alg_id().as_ref() == certificate.key_algorithm
        })
        .any(|algorithm| {
            let AlpnCertificate { key, signed, signature, .. } = &certificate;
            algorithm.verify_signature(key, signed, signature).is_ok()
        });
    if verifies { Ok(()) } else { Err(Mismatch("it is not self-signed")) }
}

/// What the client may know; what exactly was received stays here.
fn handshake_failure(error: &std::io::Error) -> &'static str {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            "nothing there speaks acme-tls/1"
        }
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            "nothing there knows the name"
        }
        Some(rustls::Error::AlertReceived(_)) => "the handshake was refused with an alert",
        Some(rustls::Error::InvalidCertificate(_)) => {
            "the certificate is not that of the key that signed the handshake"
        }
        Some(rustls::Error::PeerIncompatible(_)) => {
            "nothing in common: TLS 1.2 or 1.3 with a usual cipher is needed"
        }
        Some(_) => "what answers there is not TLS",
        None => "the connection broke within the handshake",
    }
}

/// TLS as this challenge needs it.
pub(super) struct Alpn {
    connector: TlsConnector,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Alpn {
    pub(super) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnswersItself(provider)))
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), algorithms })
    }
}

/// Lets every certificate through whose key signed the handshake: the certificate is judged after it. rustls's own
/// check cannot be used, since it refuses any certificate with a critical extension it does not know.
#[derive(Debug)]
struct AnswersItself(Arc<CryptoProvider>);

impl AnswersItself {
    fn verify(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let bad = |why| Err(rustls::Error::InvalidCertificate(why));
        let Ok(certificate) = AlpnCertificate::parse(leaf) else {
            return bad(CertificateError::BadEncoding);
        };
        let mapping = self.0.signature_verification_algorithms.mapping;
        let verifies = mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| *algorithms)
            .filter(|algorithm| algorithm.public_key_alg_id().as_ref() == certificate.key_algorithm)
            .any(|algorithm| {
                algorithm.verify_signature(&certificate.key, message, signed.signature()).is_ok()
            });
        if verifies {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            bad(CertificateError::BadSignature)
        }
    }
}

impl ServerCertVerifier for AnswersItself {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verify(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
