//! What waits for a signature: one lane per class, served by stride scheduling.
//!
//! Each lane has a pass; the lane with the smallest is served and moves on by its stride. A lane that was
//! empty enters at the present pass, so it gains nothing by having been idle and waits for no backlog:
//! with these strides a checkpoint or a CRL is served before the third certificate after it came, and a
//! flood of handshakes still leaves certificates half of the token.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::hsm::{Class, OnSigned, SignError};

/// One signature to be made.
pub(super) struct Job {
    /// Index of the key.
    pub(super) key: usize,
    pub(super) class: Class,
    pub(super) message: Vec<u8>,
    /// Times it was put back because the token failed under it.
    pub(super) attempts: u32,
    pub(super) then: OnSigned,
}

impl Job {
    /// Hands the outcome over. A panic of the receiver must not cost the pool a thread.
    pub(super) fn answer(self, outcome: Result<Vec<u8>, SignError>) {
        if catch_unwind(AssertUnwindSafe(|| (self.then)(outcome))).is_err() {
            tracing::error!("the receiver of a signature panicked");
        }
    }
}

pub(super) struct Queue {
    lanes: [Lane; 4],
    limit: usize,
    length: usize,
    now: u64,
}

#[derive(Default)]
struct Lane {
    jobs: VecDeque<Job>,
    pass: u64,
}

/// In the order in which ties are decided.
const CLASSES: [(Class, u64); 4] =
    [(Class::Checkpoint, 2), (Class::Crl, 2), (Class::Tls, 2), (Class::Certificate, 1)];

/// The class as an index of counters.
pub(super) fn number(class: Class) -> usize {
    match class {
        Class::Certificate => 0,
        Class::Checkpoint => 1,
        Class::Tls => 2,
        Class::Crl => 3,
    }
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { lanes: Default::default(), limit, length: 0, now: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Gives the job back when there is no room for its class: certificates leave a quarter to the others,
    /// handshakes fill no more than half.
    pub(super) fn push(&mut self, job: Job) -> Result<(), Job> {
        let in_lane = self.lanes[number(job.class)].jobs.len();
        let room = match job.class {
            Class::Certificate => self.length < self.limit - self.limit / 4,
            Class::Tls => in_lane < self.limit / 2 && self.length < self.limit - self.limit / 8,
            Class::Checkpoint | Class::Crl => self.length < self.limit,
        };
        if !room {
            return Err(job);
        }
        self.enter(job, false);
        Ok(())
    }

    /// Puts a job back where it came from; there is always room.
    pub(super) fn put_back(&mut self, job: Job) {
        self.enter(job, true);
    }

    /// The next job.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let (class, stride) = CLASSES
            .into_iter()
            .filter(|(class, _)| !self.lanes[number(*class)].jobs.is_empty())
            .min_by_key(|(class, _)| self.lanes[number(*class)].pass)?;
        let lane = &mut self.lanes[number(class)];
        self.now = lane.pass;
        lane.pass += stride;
        self.length -= 1;
        lane.jobs.pop_front()
    }

    /// Everything, in no order.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        self.length = 0;
        self.lanes.iter_mut().flat_map(|lane| lane.jobs.drain(..)).collect()
    }

    fn enter(&mut self, job: Job, first: bool) {
        let lane = &mut self.lanes[number(job.class)];
        if lane.jobs.is_empty() {
            lane.pass = lane.pass.max(self.now);
        }
        if first {
            lane.jobs.push_front(job);
        } else {
            lane.jobs.push_back(job);
        }
        self.length += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(class: Class, key: usize) -> Job {
        Job { key, class, message: Vec::new(), attempts: 0, then: Box::new(|_| {}) }
    }

    #[test]
    fn a_checkpoint_overtakes_a_backlog_of_certificates() {
        let mut queue = Queue::new(1000);
        for n in 0..100 {
            assert!(queue.push(job(Class::Certificate, n)).is_ok());
        }
        for _ in 0..50 {
            queue.pop().unwrap();
        }
        for class in [Class::Checkpoint, Class::Crl] {
            assert!(queue.push(job(class, 0)).is_ok());
        }
        let next: Vec<Class> = (0..6).map(|_| queue.pop().unwrap().class).collect();
        assert!(next[..4].contains(&Class::Checkpoint), "{next:?}");
        assert!(next[..4].contains(&Class::Crl), "{next:?}");
    }

    #[test]
    fn a_flood_of_handshakes_leaves_certificates_their_share() {
        let mut queue = Queue::new(400);
        for n in 0..100 {
            assert!(queue.push(job(Class::Tls, n)).is_ok());
            assert!(queue.push(job(Class::Certificate, n)).is_ok());
            assert!(queue.push(job(Class::Checkpoint, n)).is_ok());
        }
        let served: Vec<Class> = (0..100).map(|_| queue.pop().unwrap().class).collect();
        let count = |class| served.iter().filter(|c| **c == class).count();
        assert!(count(Class::Certificate) >= 45, "{}", count(Class::Certificate));
        assert!(count(Class::Tls) >= 20, "{}", count(Class::Tls));
        assert!(count(Class::Checkpoint) >= 20);
    }

    #[test]
    fn certificates_are_first_come_first_served_also_when_put_back() {
        let mut queue = Queue::new(16);
        for n in 0..3 {
            assert!(queue.push(job(Class::Certificate, n)).is_ok());
        }
        let first = queue.pop().unwrap();
        queue.put_back(first);
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).map(|j| j.key).collect();
        assert_eq!(order, [0, 1, 2]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn certificates_never_fill_what_is_kept_for_the_others() {
        let mut queue = Queue::new(16);
        while queue.push(job(Class::Certificate, 0)).is_ok() {}
        assert_eq!(queue.len(), 12);
        assert!(queue.push(job(Class::Tls, 0)).is_ok());
        while queue.push(job(Class::Tls, 0)).is_ok() {}
        assert!(queue.push(job(Class::Checkpoint, 0)).is_ok());
        while queue.push(job(Class::Crl, 0)).is_ok() {}
        assert_eq!(queue.len(), 16);
    }

    #[test]
    fn an_idle_lane_saves_up_nothing() {
        let mut queue = Queue::new(1000);
        for n in 0..200 {
            assert!(queue.push(job(Class::Certificate, n)).is_ok());
        }
        for _ in 0..150 {
            queue.pop().unwrap();
        }
        for n in 0..40 {
            assert!(queue.push(job(Class::Tls, n)).is_ok());
        }
        let served = (0..30).filter(|_| queue.pop().unwrap().class == Class::Tls).count();
        assert!(served <= 12, "{served}");
    }
}
