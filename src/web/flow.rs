//! The pipeline every request passes, and one file per ACME request behind it.
//!
//! A signed request is checked in one order (RFC 8555 section 6), and the first failure answers: method,
//! content type, size, form, `jwk` or `kid`, url, nonce, account, signature, account status; the flow then
//! asks whose resource it is. A foreign resource answers like a missing one.

mod account;
mod add_checkpoint;
mod authorization;
mod certificate;
mod challenge;
mod finalize;
mod key_change;
mod new_account;
mod new_authz;
mod new_order;
mod order;
mod permit;
mod probe;
mod renewal;
mod reply;
mod revoke_cert;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE,
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, EXPECT,
};
use hyper::{Method, Request, Response, StatusCode};
use tracing::Instrument;
use tracing::field::Empty;

pub(crate) use add_checkpoint::CONCURRENCY as COSIGNING;
pub(crate) use renewal::CONCURRENCY as RENEWALS;
pub(crate) use reply::{Fault, Reply, link};

use super::listen::{Door, Origin};
use super::route::{Route, route};
use super::{Server, page, public, tiles};
use crate::acme::account::Account;
use crate::acme::directory::Resource;
use crate::acme::jws::{Jws, KeyRef, Payload};
use crate::acme::nonce::NonceError;
use crate::acme::problem::{Problem, ProblemType};
use crate::id::Timestamp;
use crate::store::StoreError;

/// How often a decision is made again because another request changed the facts it was made on.
const CONFLICTS: usize = 8;

/// A verified request: its account is active and signed exactly this.
pub(crate) struct Signed {
    pub(crate) account: Account,
    pub(crate) payload: Payload,
    /// The request's body, a flattened JWS, as it came.
    pub(crate) jws: Bytes,
    /// The address it came from.
    pub(crate) peer: IpAddr,
    /// Read once per request.
    pub(crate) now: Timestamp,
    /// Whether it asks for a certificate by itself, in DER.
    pub(crate) wants_der: bool,
}

/// Answers one request; never fails, whatever happens inside.
pub(crate) async fn answer(
    server: &Arc<Server>,
    origin: Origin,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let begun = server.clock.monotonic();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let route = route(&method, uri.path_and_query().map_or("/", |target| target.as_str()));
    let flow = flow_name(&route, origin);
    let span = tracing::info_span!(
        "request",
        flow,
        peer = %origin.peer,
        account = Empty,
        order = Empty,
        serial = Empty,
    );
    let reply = unwinding(dispatch(server, origin, route, request)).instrument(span.clone()).await;
    let mut reply = match reply {
        Ok(Ok(reply)) => reply,
        Ok(Err(fault)) => {
            let _entered = span.enter();
            fault.into_reply(server)
        }
        Err(panicked) => {
            let _entered = span.enter();
            tracing::error!(code = "CHY-INTERNAL", panicked, "a request failed inside");
            Fault::Internal.into_reply(server)
        }
    };
    if method == Method::POST && origin.door == Door::Https {
        reply = reply.nonce(&server.nonces.mint(server.clock.now()));
    }
    let response = reply.into_response(server, origin.door, method == Method::HEAD);
    let took = server.clock.monotonic().saturating_sub(begun);
    let status = response.status().as_u16();
    server.metrics.answered(flow, status, took);
    span.in_scope(|| tracing::debug!(status, micros = took.as_micros() as u64, "answered"));
    response
}

/// Runs a future; a panic in it becomes an error with the panic's text.
async fn unwinding<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = pin!(future);
    std::future::poll_fn(move |context| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(panic) => Poll::Ready(Err(panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default())),
        }
    })
    .await
}

