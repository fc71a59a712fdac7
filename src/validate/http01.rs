//! http-01 (RFC 8555 section 8.3).

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::location::Location;
use super::{Attempt, Validator};
use crate::acme::problem::{Problem, ProblemType};
use crate::env::net::Connection;
use crate::pki::name::Identifier;

/// Asks the identifier's host for the challenge's resource; the address that answered rightly.
///
/// Redirects are followed, at most [`MOST_REDIRECTS`], to the ports of `redirect-ports` (and the
/// one it started at), each hop resolved and vetted anew. Behind https no certificate is checked:
/// obtaining one may be what this is about, and the proof is in the content.
pub(super) async fn look(validator: &Validator, attempt: &Attempt) -> Result<IpAddr, Problem> {
    if attempt.wildcard {
        return Err(Problem::new(
            ProblemType::Unauthorized,
            "a wildcard name cannot be proven by http-01",
        ));
    }
    let mut place = Location {
        tls: false,
        host: attempt.identifier.clone(),
        port: validator.settings.http_port,
        target: format!("/.well-known/acme-challenge/{}", attempt.token),
    };
    for hop in 0..=MOST_REDIRECTS {
        let (from, response) = ask(validator, &place, hop == 0).await?;
        if is_redirect(response.status()) {
            place = next_place(validator, &place, &response)?;
            continue;
        }
        return match judge(attempt, response).await {
            Ok(()) => Ok(from),
            // Said of another host than the client's own, status and length would map for it a network
            // that it cannot see into.
            Err(problem) if place.host != attempt.identifier => {
                tracing::debug!(host = %place.host, why = %problem.detail, "a redirect's target does not match");
                Err(incorrect(ELSEWHERE))
            }
            Err(problem) => Err(problem),
        };
    }
    Err(incorrect(format!("more than {MOST_REDIRECTS} redirects")))
}

/// One request. The connection's task ends with the response's guard.
async fn ask(
    validator: &Validator,
    place: &Location,
    asked_for: bool,
) -> Result<(IpAddr, Answer), Problem> {
    let (from, connection) = validator.connect(&place.host, place.port, asked_for).await?;
    let connection =
        if place.tls { encrypt(validator, place, connection).await? } else { connection };
    let request = Request::get(&place.target)
        .header(header::HOST, place.authority())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        // What is not compressed needs no bound on what it expands to.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| incorrect("a redirect leads to no valid request"))?;
    let broken = |error: hyper::Error| {
        if error.is_parse() {
            incorrect("the response is not HTTP/1.1, or its head is too large")
        } else {
            Problem::new(ProblemType::Connection, "the connection broke before the response ended")
        }
    };
    let (mut sender, driver) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(connection))
        .await
        .map_err(broken)?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        // Its error also reaches whoever waits for the response.
        let _ = driver.await;
    });
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok((from, Answer { response, _task: task }))
}

/// A response whose head was read; dropping it drops the connection.
struct Answer {
    response: Response<Incoming>,
    _task: JoinSet<()>,
}

impl Answer {
    fn status(&self) -> StatusCode {
        self.response.status()
    }
}

fn next_place(
    validator: &Validator,
    place: &Location,
    answer: &Answer,
) -> Result<Location, Problem> {
    let next = answer
        .response
        .headers()
        .get(header::LOCATION)
        .and_then(|location| place.follow(location.as_bytes()))
        .ok_or_else(|| incorrect("a redirect leads to no http or https URL of a host"))?;
    let settings = &validator.settings;
    if next.port != settings.http_port && !settings.redirect_ports.contains(&next.port) {
        return Err(Problem::new(
            ProblemType::Unauthorized,
            "a redirect leads to a port that this server does not connect to",
        ));
    }
    Ok(next)
}

/// Compares the content with the key authorization. Of the content nothing is repeated: it may
/// have come from a host that the client cannot reach itself.
async fn judge(attempt: &Attempt, answer: Answer) -> Result<(), Problem> {
    let status = answer.status();
    if status != StatusCode::OK {
        return Err(incorrect(format!(
            "{} answered with HTTP status {} where 200 was due",
            attempt.identifier,
            status.as_u16()
        )));
    }
    let body = Limited::new(answer.response.into_body(), MOST_BODY)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                incorrect("the response is longer than any key authorization")
            } else {
                Problem::new(ProblemType::Connection, "the connection broke within the response")
            }
        })?
        .to_bytes();
    // RFC 8555 section 8.3: the server SHOULD ignore white space at the end of the body.
    let content = body.trim_ascii_end();
    verify_slices_are_equal(content, attempt.key_authorization.as_bytes()).map_err(|_| {
        incorrect(format!(
            "{} answered with something else than the key authorization",
            attempt.identifier
        ))
    })
}

async fn encrypt(
    validator: &Validator,
    place: &Location,
    connection: Box<dyn Connection>,
) -> Result<Box<dyn Connection>, Problem> {
    let failed =
        || Problem::new(ProblemType::Tls, "the TLS handshake with a redirect's target failed");
    let name = match &place.host {
        Identifier::Ip(address) => ServerName::from(*address),
        Identifier::Dns(name) => {
            ServerName::try_from(name.as_str().to_owned()).map_err(|_| failed())?
        }
    };
    let stream = validator.tls.connect(name, connection).await.map_err(|_| failed())?;
    Ok(Box::new(stream))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn incorrect(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::IncorrectResponse, detail)
}

/// TLS as a redirect to https needs it: any certificate will do, nothing is resumed.
pub(super) fn tls_connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(provider::default_provider());
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Accepts every certificate, expired, self-signed or for another name. It protects nothing here.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const ELSEWHERE: &str =
    "the host that a redirect leads to did not answer with the key authorization";
const USER_AGENT: &str = concat!("chancery/", env!("CARGO_PKG_VERSION"), " (ACME http-01)");
/// RFC 8555 names no number; Boulder and Let's Encrypt's documentation say ten.
const MOST_REDIRECTS: usize = 10;
/// Octets of a response's head, in one buffer.
const MOST_HEAD: usize = 16 * 1024;
/// Octets of a body. A key authorization has fewer than a hundred.
const MOST_BODY: usize = 8 * 1024;

#[cfg(test)]
mod tests;
