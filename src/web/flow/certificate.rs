//! The certificate (RFC 8555 section 7.4.2): leaf and issuing certificate, the root left out.

use hyper::StatusCode;

use super::order::own;
use super::{Fault, Reply, Signed};
use crate::acme::order::Outcome;
use crate::id::OrderId;
use crate::pki::certificate::Certificate;
use crate::web::Server;

pub(super) async fn answer(server: &Server, signed: Signed, id: OrderId) -> Result<Reply, Fault> {
    signed.only_get()?;
    let facts = own(server, &signed, id).await?;
    let Some(Outcome::Issued { certificate, serial, .. }) = &facts.order.outcome else {
        return Err(Fault::missing());
    };
    tracing::Span::current().record("serial", tracing::field::display(serial));
    let leaf = Certificate::parse(certificate).map_err(|_| Fault::Internal)?;
    let mut pem = leaf.pem();
    pem.push_str(&server.chain);
    Ok(Reply::new(StatusCode::OK, "application/pem-certificate-chain", pem).index())
}
