//! SIGTERM and SIGINT as an event.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Failure;

/// The signals that ask this process to stop. Made before anything is started, so that none is missed.
pub(super) struct Stop {
    signals: Signals,
    supervised: bool,
}

impl Stop {
    /// Under a supervisor SIGINT is left to it: a terminal sends it to all processes at once, but the web
    /// process must be the first to go.
    pub(super) fn new() -> Result<Self, Failure> {
        let signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| {
            Failure::failed(format!("CHY-OS: cannot wait for signals: {error}"))
        })?;
        Ok(Self { signals, supervised: super::supervisor::is_supervised() })
    }

    /// Blocks until this process shall stop.
    pub(super) fn wait(mut self) {
        let supervised = self.supervised;
        self.signals.forever().find(|signal| !(supervised && *signal == SIGINT));
    }

    /// The same as a future, from a thread that ends with the process.
    pub(super) fn into_future(self) -> Result<impl Future<Output = ()>, Failure> {
        let (sender, stopped) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                self.wait();
                let _ = sender.send(());
            })
            .map_err(|error| Failure::failed(format!("CHY-OS: no thread: {error}")))?;
        Ok(async {
            let _ = stopped.await;
        })
    }
}
