//! The certificate (RFC 8555 section 7.4.2): leaf and issuing certificate, the root left out; and the chains that
//! it has besides.

use std::time::Duration;

use hyper::StatusCode;

use super::order::own;
use super::{Fault, Reply, Signed};
use crate::acme::directory::{PROOF, Resource};
use crate::acme::order::Outcome;
use crate::id::OrderId;
use crate::pki::certificate::Certificate;
use crate::web::Server;

/// Answers with chain number `chain`; the first is the one without a number. As `application/pkix-cert` there
/// is no chain, but a link to the issuing certificate.
pub(super) async fn answer(
    server: &Server,
    signed: Signed,
    id: OrderId,
    chain: u8,
) -> Result<Reply, Fault> {
    signed.only_get()?;
    let facts = own(server, &signed, id).await?;
    let Some(Outcome::Issued { certificate, serial, .. }) = &facts.order.outcome else {
        return Err(Fault::missing());
    };
    tracing::Span::current().record("serial", tracing::field::display(serial));
    let leaf = Certificate::parse(certificate).map_err(|_| Fault::Internal)?;
    let Some(issuer) = server.chains.of(&leaf) else {
        tracing::error!(code = "CHY-WEB-ISSUER", %serial, "the certificate is of an issuing CA that this process does not know; restart it");
        return Err(Fault::Retry(UNKNOWN));
    };
    let behind = issuer.chains.get(usize::from(chain)).ok_or_else(Fault::missing)?;
    if signed.wants_der {
        let up = format!("{}/{}", server.urls.base(), issuer.file());
        return Ok(Reply::new(StatusCode::OK, "application/pkix-cert", leaf.der().to_vec())
            .link(&up, "up")
            .link(&server.urls.proof(*serial), PROOF)
            .index());
    }
    let pem = leaf.pem() + behind;
    let reply = Reply::new(StatusCode::OK, "application/pem-certificate-chain", pem)
        .link(&server.urls.proof(*serial), PROOF)
        .index();
    let others = (0..issuer.chains.len()).filter(|other| *other != usize::from(chain));
    Ok(others.filter_map(|other| u8::try_from(other).ok()).fold(reply, |reply, other| {
        let resource = match other {
            0 => Resource::Certificate(id),
            other => Resource::AlternateCertificate(id, other),
        };
        reply.link(&server.urls.url(resource), "alternate")
    }))
}

/// After a ceremony both processes are started anew; one may be before the other.
const UNKNOWN: Duration = Duration::from_secs(10);
