//! The operator's side of the admin socket: asks and waits.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{AdminAnswer, AdminKey, AdminQuestion, AdminRefusal, Reply};
use crate::ipc::frame::{self, Hello};
use crate::ipc::peer::Peer;

/// A connection that has said hello.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Why there is no answer; the text begins with a code and is for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminError {
    /// Not now: no issuer runs, or it cannot at the moment.
    Retry(String),
    /// Not this, not by this user, or not between these two programs.
    Refused(String),
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(text) | Self::Refused(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for AdminError {}

impl Client {
    /// Reads the key, connects, and says hello. `uids` are the users as whom the issuer may run.
    pub fn connect(socket: &Path, key_file: &Path, uids: &[u32]) -> Result<Self, AdminError> {
        let mut stream = UnixStream::connect(socket).map_err(|e| unreachable(socket, &e))?;
        let peer = Peer::of(&stream).map_err(|e| unreachable(socket, &e))?;
        if !uids.contains(&peer.uid) {
            return Err(AdminError::Refused(format!(
                "CHY-IPC-PEER: user {} answers at {}, which is not the issuer's; find out who listens there",
                peer.uid,
                socket.display()
            )));
        }
        let key = read_key(key_file).map_err(|e| unreachable(key_file, &e))?;
        let hello = stream
            .set_read_timeout(Some(HELLO_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(HELLO_TIMEOUT)))
            .and_then(|()| stream.write_all(&Hello::new(key.0).frame()))
            .and_then(|()| frame::read_hello(&mut stream));
        let theirs = hello.map_err(|e| {
            AdminError::Retry(format!(
                "CHY-ADMIN-AWAY: the issuer closed {}: {e}; it may just have been restarted: try again",
                socket.display()
            ))
        })?;
        if !key.is(&theirs.digest) || theirs.version != Hello::new(key.0).version {
            return Err(AdminError::Refused(
                "CHY-ADMIN-MISMATCH: the running issuer is another version of this program; restart it".into(),
            ));
        }
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|e| unreachable(socket, &e))?;
        Ok(Self { stream })
    }

    /// Asks and waits for the answer.
    pub fn ask(&mut self, question: &AdminQuestion) -> Result<AdminAnswer, AdminError> {
        let frame = frame::encode(question).map_err(|_| {
            AdminError::Refused(
                "CHY-ADMIN-SIZE: this is too much to ask at once; ask in parts".into(),
            )
        })?;
        let mut payload = Vec::new();
        let exchanged = self
            .stream
            .write_all(&frame)
            .and_then(|()| frame::read(&mut self.stream, &mut payload));
        match exchanged {
            Ok(true) => {}
            Ok(false) => return Err(lost(&"the connection was closed")),
            Err(e) => return Err(lost(&e)),
        }
        let reply: Reply = frame::decode(&payload).map_err(|_| lost(&"not an answer"))?;
        reply.map_err(|refusal| match refusal {
            AdminRefusal::Retry(text) => AdminError::Retry(text),
            AdminRefusal::Refused(text) => AdminError::Refused(text),
        })
    }
}

fn read_key(path: &Path) -> io::Result<AdminKey> {
    let mut key = [0; 32];
    std::fs::File::open(path)?.read_exact(&mut key)?;
    Ok(AdminKey(key))
}

fn unreachable(path: &Path, error: &io::Error) -> AdminError {
    match error.kind() {
        io::ErrorKind::PermissionDenied => AdminError::Refused(format!(
            "CHY-ADMIN-DENIED: {}: {error}; run this as the issuer's user or as root",
            path.display()
        )),
        _ => AdminError::Retry(format!(
            "CHY-ADMIN-AWAY: no issuer answers at {}: {error}; start it with `chancery serve`, or see why it stopped: journalctl -u chancery-issuer",
            path.display()
        )),
    }
}

fn lost(why: &dyn fmt::Display) -> AdminError {
    AdminError::Retry(format!(
        "CHY-ADMIN-AWAY: the issuer did not answer: {why}; whether it did what was asked is not known: look before asking again"
    ))
}

const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Log and token included; the token's own deadline comes first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
