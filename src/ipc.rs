//! What the web process may ask of the issuer, and how the bytes travel: postcard frames over a
//! unix socket, length-bounded, multiplexed by request id. The first frame carries protocol version and
//! configuration digest; peer credentials are checked. What the operator's tools ask goes over a socket
//! of its own, which the web process has no way to: `admin`.

pub mod admin;
pub mod client;
pub mod figures;
pub mod frame;
mod listener;
pub mod local;
pub mod message;
mod peer;
pub mod server;
#[cfg(test)]
mod tests;
pub mod witness;

use std::time::Duration;

pub use message::{Answer, Question, Refusal};

use crate::acme::problem::Problem;

/// The issuer as the web process sees it.
pub trait Issuer: Send + Sync {
    /// Asks and waits without blocking a thread.
    fn ask(
        &self,
        question: Question,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Answer, AskError>> + Send + '_>>;
    /// Asks and blocks this thread at most `deadline`: for rustls's synchronous signing.
    fn ask_blocking(&self, question: Question, deadline: Duration) -> Result<Answer, AskError>;
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// The issuer is away or busy: answer 503 with this Retry-After.
    Retry(Duration),
    /// The issuer will not do it; fit for the client.
    Refused(Problem),
    /// Too much of it was asked for: fit for the client, with this Retry-After.
    Limited(Problem, Duration),
    /// The two processes do not belong together (version, configuration, framing).
    Broken(String),
}

/// The issuer as it is served: called on a connection's thread, answers through `reply`, once, from any thread.
pub trait Service: Send + Sync {
    fn call(&self, question: Question, reply: Reply);

    /// Told when a peer broke the rules of the socket and was turned away.
    fn trespassed(&self, _what: Trespass) {}
}

/// How a peer broke the rules of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trespass {
    /// Its user may not connect, or could not be told.
    Peer,
    /// It holds as many connections as it may, or there is no room.
    Connections,
    /// It sent what is no hello of this program, no frame or no question.
    Frame,
}

impl Trespass {
    /// One word, for records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Connections => "connections",
            Self::Frame => "frame",
        }
    }
}

/// Where one answer goes.
pub type Reply = Box<dyn FnOnce(Result<Answer, Refusal>) + Send>;
