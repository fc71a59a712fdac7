//! Renewal information, and the certificate that an order replaces (RFC 9773).
//!
//! What is known of a certificate is the issuer's to say: it has the log, the revocations and the operator's
//! recalls. Which order replaces it is this process's own.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::CACHE_CONTROL;

use super::order::authorizations;
use super::{Fault, Reply};
use crate::acme::directory::CertId;
use crate::acme::order::{Order, Replaced};
use crate::acme::renewal::Certified;
use crate::id::{AccountId, Serial, Timestamp};
use crate::ipc::{Answer, Question};
use crate::store::{Change, Version};
use crate::web::Server;

/// Questions of strangers under way at once; orders and handshakes come first.
pub(crate) const CONCURRENCY: usize = 16;

/// Answers a GET of anyone (RFC 9773 section 4.2).
pub(super) async fn answer(server: &Server, id: CertId) -> Result<Reply, Fault> {
    tracing::Span::current().record("serial", tracing::field::display(id.serial));
    let certified = {
        let _permit = server.renewals.acquire().await.map_err(|_| Fault::Internal)?;
        certified(server, id).await?.ok_or_else(Fault::missing)?
    };
    let again = Duration::from_secs(server.settings.renewal_info_hours * 3600);
    Ok(Reply::object(StatusCode::OK, certified.window(id.serial).to_json())
        .retry_after(again)
        .header(CACHE_CONTROL, "public, max-age=300"))
}

async fn certified(server: &Server, id: CertId) -> Result<Option<Certified>, Fault> {
    if !server.chains.knows(&id.issuer_key_id) {
        return Ok(None);
    }
    match server.issuer.ask(Question::Renewal { serial: id.serial }).await? {
        Answer::Renewal(found) => Ok(found.map(|certified| *certified)),
        _ => Err(Fault::Internal),
    }
}

/// The certificate that an order is to replace, as far as it is one of this server's.
pub(super) struct Predecessor {
    serial: Serial,
    certified: Option<Certified>,
}

/// Looks up what `replaces` names.
pub(super) async fn predecessor(
    server: &Server,
    replaces: Option<&str>,
) -> Result<Option<Predecessor>, Fault> {
    let Some(text) = replaces else { return Ok(None) };
    let id: CertId = text.parse().map_err(|_| Replaced::unknown())?;
    let certified = certified(server, id).await?;
    Ok(Some(Predecessor { serial: id.serial, certified }))
}

impl Predecessor {
    /// Whether it is a certificate of this server.
    pub(super) fn is_known(&self) -> bool {
        self.certified.is_some()
    }

    /// The change that makes `order` the one that replaces it, or why it is not (RFC 9773 section 5). Two
    /// orders at once name one version of it, so that one of them conflicts and sees the other.
    pub(super) async fn replace(
        &self,
        server: &Server,
        account: AccountId,
        order: &Order,
        now: Timestamp,
    ) -> Result<Change, Fault> {
        let replaced = Replaced::new(self.serial, self.certified.as_ref(), account, order)?;
        let Some((before, version)) = server.store.replaced(self.serial).await? else {
            return Ok(Change::Replaced(replaced, Version::ABSENT));
        };
        let by = server.store.order(before.by).await?;
        before.check_free(by.map(|facts| facts.order.status(&authorizations(&facts), now)))?;
        Ok(Change::Replaced(replaced, version))
    }
}