/// A name for spans and counters; few values.
fn flow_name(route: &Route<'_>, origin: Origin) -> &'static str {
    match route {
        Route::Directory => "directory",
        Route::NewNonce { .. } => "new-nonce",
        Route::Acme(_) if origin.door != Door::Https => "none",
        Route::Acme(resource) => match resource {
            Resource::Directory => "directory",
            Resource::NewNonce => "new-nonce",
            Resource::NewAccount => "new-account",
            Resource::NewOrder => "new-order",
            Resource::NewAuthz => "new-authz",
            Resource::Account(_) => "account",
            Resource::AccountOrders(_) | Resource::AccountOrdersAfter(..) => "orders",
            Resource::Order(_) => "order",
            Resource::Finalize(_) => "finalize",
            Resource::Certificate(_) | Resource::AlternateCertificate(..) => "certificate",
            Resource::Authz(_) => "authorization",
            Resource::Challenge(..) => "challenge",
            Resource::RevokeCert => "revoke-cert",
            Resource::KeyChange => "key-change",
            _ => "none",
        },
        Route::Renewal(_) => "renewal-info",
        Route::Preflight => "preflight",
        Route::Page => "page",
        Route::Public(_) => "public",
        Route::AddCheckpoint => "add-checkpoint",
        Route::Tile(_) => "tile",
        Route::Proof(_) => "proof",
        Route::Probe(_) => "probe",
        Route::MethodNotAllowed(_) | Route::NotFound => "none",
    }
}

async fn dispatch(
    server: &Arc<Server>,
    origin: Origin,
    route: Route<'_>,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    let acme = matches!(
        route,
        Route::Directory
            | Route::NewNonce { .. }
            | Route::Renewal(_)
            | Route::Acme(_)
            | Route::Preflight
    );
    if acme && origin.door != Door::Https {
        return Err(Fault::missing());
    }
    match route {
        Route::Directory => Ok(directory(server)),
        Route::NewNonce { head } => Ok(new_nonce(server, head)),
        Route::Renewal(id) => renewal::answer(server, id).await,
        Route::Acme(resource) => post(server, origin, resource, request).await,
        Route::Preflight => Ok(Reply::empty(StatusCode::NO_CONTENT)
            .header(ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST")
            .header(ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type")
            .header(ACCESS_CONTROL_MAX_AGE, "86400")),
        Route::Page if origin.door != Door::Metrics => {
            Ok(Reply::new(StatusCode::OK, "text/html; charset=utf-8", server.page.clone())
                .header(CONTENT_SECURITY_POLICY, page::CONTENT_SECURITY_POLICY)
                .header(CACHE_CONTROL, "no-cache"))
        }
        Route::Public(file) if origin.door != Door::Metrics => {
            public::answer(server, file, request.headers()).await
        }
        Route::AddCheckpoint if origin.door != Door::Metrics => {
            add_checkpoint::answer(server, origin, request).await
        }
        Route::Tile(path) if origin.door != Door::Metrics => {
            tiles::tile(server, origin.peer, path).await
        }
        Route::Proof(serial) if origin.door != Door::Metrics => tiles::proof(server, serial).await,
        Route::Probe(probe) if origin.may_probe() => probe::answer(server, probe).await,
        Route::MethodNotAllowed(allow) => {
            let problem =
                Problem::new(ProblemType::Malformed, "this resource does not have that method")
                    .with_status(StatusCode::METHOD_NOT_ALLOWED.as_u16());
            server.metrics.problem(problem.kind);
            Ok(Reply::problem(&problem).header(ALLOW, allow))
        }
        Route::Page
        | Route::Public(_)
        | Route::AddCheckpoint
        | Route::Tile(_)
        | Route::Proof(_)
        | Route::Probe(_)
        | Route::NotFound => Err(Fault::missing()),
    }
}

fn directory(server: &Server) -> Reply {
    Reply::new(StatusCode::OK, "application/json", server.directory.clone())
        .header(CACHE_CONTROL, "public, max-age=300")
}

/// RFC 8555 section 7.2.
fn new_nonce(server: &Server, head: bool) -> Reply {
    let status = if head { StatusCode::OK } else { StatusCode::NO_CONTENT };
    Reply::empty(status).nonce(&server.nonces.mint(server.clock.now())).index()
}

/// A signed request, from its content type to its flow.
async fn post(
    server: &Arc<Server>,
    origin: Origin,
    resource: Resource,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    check_content_type(&request)?;
    let wants_der = wants_der(&request);
    let body = read_body(server, request, Jws::MAX).await?;
    let now = server.clock.now();
    let jws = Jws::parse(&body).map_err(Problem::from)?;
    match (resource, jws.key()) {
        (Resource::NewAccount, KeyRef::Kid(_)) => {
            return Err(Problem::malformed("newAccount is signed with \"jwk\", not \"kid\"").into());
        }
        (Resource::NewAccount | Resource::RevokeCert, KeyRef::Jwk(_)) | (_, KeyRef::Kid(_)) => {}
        (_, KeyRef::Jwk(_)) => {
            return Err(
                Problem::malformed("this request is signed with \"kid\", not \"jwk\"").into()
            );
        }
    }
    if jws.url() != server.urls.url(resource) {
        return Err(unauthorized("the protected \"url\" is not the URL of this request").into());
    }
    let nonce =
        jws.nonce().ok_or_else(|| Problem::malformed("the protected header has no \"nonce\""))?;
    server.nonces.spend(nonce, now).map_err(|error| match error {
        NonceError::Malformed => Problem::malformed("the nonce is not base64url"),
        NonceError::Bad => Problem::new(
            ProblemType::BadNonce,
            "the nonce is unknown, too old or was used; take the one in this answer",
        ),
    })?;
    let kid = match jws.key() {
        KeyRef::Jwk(jwk) => {
            let payload = jws.verify(jwk).map_err(Problem::from)?;
            return match resource {
                Resource::RevokeCert => revoke_cert::by_key(server, payload, body).await,
                _ => new_account::answer(server, origin, jwk, payload, body, now).await,
            };
        }
        KeyRef::Kid(kid) => kid,
    };
    let account = load_account(server, kid).await?;
    tracing::Span::current().record("account", tracing::field::display(account.id));
    let payload = jws.verify(&account.key).map_err(Problem::from)?;
    account.check_active()?;
    let signed = Signed { account, payload, jws: body, peer: origin.peer, now, wants_der };
    match resource {
        Resource::Directory => signed.only_get().map(|()| directory(server)),
        Resource::NewNonce => signed.only_get().map(|()| new_nonce(server, false)),
        Resource::NewOrder => new_order::answer(server, signed).await,
        Resource::Account(id) => account::answer(server, signed, id).await,
        Resource::AccountOrders(id) => account::orders(server, signed, id, None).await,
        Resource::AccountOrdersAfter(id, after) => {
            account::orders(server, signed, id, Some(after)).await
        }
        Resource::Order(id) => order::answer(server, signed, id).await,
        Resource::Finalize(id) => finalize::answer(server, signed, id).await,
        Resource::NewAuthz => new_authz::answer(server, signed).await,
        Resource::Certificate(id) => certificate::answer(server, signed, id, 0).await,
        Resource::AlternateCertificate(id, chain) => {
            certificate::answer(server, signed, id, chain).await
        }
        Resource::Authz(id) => authorization::answer(server, signed, id).await,
        Resource::Challenge(authz, id) => challenge::answer(server, signed, authz, id).await,
        Resource::RevokeCert => revoke_cert::by_account(server, signed).await,
        Resource::KeyChange => key_change::answer(server, signed).await,
        Resource::NewAccount | Resource::RenewalInfo | Resource::Renewal(_) => {
            Err(Fault::missing())
        }
    }
}

impl Signed {
    /// Refuses anything but POST-as-GET.
    pub(crate) fn only_get(&self) -> Result<(), Fault> {
        match self.payload {
            Payload::PostAsGet => Ok(()),
            Payload::Json(_) => {
                Err(Problem::malformed("this resource is read with an empty payload (POST-as-GET)")
                    .into())
            }
        }
    }

    /// The payload of a request that must have one.
    pub(crate) fn json(&self) -> Result<&[u8], Fault> {
        match &self.payload {
            Payload::Json(octets) => Ok(octets),
            Payload::PostAsGet => Err(Problem::malformed("this request needs a payload").into()),
        }
    }
}

/// RFC 8555 section 6.2: exactly this type; parameters are not part of it.
fn check_content_type(request: &Request<Incoming>) -> Result<(), Fault> {
    let value = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.map(|value| value.split(';').next().unwrap_or_default().trim());
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/jose+json")) {
        return Ok(());
    }
    Err(Problem::malformed("requests have the content type application/jose+json")
        .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16())
        .into())
}

