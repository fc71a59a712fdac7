//! Threads for the work that is neither the log's nor the token's: verifying and rehearsing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use super::core::lock;

pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A bounded queue and the threads that empty it. They end when the last handle is dropped.
#[derive(Clone)]
pub(super) struct Workers {
    jobs: SyncSender<Job>,
}

/// The queue is full; the job was not taken.
#[derive(Debug)]
pub(super) struct Full;

impl Workers {
    pub(super) fn start(threads: usize, queue: usize) -> Result<Self, String> {
        let (jobs, waiting) = sync_channel::<Job>(queue.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        for n in 1..=threads.max(1) {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new()
                .name(format!("issue-{n}"))
                .spawn(move || work(&waiting))
                .map_err(|e| format!("CHY-THREADS: a thread of the issuer cannot start: {e}"))?;
        }
        Ok(Self { jobs })
    }

    pub(super) fn submit(&self, job: Job) -> Result<(), Full> {
        self.jobs.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => Full,
        })
    }
}

fn work(waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = lock(waiting).recv();
        let Ok(job) = job else {
            return;
        };
        // A panic is a bug; it must cost one request and not a thread. What the job owed is answered
        // when it is dropped.
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!(
                "CHY-INTERNAL: a request made a thread of the issuer panic; please report it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_no_thread_and_the_queue_is_bounded() {
        let workers = Workers::start(1, 2).unwrap();
        let (tell, told) = sync_channel(0);
        workers.submit(Box::new(|| panic!("asked to"))).unwrap();
        while workers
            .submit(Box::new({
                let tell = tell.clone();
                move || tell.send(1).unwrap()
            }))
            .is_err()
        {}
        let mut taken = 1;
        while workers
            .submit(Box::new({
                let tell = tell.clone();
                move || tell.send(1).unwrap()
            }))
            .is_ok()
        {
            taken += 1;
            assert!(taken <= 4, "the queue has no bound");
        }
        for _ in 0..taken {
            assert_eq!(told.recv(), Ok(1));
        }
    }
}
