//! keyChange (RFC 8555 section 7.3.5). The issuer judges the same request again and records it; only then is the
//! key another one here.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;

use super::{Fault, Reply, Signed, new_account};
use crate::acme::account::{Account, KeyChange};
use crate::acme::directory::Resource;
use crate::acme::jws::Jwk;
use crate::id::AccountId;
use crate::ipc::{Answer, AskError, Question};
use crate::web::Server;
use crate::web::standing::{self, PATIENCE};

/// How long a key change waits for orders that the issuer has.
const ORDERS: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn answer(server: &Arc<Server>, signed: Signed) -> Result<Reply, Fault> {
    let url = server.urls.url(Resource::KeyChange);
    let kid = server.urls.url(Resource::Account(signed.account.id));
    let KeyChange { key } = KeyChange::parse(signed.json()?, &url, &kid, &signed.account.key)?;
    if let Some((holder, _)) = server.store.account_by_key(key.thumbprint()).await? {
        return Ok(in_use(server, holder.id));
    }
    settled(server, signed.account.id).await?;
    // Whoever goes away now leaves the two processes agreed nevertheless.
    let (task, id) = (Arc::clone(server), signed.account.id);
    let jws = signed.jws.to_vec();
    let changed = tokio::spawn(async move { change(&task, id, key, jws).await }).await;
    match changed.map_err(|_| Fault::Internal)?? {
        Changed::Account(account) => Ok(new_account::object(server, StatusCode::OK, &account)),
        Changed::InUse(holder) => Ok(in_use(server, holder)),
    }
}

enum Changed {
    Account(Box<Account>),
    InUse(AccountId),
}

async fn change(
    server: &Arc<Server>,
    id: AccountId,
    key: Jwk,
    jws: Vec<u8>,
) -> Result<Changed, Fault> {
    let asked = server.issuer.ask(Question::ChangeKey { jws });
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    let account = match answer.unwrap_or(Err(AskError::Retry(LOOK_AGAIN))) {
        Ok(Answer::KeyChanged) => standing::change_key(server, id, &key).await?,
        Ok(Answer::KeyInUse { account: holder }) if holder != id => {
            return Ok(Changed::InUse(holder));
        }
        // It is this account's own: an earlier answer was lost.
        Ok(Answer::KeyInUse { .. }) => standing::catch_up(server, id).await?,
        Ok(_) => return Err(Fault::Internal),
        Err(AskError::Refused(problem)) => {
            // The key that signed was perhaps the account's until the answer to this very change was lost.
            let account = standing::catch_up(server, id).await?;
            if account.as_ref().is_none_or(|account| account.key != key) {
                return Err(problem.into());
            }
            account
        }
        Err(error) => return Err(error.into()),
    };
    account.map(|account| Changed::Account(Box::new(account))).ok_or_else(Fault::missing)
}

/// Waits for the account's orders that the issuer has: their requests are signed by the key that is about to go,
/// and the issuer would refuse them after it.
async fn settled(server: &Server, account: AccountId) -> Result<(), Fault> {
    let steps = ORDERS.as_millis() / LOOK_AGAIN.as_millis();
    for _ in 0..steps {
        let mut waits = false;
        for order in server.store.processing().await? {
            let facts = server.store.order(order).await?;
            waits |= facts.is_some_and(|facts| facts.order.account == account);
        }
        if !waits {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(Fault::Retry(LOOK_AGAIN))
}

fn in_use(server: &Server, holder: AccountId) -> Reply {
    let problem = KeyChange::in_use();
    server.metrics.problem(problem.kind);
    Reply::problem(&problem).location(&server.urls.url(Resource::Account(holder)))
}
