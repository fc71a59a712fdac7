//! What waits for a signature: one lane per class, served by stride scheduling, and in each lane the parties in turn.
//!
//! Each lane has a pass; the lane with the smallest is served and moves on by its stride. A lane that was
//! empty enters at the present pass, so it gains nothing by having been idle and waits for no backlog. With
//! these strides a due checkpoint waits for at most one batch of [`BATCH`] certificates and covers all of them, and
//! handshakes have half of the token while certificates wait. A CRL goes before everything once it has waited as long as its
//! request says.
//!
//! What nobody waits for any more, and what has waited longer than its class may, leaves without a signature.
//! A lane that is full takes from the party that has most in it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Weak;
use std::time::Duration;

use super::Classes;
use super::pace::Pace;
use crate::env::Spread;
use crate::hsm::{Class, Message, OnSigned, Party, Request, SignError};
use crate::turns::Turns;

/// Certificates between two checkpoints while both wait: what a signature costs beside certificates.
pub(super) const BATCH: u64 = 16;

/// One signature to be made.
pub(super) struct Job {
    /// Index of the key.
    pub(super) key: usize,
    pub(super) class: Class,
    message: Message,
    /// Times it was put back because the token failed under it.
    pub(super) attempts: u32,
    pub(super) then: OnSigned,
    party: Party,
    wanted: Option<Weak<()>>,
    /// By the monotonic clock, here and below. When it came.
    came: Duration,
    /// When its class has no more patience.
    until: Duration,
    overtakes: Option<Duration>,
}

impl Job {
    pub(super) fn new(key: usize, request: Request, then: OnSigned, now: Duration) -> Self {
        let Request { class, party, message, wanted, overtakes } = request;
        let overtakes = overtakes.map(|wait| now.saturating_add(wait));
        let until = Duration::MAX;
        Self { key, class, message, attempts: 0, then, party, wanted, came: now, until, overtakes }
    }

    /// Hands the outcome over. A panic of the receiver must not cost the pool a thread.
    pub(super) fn answer(self, outcome: Result<Vec<u8>, SignError>) {
        if catch_unwind(AssertUnwindSafe(|| (self.then)(outcome))).is_err() {
            tracing::error!("the receiver of a signature panicked");
        }
    }

    /// Makes what is to be signed; false if there is nothing any more. On the thread that will sign, without a lock.
    pub(super) fn compose(&mut self) -> bool {
        let message = std::mem::replace(&mut self.message, Message::Ready(Vec::new()));
        let composed = catch_unwind(AssertUnwindSafe(|| message.compose())).unwrap_or_else(|_| {
            tracing::error!("who asked for a signature panicked");
            None
        });
        composed.map(|message| self.message = Message::Ready(message)).is_some()
    }

    /// What is to be signed, once composed.
    pub(super) fn octets(&self) -> &[u8] {
        match &self.message {
            Message::Ready(octets) => octets,
            Message::AtItsTurn(_) => &[],
        }
    }

    fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_none_or(|asker| asker.strong_count() > 0)
    }
}

/// A job that leaves without a signature: to be answered so, outside every lock.
pub(super) struct Left(pub(super) Job, pub(super) SignError);

impl Left {
    pub(super) fn answer(self) {
        self.0.answer(Err(self.1));
    }
}

/// What a thread that could sign does next.
pub(super) enum Next {
    Sign(Job),
    /// Nothing before this instant, unless something comes.
    NotBefore(Duration),
    Idle,
}

pub(super) struct Queue {
    lanes: [Lane; Class::ALL.len()],
    limit: usize,
    length: usize,
    now: u64,
    pub(super) pace: Pace,
    /// When a certificate was signed last: its record is on its way to the log.
    certified: Option<Duration>,
    left: VecDeque<Left>,
}

struct Lane {
    class: Class,
    jobs: Turns<Party, Job>,
    /// How many of `jobs` are of each key.
    keys: Vec<usize>,
    pass: u64,
    stride: u64,
    room: usize,
    patience: Duration,
    served: u64,
    left: u64,
    /// The mean wait of what was served, newer ones counting more.
    waited: Duration,
    waits: Spread,
}

/// What is known of a class, for figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassFigures {
    pub class: Class,
    pub signed: u64,
    /// Left without a signature: refused for want of room, out of patience, or not waited for.
    pub left: u64,
    pub waiting: usize,
    /// The mean time from the request to its turn, newer ones counting more.
    pub waited: Duration,
    /// The same of each, also of those that were put back and had another turn.
    pub waits: Spread,
}

