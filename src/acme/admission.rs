//! Admission after a power-up: everybody gets a turn, nobody is told to come back at the same moment.
//!
//! So many are let in at once and so many a second after them. Whoever comes while there is no room is
//! given a place, a moment of its own, and is told how long until then; it keeps that place however often it
//! asks, and no later comer takes it. In memory and bounded: a restart forgets the places, and the burst it
//! begins with makes up for it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A paced entrance. Instants are of a clock that never goes back.
#[derive(Debug)]
pub struct Admission<K> {
    /// Between two turns; `None`: no limit.
    interval: Option<Duration>,
    /// How far turns may be used ahead of their time.
    ahead: Duration,
    queue: Mutex<Queue<K>>,
}

#[derive(Debug)]
struct Queue<K> {
    /// When the first turn that is nobody's would come, were there no burst.
    next: Duration,
    /// Turns that were promised.
    places: HashMap<K, Duration>,
    /// Those who were turned away without a place since there last was one.
    beyond: u32,
    /// When places that nobody came for were last looked for.
    pruned: Duration,
}

impl<K: Eq + Hash> Admission<K> {
    /// `burst` at once, then `per_second` a second; `per_second` 0: without limit.
    pub fn new(per_second: u32, burst: u32) -> Self {
        let interval = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        let ahead = interval.unwrap_or_default().saturating_mul(burst.max(1) - 1);
        let queue = Queue {
            next: Duration::ZERO,
            places: HashMap::new(),
            beyond: 0,
            pruned: Duration::ZERO,
        };
        Self { interval, ahead, queue: Mutex::new(queue) }
    }

    /// Lets `who` in, or says how long until its turn. A turn that was promised waits for `GRACE`.
    pub fn admit(&self, who: K, now: Duration) -> Result<(), Duration> {
        let Some(interval) = self.interval else {
            return Ok(());
        };
        let mut queue = self.queue();
        if let Some(place) = queue.places.get(&who).copied() {
            if now < place {
                return Err(place - now);
            }
            queue.places.remove(&who);
            if now <= place + GRACE {
                return Ok(());
            }
        }
        let turn = queue.next.max(now);
        let wait = turn.saturating_sub(now + self.ahead);
        if wait.is_zero() {
            queue.next = turn + interval;
            queue.beyond = 0;
            return Ok(());
        }
        if wait > LONGEST || queue.is_full(now) {
            // Also these are spread: told one moment, they would come back as one.
            queue.beyond = queue.beyond.saturating_add(1) % MOST_BEYOND;
            return Err(wait + interval.saturating_mul(queue.beyond));
        }
        queue.next = turn + interval;
        queue.places.insert(who, now + wait);
        Err(wait)
    }

