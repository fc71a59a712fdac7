//! What a service manager is told (sd_notify(3)): ready, alive, stopping, and in one line what goes on. Silent where
//! there is none.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// The service manager, if there is one that wants to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Manager {
    line: Option<Arc<Line>>,
    /// How often it wants a sign of life.
    watchdog: Option<Duration>,
}

/// A socket and where it leads.
#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    /// As the environment says. Connects at once: a process that confines itself reaches no abstract address afterwards.
    pub(super) fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_meant =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let period = number("WATCHDOG_USEC").filter(|micros| is_meant && *micros > 0);
        match Line::open(&name) {
            Ok(line) => {
                Self { line: Some(Arc::new(line)), watchdog: period.map(Duration::from_micros) }
            }
            Err(error) => {
                tracing::warn!(
                    "CHY-OS: the service manager cannot be reached at $NOTIFY_SOCKET: {error}; it will not know when \
                     this process is ready"
                );
                Self::default()
            }
        }
    }

    /// Says that start-up is finished, and `status` in one line; to our own supervisor too.
    pub(super) fn ready(&self, status: &str) {
        super::supervisor::tell_ready();
        self.send(&format!("READY=1\n{}", said(status)));
    }

    /// Says what this process is doing, in one line.
    pub(super) fn status(&self, status: &str) {
        self.send(&said(status));
    }

    /// Says that shutdown has begun.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping\n");
    }

    /// How often there is something to say, if anyone listens: three times as often as the watchdog wants.
    pub(super) fn rhythm(&self) -> Option<Duration> {
        self.line.as_ref()?;
        Some(self.watchdog.map_or(UNWATCHED, |period| period / 3))
    }

    /// The sign of life that the watchdog wants, with what goes on. Only for who has just seen that all lives.
    pub(super) fn alive(&self, status: &str) {
        let sign = if self.watchdog.is_some() { "WATCHDOG=1\n" } else { "" };
        self.send(&format!("{sign}{}", said(status)));
    }

    fn send(&self, message: &str) {
        let Some(line) = &self.line else { return };
        if let Err(error) = line.send(message.as_bytes()) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }
}

impl Line {
    fn open(name: &OsStr) -> std::io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(Path::new(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A service manager that reads nothing any more must not hold anyone up.
        socket.set_write_timeout(Some(SEND))?;
        Ok(Self { socket, address })
    }

    fn send(&self, message: &[u8]) -> std::io::Result<()> {
        let sent = self.socket.send(message).or_else(|_| {
            // It was started anew, and listens at another socket of that name.
            self.socket.connect_addr(&self.address)?;
            self.socket.send(message)
        })?;
        if sent == message.len() { Ok(()) } else { Err(std::io::ErrorKind::WriteZero.into()) }
    }
}

/// One assignment, whatever the text is.
fn said(status: &str) -> String {
    let line: String = status.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("STATUS={line}\n")
}

/// A thread that tells the service manager what goes on, and that this process lives, as long as `look` finds that
/// it does (`Ok`) and returns. Dropping it ends the telling.
pub(super) struct Watchdog {
    _stop: SyncSender<()>,
}

/// What goes on in one line, or what is wrong.
pub(super) type Look = Box<dyn Fn() -> Result<String, String> + Send>;

impl Watchdog {
    /// `None` where nobody listens.
    pub(super) fn start(manager: &Manager, look: Look) -> Option<Self> {
        let every = manager.rhythm()?;
        let manager = manager.clone();
        let (stop, stopped) = sync_channel(0);
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || watch(&manager, every, &stopped, &*look))
            .ok()?;
        Some(Self { _stop: stop })
    }
}

fn watch(
    manager: &Manager,
    every: Duration,
    stopped: &Receiver<()>,
    look: &dyn Fn() -> Result<String, String>,
) {
    // Soon after the start there is more to say than at it.
    let mut wait = every.min(FIRST_LOOK);
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        match look() {
            Ok(status) => manager.alive(&status),
            Err(status) => manager.status(&status),
        }
        wait = every;
    }
}

/// How often the status is renewed where no watchdog is set.
const UNWATCHED: Duration = Duration::from_secs(20);
const FIRST_LOOK: Duration = Duration::from_secs(2);
const SEND: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &UnixDatagram) -> String {
        let mut message = [0; 256];
        let read = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..read].to_vec()).unwrap()
    }

    fn manager(name: &OsStr, watchdog: Option<Duration>) -> Manager {
        Manager { line: Some(Arc::new(Line::open(name).unwrap())), watchdog }
    }

    #[test]
    fn it_is_told_at_a_path_and_at_an_abstract_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("chancery-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, name) in [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}").into()),
        ] {
            let manager = manager(&name, Some(Duration::from_secs(60)));
            manager.ready("serving");
            assert_eq!(read(&socket), "READY=1\nSTATUS=serving\n");
            manager.alive("well");
            assert_eq!(read(&socket), "WATCHDOG=1\nSTATUS=well\n");
            manager.stopping();
            assert_eq!(read(&socket), "STOPPING=1\nSTATUS=stopping\n");
        }
    }

    #[test]
    fn a_status_is_one_assignment() {
        assert_eq!(said("a\nREADY=1"), "STATUS=a READY=1\n");
    }

    #[test]
    fn a_service_manager_that_was_started_anew_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let first = UnixDatagram::bind(&path).unwrap();
        let manager = manager(path.as_os_str(), None);
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        manager.alive("still here");
        assert_eq!(read(&second), "STATUS=still here\n");
    }

    #[test]
    fn what_does_not_live_gets_no_sign_of_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = manager(path.as_os_str(), Some(Duration::from_millis(60)));
        let looked = std::sync::atomic::AtomicUsize::new(0);
        let look =
            Box::new(move || match looked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => Ok("well".to_owned()),
                _ => Err("the log does not answer".to_owned()),
            });
        let watchdog = Watchdog::start(&manager, look).unwrap();
        assert_eq!(read(&socket), "WATCHDOG=1\nSTATUS=well\n");
        assert_eq!(read(&socket), "STATUS=the log does not answer\n");
        drop(watchdog);
    }
}