/// In the order in which ties are decided.
const TIES: [Class; Class::ALL.len()] =
    [Class::Checkpoint, Class::Crl, Class::Tls, Class::Cosignature, Class::Certificate];

/// The class as an index of lanes.
fn number(class: Class) -> usize {
    match class {
        Class::Certificate => 0,
        Class::Checkpoint => 1,
        Class::Tls => 2,
        Class::Crl => 3,
        Class::Cosignature => 4,
    }
}

/// Of which a class has the smaller a share the larger it is.
fn stride(class: Class) -> u64 {
    match class {
        // As much as certificates: a checkpoint waits for a batch of either, where handshakes are what is short too.
        Class::Certificate | Class::Tls => 2,
        Class::Checkpoint => 2 * BATCH,
        Class::Crl | Class::Cosignature => BATCH,
    }
}

impl Queue {
    pub(super) fn new(limit: usize, classes: &Classes, pace: Pace, keys: usize) -> Self {
        let lanes = Class::ALL.map(|class| Lane {
            class,
            jobs: Turns::default(),
            keys: vec![0; keys],
            pass: 0,
            stride: stride(class),
            room: classes.room(class, limit),
            patience: classes.patience(class),
            served: 0,
            left: 0,
            waited: Duration::ZERO,
            waits: Spread::default(),
        });
        Self { lanes, limit, length: 0, now: 0, pace, certified: None, left: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Takes a job, or gives back who had to make room: this one, or the newest of the party with most in its lane.
    pub(super) fn push(&mut self, mut job: Job, now: Duration) -> Option<Left> {
        let class = job.class;
        let wait = self.wait(class);
        let patience = self.lanes[number(class)].patience;
        if wait + self.pace.of(job.key) > patience {
            return Some(self.refused(job, wait.saturating_sub(patience / 2)));
        }
        if !self.has_room(class) {
            self.forget(class);
        }
        let mut out = None;
        if !self.has_room(class) {
            let lane = &mut self.lanes[number(class)];
            let own = lane.jobs.count(&job.party);
            let longest = lane.jobs.longest().filter(|(_, most)| *most > own + 1);
            let Some(evicted) = longest.and_then(|(party, _)| lane.jobs.take_newest(&party)) else {
                return Some(self.refused(job, wait));
            };
            lane.keys[evicted.key] -= 1;
            self.length -= 1;
            out = Some(self.refused(evicted, wait));
        }
        job.until = now.saturating_add(patience);
        self.enter(job, false);
        out
    }

    /// Puts a job back where it came from; there is always room.
    pub(super) fn put_back(&mut self, job: Job) {
        self.enter(job, true);
    }

    /// The next job. What leaves on the way is for `take_left`.
    pub(super) fn pop(&mut self, now: Duration) -> Next {
        loop {
            let next = TIES
                .into_iter()
                .filter(|class| !self.lanes[number(*class)].jobs.is_empty())
                .min_by_key(|class| {
                    let lane = &self.lanes[number(*class)];
                    (!lane.overtakes(now), lane.pass)
                });
            let Some(class) = next else { return Next::Idle };
            if class == Class::Checkpoint
                && let Some(until) = self.gathers(now)
            {
                return Next::NotBefore(until);
            }
            let lane = &mut self.lanes[number(class)];
            let overtakes = lane.overtakes(now);
            let in_time = |job: &Job| now.saturating_add(self.pace.of(job.key)) <= job.until;
            let (keys, lost, length) = (&mut lane.keys, &mut lane.left, &mut self.length);
            let gone = |job: Job| {
                keys[job.key] -= 1;
                *lost += 1;
                *length -= 1;
                self.left.push_back(Left(job, SignError::Retry(LEAST)));
            };
            let fit = |job: &Job| job.is_wanted() && in_time(job);
            let Some((_, job)) = lane.jobs.pop_fit(fit, gone) else { continue };
            lane.keys[job.key] -= 1;
            self.length -= 1;
            if !overtakes {
                self.now = self.now.max(lane.pass);
            }
            lane.pass += lane.stride;
            let waited = now.saturating_sub(job.came);
            lane.waits.observe(waited);
            lane.waited = if lane.served == 0 { waited } else { (lane.waited * 7 + waited) / 8 };
            return Next::Sign(job);
        }
    }

    /// A job was signed in so long.
    pub(super) fn signed(&mut self, class: Class, key: usize, took: Duration, now: Duration) {
        self.lanes[number(class)].served += 1;
        self.pace.took(key, took);
        if class == Class::Certificate {
            self.certified = Some(now);
        }
    }

    /// What left without a signature since it was asked last.
    pub(super) fn take_left(&mut self) -> Option<Left> {
        self.left.pop_front()
    }

    /// How long a signature of this class that is asked for now would wait, as far as the token's pace is known: for
    /// its own lane, and for as much of the others as is served meanwhile.
    pub(super) fn wait(&self, class: Class) -> Duration {
        let own = &self.lanes[number(class)];
        let turns = own.jobs.len() as u64 * own.stride;
        let work: Duration = self
            .lanes
            .iter()
            .map(|lane| {
                let (jobs, work) = (lane.jobs.len() as u64, lane.work(&self.pace));
                let meanwhile = turns / lane.stride + 1;
                if lane.class == class || jobs <= meanwhile || jobs == 0 {
                    work
                } else {
                    // Neither is more than the limit of the queue.
                    work * u32::try_from(meanwhile).unwrap_or(u32::MAX)
                        / u32::try_from(jobs).unwrap_or(u32::MAX)
                }
            })
            .sum();
        self.pace.shared(work)
    }

    pub(super) fn figures(&self) -> [ClassFigures; Class::ALL.len()] {
        Class::ALL.map(|class| {
            let Lane { served, left, waited, waits, jobs, .. } = &self.lanes[number(class)];
            let (signed, left, waited, waits) = (*served, *left, *waited, *waits);
            ClassFigures { class, signed, left, waiting: jobs.len(), waited, waits }
        })
    }

    /// Everything, in no order.
    pub(super) fn drain(&mut self) -> Vec<Job> {
        self.length = 0;
        let empty = |lane: &mut Lane| {
            lane.keys.fill(0);
            lane.jobs.drain()
        };
        self.lanes.iter_mut().flat_map(empty).collect()
    }

    /// Certificates leave a quarter of the queue to the others, handshakes an eighth to checkpoints and CRLs.
    fn has_room(&self, class: Class) -> bool {
        let lane = &self.lanes[number(class)];
        let whole = match class {
            Class::Certificate | Class::Cosignature => self.limit - self.limit / 4,
            Class::Tls => self.limit - self.limit / 8,
            Class::Checkpoint | Class::Crl => self.limit,
        };
        lane.jobs.len() < lane.room && self.length < whole
    }

    /// Takes out of a lane what nobody waits for.
    fn forget(&mut self, class: Class) {
        let lane = &mut self.lanes[number(class)];
        for job in lane.jobs.extract(Job::is_wanted) {
            lane.keys[job.key] -= 1;
            lane.left += 1;
            self.length -= 1;
            self.left.push_back(Left(job, SignError::Retry(LEAST)));
        }
    }

    fn refused(&mut self, job: Job, wait: Duration) -> Left {
        self.lanes[number(job.class)].left += 1;
        Left(job, SignError::Retry(wait.clamp(LEAST, MOST)))
    }

    /// Until when a checkpoint waits for the record of the certificate that was just signed, although nothing
    /// else asks for the token: signed a moment earlier, it would cover one less and be followed by another. Costs
    /// an eighth of a signature at most, and nothing where signing is quick.
    fn gathers(&self, now: Duration) -> Option<Duration> {
        let waiting = &self.lanes[number(Class::Checkpoint)].jobs;
        let job = waiting.iter().next().filter(|_| waiting.len() == self.length)?;
        let pause = (self.pace.of(job.key) / 8).min(GATHER);
        let until = self.certified? + pause;
        (pause >= QUICK && now < until).then_some(until)
    }

    fn enter(&mut self, job: Job, back: bool) {
        let lane = &mut self.lanes[number(job.class)];
        if lane.jobs.is_empty() {
            lane.pass = lane.pass.max(self.now);
        }
        lane.keys[job.key] += 1;
        if back {
            lane.jobs.put_back(job.party, job);
        } else {
            lane.jobs.push(job.party, job);
        }
        self.length += 1;
    }
}

impl Lane {
    fn work(&self, pace: &Pace) -> Duration {
        let of = |(key, jobs): (usize, &usize)| {
            pace.of(key).saturating_mul(u32::try_from(*jobs).unwrap_or(u32::MAX))
        };
        self.keys.iter().enumerate().map(of).sum()
    }

    /// Few ask for it: CRLs are made one by one.
    fn overtakes(&self, now: Duration) -> bool {
        self.class == Class::Crl
            && self.jobs.iter().any(|job| job.overtakes.is_some_and(|since| since <= now))
    }
}

/// What is refused is told to come back not sooner and not later than this.
const LEAST: Duration = Duration::from_millis(500);
const MOST: Duration = Duration::from_secs(60);
/// A checkpoint waits no longer than this for a record, and not where it would be for less than this.
const GATHER: Duration = Duration::from_millis(20);
const QUICK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
