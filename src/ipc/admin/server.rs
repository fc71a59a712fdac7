//! The issuer's side of the admin socket: a thread for each connection, one question at a time.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{AdminKey, AdminQuestion, AdminService, Operator, Reply};
use crate::ipc::frame::{self, Hello};
use crate::ipc::listener::{Door, Listener};

/// Where to listen and whom to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// In a directory of mode 0700.
    pub path: PathBuf,
    /// Where the key is put for the operator's tools, in that directory too.
    pub key_file: PathBuf,
    pub key: AdminKey,
    /// Users that may ask: the issuer's own and root.
    pub uids: Vec<u32>,
    /// A user's name, for records.
    pub name: fn(u32) -> String,
}

/// The listening socket and the threads behind it. Dropping it closes both and takes the key away.
pub struct Server {
    _listener: Listener,
    key_file: PathBuf,
}

impl Server {
    /// Puts the key in place, binds and starts to serve. The text of an error is for the operator.
    pub fn start(options: Options, service: Arc<dyn AdminService>) -> Result<Self, String> {
        let Options { path, key_file, key, uids, name } = options;
        put_key(&key_file, &key).map_err(|e| {
            format!(
                "CHY-STATE-DIR: {}: {e}; it must belong to the issuer's user",
                key_file.display()
            )
        })?;
        let door =
            Door { path, mode: 0o600, uids, connections: MAX_CONNECTIONS, share: MAX_PER_PROCESS };
        let told = Arc::clone(&service);
        let converse = move |stream: &Arc<UnixStream>, uid: u32| {
            let operator = Operator { uid, user: name(uid) };
            converse(stream, &key, &operator, &*service)
        };
        Ok(Self {
            _listener: Listener::start(
                door,
                Box::new(converse),
                Box::new(move |what| told.trespassed(what)),
            )?,
            key_file,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.key_file);
    }
}

/// A new file each time: one that was opened before must not see the new key.
fn put_key(path: &Path, key: &AdminKey) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)?.write_all(&key.0)
}

fn converse(
    stream: &UnixStream,
    key: &AdminKey,
    operator: &Operator,
    service: &dyn AdminService,
) -> io::Result<()> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
    let theirs = frame::read_hello(&mut &*stream)?;
    if !key.is(&theirs.digest) {
        tracing::warn!(%operator, "CHY-ADMIN-DENIED: someone without the key asked at the admin socket");
        return Err(broken("the peer does not have the key"));
    }
    let ours = Hello::new(key.0);
    (&*stream).write_all(&ours.frame())?;
    if theirs.version != ours.version {
        return Err(broken("the peer is of another version"));
    }
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    let mut payload = Vec::new();
    while frame::read(&mut &*stream, &mut payload)? {
        let question: AdminQuestion =
            frame::decode(&payload).map_err(|_| broken("not a question"))?;
        payload.clear();
        let reply: Reply = service.answer(operator, question);
        let answer = frame::encode(&reply).map_err(|_| broken("an answer does not fit a frame"))?;
        (&*stream).write_all(&answer)?;
    }
    Ok(())
}

/// An operator's tools and their scripts.
const MAX_CONNECTIONS: usize = 8;
/// Of those, by one process: on a box with one user the web process may knock here, and not keep others out.
const MAX_PER_PROCESS: usize = 2;
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A tool asks, reads and goes; one that sits there gives its place to another.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
