//! What a service manager or our supervisor is told: ready, alive, stopping. Silent where there is none.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

/// Says that start-up is finished, and `status` in one line; to our own supervisor too.
pub(super) fn ready(status: &str) {
    super::supervisor::tell_ready();
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says what this process is doing, in one line.
pub(super) fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Says that shutdown has begun.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Feeds the service manager's watchdog while `healthy` says so. Dropping it stops the feeding.
pub(super) struct Watchdog {
    _stop: SyncSender<()>,
}

impl Watchdog {
    /// `None` where no watchdog is set.
    pub(super) fn start(healthy: Arc<dyn Fn() -> bool + Send + Sync>) -> Option<Self> {
        let period = sd_notify::watchdog_enabled()?;
        let (stop, stopped) = sync_channel(0);
        std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || feed(period / 3, &stopped, &*healthy))
            .ok()?;
        Some(Self { _stop: stop })
    }
}

/// The same from a runtime, which thereby shows that it turns.
pub(super) struct Heartbeat {
    ticks: Option<tokio::time::Interval>,
}

/// Beats never where no watchdog is set. Must be called on a runtime.
pub(super) fn heartbeat() -> Heartbeat {
    Heartbeat {
        ticks: sd_notify::watchdog_enabled().map(|period| tokio::time::interval(period / 3)),
    }
}

impl Heartbeat {
    /// Returns after each beat.
    pub(super) async fn beat(&mut self) {
        match &mut self.ticks {
            None => std::future::pending().await,
            Some(ticks) => {
                ticks.tick().await;
                send(&[NotifyState::Watchdog]);
            }
        }
    }
}

fn feed(every: Duration, stopped: &Receiver<()>, healthy: &dyn Fn() -> bool) {
    while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
        if healthy() {
            send(&[NotifyState::Watchdog]);
        }
    }
}