/// Whether the Accept header names `application/pkix-cert` and not the chain.
fn wants_der(request: &Request<Incoming>) -> bool {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
    let names = |kind: &str| {
        let mut kinds = accept.unwrap_or_default().split([',', ';']).map(str::trim);
        kinds.any(|accepted| accepted.eq_ignore_ascii_case(kind))
    };
    names("application/pkix-cert") && !names("application/pem-certificate-chain")
}

/// The whole body, at most `most` octets, within the body timeout.
async fn read_body(
    server: &Server,
    request: Request<Incoming>,
    most: usize,
) -> Result<Bytes, Fault> {
    let too_large = || {
        Problem::new(ProblemType::Malformed, format!("a request has at most {most} octets"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE.as_u16())
    };
    let patience = Duration::from_secs(server.settings.body_timeout_seconds.max(1));
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|n| n.parse::<u64>().ok());
    let asks_first = request.headers().contains_key(EXPECT);
    let mut body = request.into_body();
    if announced.is_some_and(|n| n > most as u64) {
        if !asks_first {
            let _ = tokio::time::timeout(patience, drain(&mut body, most)).await;
        }
        return Err(too_large().into());
    }
    match tokio::time::timeout(patience, Limited::new(&mut body, most).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let _ = tokio::time::timeout(patience, drain(&mut body, most)).await;
            Err(too_large().into())
        }
        Ok(Err(_)) => Err(Problem::malformed("the request body ended early").into()),
        Err(_) => Err(Problem::malformed("the request body did not arrive in time")
            .with_status(StatusCode::REQUEST_TIMEOUT.as_u16())
            .into()),
    }
}

