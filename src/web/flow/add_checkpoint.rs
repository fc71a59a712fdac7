//! This box as a witness of other logs (C2SP tlog-witness): takes the request in, bounded, and passes it on. What is
//! in it is the issuer's to read.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::{Fault, Reply, read_body};
use crate::ipc::witness::Cosigned;
use crate::ipc::{Answer, Question};
use crate::tlog::witness::MAX_BODY;
use crate::web::listen::Origin;
use crate::web::{Server, limits};

/// Requests of strangers that the issuer has at once; orders come first.
pub(crate) const CONCURRENCY: usize = 4;
/// A token that takes longer has other things to do.
const PATIENCE: Duration = Duration::from_secs(10);
const BUSY: Duration = Duration::from_secs(2);
const TEXT: &str = "text/plain; charset=utf-8";
/// The size in a 409 (C2SP tlog-witness).
const SIZE: &str = "text/x.tlog.size";

pub(super) async fn answer(
    server: &Server,
    origin: Origin,
    request: Request<Incoming>,
) -> Result<Reply, Fault> {
    if !server.cosigns {
        return Err(Fault::missing());
    }
    limits::cosignature(server, origin.peer.to_canonical())?;
    let body = read_body(server, request, MAX_BODY).await?;
    let _permit = server.cosigning.try_acquire().map_err(|_| Fault::Retry(BUSY))?;
    let asked = server.issuer.ask(Question::Cosign { body: body.into() });
    let answer = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| Fault::Retry(BUSY))??;
    let Answer::Cosigned(cosigned) = answer else { return Err(Fault::Internal) };
    let (status, kind, text) = match cosigned {
        Cosigned::Lines(lines) => (StatusCode::OK, TEXT, lines),
        Cosigned::Malformed => {
            (StatusCode::BAD_REQUEST, TEXT, "not an add-checkpoint request\n".into())
        }
        Cosigned::Unsigned => (
            StatusCode::FORBIDDEN,
            TEXT,
            "no valid signature by a trusted key of this log\n".into(),
        ),
        Cosigned::Unknown => (StatusCode::NOT_FOUND, TEXT, "this log is not watched here\n".into()),
        Cosigned::Conflict(size) => (StatusCode::CONFLICT, SIZE, format!("{size}\n")),
        Cosigned::Inconsistent => (
            StatusCode::UNPROCESSABLE_ENTITY,
            TEXT,
            "nothing shows that this tree continues the one that was cosigned last\n".into(),
        ),
    };
    Ok(Reply::new(status, kind, text))
}