    /// Places that were given and not yet taken.
    pub fn waiting(&self) -> usize {
        self.queue().places.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<K>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Queue<K> {
    /// Whether no more places can be remembered, once those that nobody came for are forgotten.
    fn is_full(&mut self, now: Duration) -> bool {
        // Once a second: whoever floods must not have every place looked at each time.
        if self.places.len() >= MOST_PLACES && now >= self.pruned + PRUNE_EVERY {
            self.pruned = now;
            self.places.retain(|_, place| now <= *place + GRACE);
        }
        self.places.len() >= MOST_PLACES
    }
}

/// How late one may come to one's turn. Clients round to seconds, and their clocks and timers are coarse.
pub const GRACE: Duration = Duration::from_secs(60);
/// No turn further ahead is promised.
const LONGEST: Duration = Duration::from_secs(3600);
/// A few megabytes.
const MOST_PLACES: usize = 1 << 16;
const MOST_BEYOND: u32 = 1 << 16;
const PRUNE_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A plant of devices that come at these instants and return when they are told to, in whole seconds as the
    /// header Retry-After has them. When each was let in, and how often it had asked.
    fn power_up(gate: &Admission<usize>, arrivals: &[Duration]) -> Vec<(Duration, u32)> {
        let mut due: BTreeMap<(Duration, usize), u32> =
            arrivals.iter().enumerate().map(|(device, at)| ((*at, device), 1)).collect();
        let mut admitted = vec![(Duration::ZERO, 0); arrivals.len()];
        while let Some(((now, device), asked)) = due.pop_first() {
            match gate.admit(device, now) {
                Ok(()) => admitted[device] = (now, asked),
                Err(wait) => {
                    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    due.insert((now + Duration::from_secs(seconds), device), asked + 1);
                }
            }
        }
        admitted
    }

    fn busiest_second(admitted: &[(Duration, u32)]) -> usize {
        let mut instants: Vec<Duration> = admitted.iter().map(|(at, _)| *at).collect();
        instants.sort_unstable();
        let within = |first: &Duration| {
            instants.partition_point(|at| *at < *first + SECOND)
                - instants.partition_point(|at| at < first)
        };
        instants.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn a_thousand_devices_at_once_all_enrol_and_none_asks_more_than_twice() {
        let gate = Admission::new(50, 200);
        let admitted = power_up(&gate, &vec![at(5); 1000]);
        assert!(admitted.iter().all(|(_, asked)| *asked <= 2), "a promise was not kept");
        assert_eq!(admitted.iter().filter(|(_, asked)| *asked == 1).count(), 200);
        let last = admitted.iter().map(|(at, _)| *at).max().unwrap();
        assert!(last <= Duration::from_secs(17) + at(5), "{last:?} for 800 at 50 a second");
        let after: Vec<_> = admitted.into_iter().filter(|(_, asked)| *asked == 2).collect();
        assert!(busiest_second(&after) <= 51, "a herd of {}", busiest_second(&after));
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn a_place_is_kept_for_who_has_it_and_not_for_ever() {
        let gate = Admission::new(1, 1);
        assert_eq!(gate.admit('a', at(0)), Ok(()));
        assert_eq!(gate.admit('b', at(0)), Err(SECOND));
        assert_eq!(gate.admit('c', at(0)), Err(2 * SECOND));
        // However often it asks.
        assert_eq!(gate.admit('b', at(400)), Err(at(600)));
        // Nobody overtakes who was there before.
        assert_eq!(gate.admit('d', at(2000)), Err(SECOND));
        assert_eq!(gate.admit('c', at(2000)), Ok(()));
        assert_eq!(gate.admit('b', at(2500)), Ok(()));
        // Long after, the turn is lost, and there is another.
        assert_eq!(gate.admit('d', at(3000) + GRACE + at(1)), Ok(()));
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn a_gate_without_limit_lets_everybody_in() {
        let gate = Admission::new(0, 0);
        assert!((0..10_000).all(|who| gate.admit(who, at(0)).is_ok()));
    }

    #[test]
    fn a_flood_that_never_comes_back_is_bounded_and_passes() {
        let gate = Admission::new(100, 10);
        let mut waits = std::collections::HashSet::new();
        for who in 0..200_000u32 {
            if let Err(wait) = gate.admit(who, at(0)) {
                waits.insert(wait);
            }
        }
        assert!(gate.waiting() <= MOST_PLACES);
        assert!(waits.len() > 60_000, "many were told the same moment");
        let later = 2 * LONGEST;
        assert_eq!(gate.admit(u32::MAX, later), Ok(()));
        // Places that nobody came for make room once they are needed.
        for who in 0..200_000u32 {
            let _ = gate.admit(u32::MAX - who, later);
        }
        assert!(gate.waiting() <= MOST_PLACES);
        assert!(gate.queue().places.contains_key(&(u32::MAX - 100)));
    }

    proptest! {
        /// Whenever devices come: all are let in, none asks a third time, and never more than the burst and what
        /// the seconds give.
        #[test]
        fn however_they_come_all_have_their_turn(
            arrivals in proptest::collection::vec(0..20_000u64, 1..400),
            rate in 1..40u32,
            burst in 1..60u32,
        ) {
            let gate = Admission::new(rate, burst);
            let arrivals: Vec<Duration> = arrivals.into_iter().map(at).collect();
            let admitted = power_up(&gate, &arrivals);
            prop_assert!(admitted.iter().all(|(_, asked)| (1..=2).contains(asked)));
            prop_assert!(admitted.iter().zip(&arrivals).all(|((at, _), came)| at >= came));
            // A second's turns, and a second's rounding of the promised ones.
            prop_assert!(busiest_second(&admitted) <= (burst + 2 * rate + 2) as usize);
        }
    }
}