/// Reads on past a body that is too large, a bounded while. A connection closed while its client still sends is
/// reset, and the client may lose the answer that says why (RFC 9112 section 9.6).
async fn drain(body: &mut Incoming, most: usize) {
    let mut left = 4 * most;
    // What is on its way arrives at once; a client that pauses waits for the answer.
    while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// How long a client must be silent to be taken for one that waits.
const PAUSE: Duration = Duration::from_millis(300);

async fn load_account(server: &Server, kid: &str) -> Result<Account, Fault> {
    let unknown = || Problem::new(ProblemType::AccountDoesNotExist, "\"kid\" names no account");
    let Some(Resource::Account(id)) = server.urls.parse(kid) else {
        return Err(unknown().into());
    };
    let found = server.store.account(id).await?;
    found.map(|(account, _)| account).ok_or_else(|| unknown().into())
}

/// Commits a decision made on facts, and makes it again when they have changed meanwhile.
///
/// `decide` loads, decides and commits once; `Err(Fault::Store(Conflict))` has it called again.
pub(crate) async fn until_committed<T, F>(mut decide: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    for _ in 1..CONFLICTS {
        match decide().await {
            Err(Fault::Store(StoreError::Conflict)) => {}
            decided => return decided,
        }
    }
    decide().await
}

/// 401: who asks may not, or not like this.
pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::Unauthorized, detail).with_status(StatusCode::UNAUTHORIZED.as_u16())
}
