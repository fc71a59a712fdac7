//! Answers: what a flow says, and what every answer carries besides.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use crate::acme::problem::{Problem, ProblemType};
use crate::ipc::AskError;
use crate::store::StoreError;
use crate::web::Server;
use crate::web::listen::Door;

const REPLAY_NONCE: HeaderName = HeaderName::from_static("replay-nonce");

/// One answer, without what all have.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    body: Bytes,
    headers: HeaderMap,
    /// Whether it is an ACME resource other than the directory, which link back to it.
    index: bool,
}

impl Reply {
    pub(crate) fn new(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, body: body.into(), headers, index: false }
    }

    /// An ACME object.
    pub(crate) fn object(status: StatusCode, json: String) -> Self {
        Self::new(status, "application/json", json).index()
    }

    /// RFC 7807.
    pub(crate) fn problem(problem: &Problem) -> Self {
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, "application/problem+json", problem.to_json()).index()
    }

    pub(crate) fn empty(status: StatusCode) -> Self {
        Self { status, body: Bytes::new(), headers: HeaderMap::with_capacity(8), index: false }
    }

    /// A header; one whose value is not a header value is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.append(name, value);
        }
        self
    }

    pub(crate) fn location(self, url: &str) -> Self {
        self.header(LOCATION, url)
    }

    pub(crate) fn link(mut self, url: &str, relation: &str) -> Self {
        if let Some(value) = link(url, relation) {
            self.headers.append(LINK, value);
        }
        self
    }

    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        self.header(RETRY_AFTER, &seconds.max(1).to_string())
    }

    /// Retry-After for what many may be told at once: each another second.
    pub(crate) fn come_back(self, server: &Server, wait: Duration) -> Self {
        self.header(RETRY_AFTER, &server.spread.seconds(wait).to_string())
    }

    pub(crate) fn index(mut self) -> Self {
        self.index = true;
        self
    }

    /// RFC 8555 section 6.5: an answer with a nonce must not be stored.
    pub(crate) fn nonce(mut self, nonce: &str) -> Self {
        self.headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        self.header(REPLAY_NONCE, nonce)
    }

    /// Adds what all answers of a door carry.
    pub(crate) fn into_response(
        mut self,
        server: &Server,
        door: Door,
        head: bool,
    ) -> Response<Full<Bytes>> {
        if door == Door::Https {
            if self.index {
                self.headers.append(LINK, server.index.clone());
            }
            self.headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            self.headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static("Link, Location, Replay-Nonce, Retry-After"),
            );
        }
        self.headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if head {
            // As long as the body that GET would have had.
            self.headers.insert(CONTENT_LENGTH, self.body.len().into());
            self.body = Bytes::new();
        }
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// The value of a Link header (RFC 8288).
pub(crate) fn link(url: &str, relation: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("<{url}>;rel=\"{relation}\"")).ok()
}

/// Why a flow did not answer with what was asked for.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The client's doing, and for the client to read.
    Problem(Problem),
    /// Too often: for the client to read, and to ask again after so long (RFC 8555 section 6.6).
    Limited(Problem, Duration),
    /// The same with a link (its URL and relation) that says more.
    Linked(Problem, String, &'static str),
    /// The store; a conflict makes the flow decide again.
    Store(StoreError),
    /// Something is away: 503, and ask again after so long.
    Retry(Duration),
    /// A bug here.
    Internal,
}

impl Fault {
    /// No such resource, or not the asker's.
    pub(crate) fn missing() -> Self {
        Self::Problem(
            Problem::new(ProblemType::Malformed, "there is no such resource")
                .with_status(StatusCode::NOT_FOUND.as_u16()),
        )
    }

    pub(crate) fn into_reply(self, server: &Server) -> Reply {
        let away = |wait| {
            let problem = Problem::new(
                ProblemType::ServerInternal,
                "the server cannot do this now; try again later",
            )
            .with_status(StatusCode::SERVICE_UNAVAILABLE.as_u16());
            (problem, Some(wait))
        };
        let mut link = None;
        let (problem, wait) = match self {
            Self::Problem(problem) => (problem, None),
            Self::Linked(problem, url, relation) => {
                link = Some((url, relation));
                (problem, None)
            }
            Self::Limited(problem, wait) => {
                link = Some((server.help.clone(), "help"));
                (problem, Some(wait))
            }
            Self::Retry(wait) => away(wait),
            Self::Store(StoreError::Conflict | StoreError::Busy) => away(Duration::from_secs(1)),
            Self::Store(StoreError::Halt(why)) => {
                server.halt(why);
                away(Duration::from_secs(10))
            }
            Self::Internal => {
                (Problem::new(ProblemType::ServerInternal, "the server failed"), None)
            }
        };
        server.metrics.problem(problem.kind);
        tracing::info!(
            problem = problem.kind.urn(),
            status = problem.status,
            detail = problem.detail,
            "refused"
        );
        let mut reply = Reply::problem(&problem);
        if let Some((url, relation)) = link {
            reply = reply.link(&url, relation);
        }
        match wait {
            Some(wait) if problem.status == StatusCode::SERVICE_UNAVAILABLE.as_u16() => {
                reply.come_back(server, wait)
            }
            Some(wait) => reply.retry_after(wait),
            None => reply,
        }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<AskError> for Fault {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Retry(wait) => Self::Retry(wait),
            AskError::Refused(problem) => Self::Problem(problem),
            AskError::Limited(problem, wait) => Self::Limited(problem, wait),
            AskError::Broken(why) => {
                tracing::error!(code = "CHY-IPC-BROKEN", %why, "the issuer does not fit");
                Self::Retry(Duration::from_secs(10))
            }
        }
    }
}
