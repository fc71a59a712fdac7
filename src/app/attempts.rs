//! What a process would try if it were taken over, tried: for `web --try-escape` and `issuer --try-escape`. An attempt at a
//! path that does not exist proves nothing; whoever names paths sees to that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Pid, test_kill_process};

use crate::config::Config;
use crate::ipc::admin::AdminQuestion;
use crate::ipc::admin::client::Client;
use crate::ipc::frame::Hello;

/// One thing that a process would try if it were taken over, and whether it could.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Attempt {
    pub attempt: String,
    /// The system's own words, or `None` if it was let through.
    pub refused: Option<String>,
}

impl Attempt {
    fn new(attempt: String, result: io::Result<()>) -> Self {
        Self { attempt, refused: result.err().map(|error| error.to_string()) }
    }
}

/// Tries what the confined web process must not be able to do. For `web --try-escape`, after `confine::web` was called.
pub fn web(config: &Config, targets: &[PathBuf]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut record = |attempt: String, result: io::Result<()>| {
        attempts.push(Attempt::new(attempt, result));
    };
    for path in targets {
        record(format!("read {}", path.display()), File::open(path).map(drop));
        let write = OpenOptions::new().append(true).open(path).map(drop);
        record(format!("write {}", path.display()), write);
    }
    for directory in
        [config.paths.log(), config.paths.issuer(), config.paths.public(), config.paths.ca()]
    {
        record(format!("create a file in {}", directory.display()), create_in(&directory));
    }
    for directory in [config.paths.log(), config.paths.issuer()] {
        record(format!("list {}", directory.display()), std::fs::read_dir(&directory).map(drop));
    }
    if let Some(asked) = ask_as_operator(config) {
        record("ask at the issuer's admin socket".into(), asked);
    }
    record("run /bin/sh".into(), run_shell());
    let bound = TcpListener::bind(("127.0.0.1", UNUSED_PORT)).map(drop);
    record(format!("listen on TCP port {UNUSED_PORT}"), bound);
    let signalled = rustix::process::getppid().map_or_else(
        || Err(io::Error::other("there is no parent")),
        |parent| test_kill_process(parent).map_err(Into::into),
    );
    record("signal the parent process".into(), signalled);
    attempts
}

/// Tries what the issuer's unit must not let it do: it confines itself by nothing, for nobody knows what a module needs.
/// For `issuer --try-escape`, inside a copy of that unit.
pub fn issuer(config: &Config, targets: &[PathBuf]) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    let mut record = |attempt: String, result: io::Result<()>| {
        attempts.push(Attempt::new(attempt, result));
    };
    for path in targets {
        record(format!("read {}", path.display()), File::open(path).map(drop));
    }
    for (family, name) in [(AddressFamily::INET, "IPv4"), (AddressFamily::INET6, "IPv6")] {
        let opened = rustix::net::socket(family, SocketType::STREAM, None);
        record(format!("open an {name} socket"), opened.map(drop).map_err(Into::into));
    }
    for directory in [Path::new("/etc"), Path::new("/usr/lib"), Path::new("/var/lib")] {
        record(format!("create a file in {}", directory.display()), create_in(directory));
    }
    let web = config.paths.web();
    record(format!("list {}", web.display()), std::fs::read_dir(&web).map(drop));
    record("run /bin/sh".into(), run_shell());
    let first = Pid::INIT;
    record("signal the first process".into(), test_kill_process(first).map_err(Into::into));
    attempts
}

fn create_in(directory: &Path) -> io::Result<()> {
    let path = directory.join(".attempt");
    let made = OpenOptions::new().create_new(true).write(true).open(&path).map(drop);
    let _ = std::fs::remove_file(&path);
    made
}

fn run_shell() -> io::Result<()> {
    Command::new("/bin/sh").args(["-c", "exit 0"]).status().map(drop)
}

/// Tries to be the operator: as his tools do it, then with what this process does know. `None` where no issuer
/// has its socket: that proves nothing.
fn ask_as_operator(config: &Config) -> Option<io::Result<()>> {
    let (socket, key) = (config.paths.admin_socket(), config.paths.admin_key());
    match std::fs::symlink_metadata(&socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        _ => {}
    }
    let uids = [rustix::process::geteuid().as_raw(), 0];
    let as_a_tool = Client::connect(&socket, &key, &uids)
        .and_then(|mut client| client.ask(&AdminQuestion::Who))
        .map_err(io::Error::other);
    let Err(why) = as_a_tool else { return Some(Ok(())) };
    for guess in [config.digest, [0; 32]] {
        if knock(&socket, guess).is_ok_and(|octets| octets > 0) {
            return Some(Ok(()));
        }
    }
    Some(Err(why))
}

/// How much the issuer says to a hello with this digest.
fn knock(socket: &Path, digest: [u8; 32]) -> io::Result<usize> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    stream.write_all(&Hello::new(digest).frame())?;
    stream.read(&mut [0; 64])
}

/// No configuration of ours listens here.
const UNUSED_PORT: u16 = 47_807;
