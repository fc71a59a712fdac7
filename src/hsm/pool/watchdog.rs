//! Notices a PKCS#11 call that does not return. Nothing can stop it inside a foreign library, so the
//! process ends and a new one recovers from the log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::env::Clock;

pub(super) struct Watch {
    deadline: Duration,
    clock: Arc<dyn Clock>,
    /// One place per thread that may be inside the module.
    places: Vec<Mutex<Option<Call>>>,
    ended: AtomicBool,
    tick: Mutex<()>,
    wake: Condvar,
}

#[derive(Clone, Copy)]
struct Call {
    name: &'static str,
    since: Duration,
}

impl Watch {
    pub(super) fn new(deadline: Duration, places: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            deadline,
            clock,
            places: (0..places).map(|_| Mutex::new(None)).collect(),
            ended: AtomicBool::new(false),
            tick: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Makes a call under the watch.
    pub(super) fn call<T>(&self, place: usize, name: &'static str, call: impl FnOnce() -> T) -> T {
        let set = |value| {
            *self.places[place].lock().unwrap_or_else(PoisonError::into_inner) = value;
        };
        set(Some(Call { name, since: self.clock.monotonic() }));
        let outcome = call();
        set(None);
        outcome
    }

    /// The name of a call past its deadline.
    pub(super) fn overdue(&self) -> Option<&'static str> {
        let now = self.clock.monotonic();
        self.places.iter().find_map(|place| {
            let call = (*place.lock().unwrap_or_else(PoisonError::into_inner))?;
            (now.saturating_sub(call.since) > self.deadline).then_some(call.name)
        })
    }

    /// Looks a few times per deadline until the end, or until a call hangs.
    pub(super) fn run(&self, on_hang: &(dyn Fn(&str) + Send)) {
        let every = (self.deadline / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let mut guard = self.tick.lock().unwrap_or_else(PoisonError::into_inner);
        while !self.ended.load(Ordering::Acquire) {
            if let Some(name) = self.overdue() {
                on_hang(name);
                return;
            }
            guard = self.wake.wait_timeout(guard, every).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        let _guard = self.tick.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
    }
}

/// What a hung call ends in, unless a test says otherwise.
pub(super) fn abort(name: &str) {
    let message = format!(
        "CHY-TOKEN-HANGS: {name} did not return within the token's deadline; the process ends and recovers"
    );
    tracing::error!("{message}");
    // The subscriber may buffer, and nothing runs after abort.
    eprintln!("{message}");
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Timestamp;
    use std::sync::atomic::AtomicU64;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    #[test]
    fn a_call_past_its_deadline_is_named_and_one_that_returned_is_not() {
        let clock = Arc::new(Hand::default());
        let watch = Watch::new(Duration::from_secs(20), 2, Arc::clone(&clock) as _);
        watch.call(0, "C_Login", || clock.0.store(30_000, Ordering::SeqCst));
        assert_eq!(watch.overdue(), None);
        watch.call(1, "C_Sign", || {
            clock.0.store(50_000, Ordering::SeqCst);
            assert_eq!(watch.overdue(), None);
            clock.0.store(50_001, Ordering::SeqCst);
            assert_eq!(watch.overdue(), Some("C_Sign"));
        });
        assert_eq!(watch.overdue(), None);
    }

    #[test]
    fn the_hook_is_called_while_the_call_hangs() {
        let clock = Arc::new(Hand::default());
        let watch = Arc::new(Watch::new(Duration::from_millis(80), 1, Arc::clone(&clock) as _));
        let (told, hung) = std::sync::mpsc::channel();
        let watching = Arc::clone(&watch);
        let thread = std::thread::spawn(move || {
            watching.run(&move |name: &str| told.send(name.to_owned()).unwrap());
        });
        watch.call(0, "C_Sign", || {
            clock.0.store(81, Ordering::SeqCst);
            assert_eq!(hung.recv_timeout(Duration::from_secs(10)).unwrap(), "C_Sign");
        });
        thread.join().unwrap();
    }
}
