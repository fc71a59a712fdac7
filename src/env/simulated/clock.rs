//! A clock moved by hand and randomness drawn from a seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;

use crate::env::{Clock, Rng};
use crate::id::Timestamp;

/// Stands still until told otherwise. Share it in an `Arc`.
#[derive(Debug)]
pub struct ManualClock {
    wall_millis: AtomicU64,
    monotonic_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock that shows `now`; its monotonic time is zero.
    pub fn new(now: Timestamp) -> Self {
        Self { wall_millis: AtomicU64::new(now.0), monotonic_nanos: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
        self.wall_millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock, forward or back, as an operator or a time server might.
    pub fn set_wall(&self, now: Timestamp) {
        self.wall_millis.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.load(Ordering::SeqCst))
    }
}

/// The same octets for the same seed: SHA-256 in counter mode. For tests, never for keys.
#[derive(Debug)]
pub struct SeededRng {
    seed: u64,
    state: Mutex<Stream>,
}

#[derive(Debug, Default)]
struct Stream {
    counter: u64,
    left: Vec<u8>,
}

impl SeededRng {
    pub fn new(seed: u64) -> Self {
        Self { seed, state: Mutex::default() }
    }
}

impl Rng for SeededRng {
    fn fill(&self, buffer: &mut [u8]) {
        let mut stream = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for octet in buffer {
            if stream.left.is_empty() {
                let mut block = [0u8; 16];
                block[..8].copy_from_slice(&self.seed.to_be_bytes());
                block[8..].copy_from_slice(&stream.counter.to_be_bytes());
                stream.counter += 1;
                stream.left = digest::digest(&digest::SHA256, &block).as_ref().to_vec();
            }
            *octet = stream.left.pop().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::random_16;

    #[test]
    fn time_stands_still_until_moved() {
        let clock = ManualClock::new(Timestamp(5_000));
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp(5_000), Duration::ZERO));
        clock.advance(Duration::from_millis(1_500));
        assert_eq!(clock.now(), Timestamp(6_500));
        assert_eq!(clock.monotonic(), Duration::from_millis(1_500));
        clock.set_wall(Timestamp(1));
        assert_eq!(clock.now(), Timestamp(1));
        assert_eq!(clock.monotonic(), Duration::from_millis(1_500));
    }

    #[test]
    fn a_seed_fixes_the_stream_whatever_the_portions() {
        let (one, two) = (SeededRng::new(7), SeededRng::new(7));
        let mut whole = [0u8; 48];
        one.fill(&mut whole);
        let portions: Vec<u8> = (0..3).flat_map(|_| random_16(&two)).collect();
        assert_eq!(whole.to_vec(), portions);
        assert_ne!(random_16(&SeededRng::new(8)), whole[..16]);
    }
}
