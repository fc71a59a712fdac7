//! What an account must have before it may order: the agreement to the terms in force, and names that no ticket
//! keeps from it.

use std::time::Duration;

use super::Fault;
use crate::acme::account::Account;
use crate::id::AccountId;
use crate::ipc::message::Permits;
use crate::ipc::{Answer, AskError, Question};
use crate::pki::name::Identifier;
use crate::web::Server;

/// An issuer that is away holds up no order: it is asked again when the certificate is.
const PATIENCE: Duration = Duration::from_secs(2);

/// 403 `userActionRequired` with a link to the terms where they changed since the account agreed (RFC 8555
/// section 7.3.3).
pub(super) fn check_terms(server: &Server, account: &Account) -> Result<(), Fault> {
    let Some(terms) = &server.settings.terms_of_service else { return Ok(()) };
    let instance = format!("{}/#terms", server.urls.base());
    account
        .check_terms(Some(terms), &instance)
        .map_err(|problem| Fault::Linked(problem, terms.clone(), "terms-of-service"))
}

/// Refuses names that are bound to others' tickets, or that the account's own ticket does not allow. Gives the
/// profile that the account's ticket says.
pub(super) async fn check_tickets(
    server: &Server,
    account: AccountId,
    identifiers: &[Identifier],
    profile: Option<&str>,
) -> Result<Option<String>, Fault> {
    let asked =
        Permits { account, identifiers: identifiers.to_vec(), profile: profile.map(str::to_owned) };
    let answer = server.issuer.ask(Question::Permits(Box::new(asked)));
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Answer::Permitted { profile })) => Ok(profile),
        Ok(Ok(_)) => Err(Fault::Internal),
        Ok(Err(AskError::Retry(_))) | Err(_) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
    }
}
