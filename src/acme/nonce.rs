//! Anti-replay nonces without memory per nonce (RFC 8555 section 6.5): a nonce is an authenticated
//! counter under a key made at each start; bitmaps by time remember which were used.
//!
//! The text is base64url of 24 octets: a 128-bit tag, HMAC over the counter, and the counter masked
//! under that tag (the shape of SIV, RFC 5297), so that nobody can tell how many there were.
//!
//! Memory: one bit per nonce minted, in at most `WINDOWS` windows of `WINDOW_NONCES`, allocated only
//! as far as nonces of a window were spent: 2 MiB at the very most, a few octets when idle. Somebody
//! who mints faster than that holds makes old nonces lapse early, which costs clients a `badNonce` and
//! one more try.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64ct::{Base64UrlUnpadded, Encoding};

use super::problem::{Problem, ProblemType};
use crate::id::Timestamp;

/// Mints and burns nonces. Thread-safe; forgets everything at restart, so old nonces become invalid.
pub struct Nonces {
    tag_key: hmac::Key,
    mask_key: hmac::Key,
    ledger: Mutex<Ledger>,
}

/// The nonce is unknown, too old, or was used; or not base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceError {
    Bad,
    Malformed,
}

impl Nonces {
    /// A nonce lives at least this long, and at most one window longer; see the module's text.
    pub const LIFETIME: Duration = Duration::from_secs(3600);

    /// A generator under a fresh random key.
    pub fn new(key: [u8; 32]) -> Self {
        // Two keys out of one: what a tag is made with never makes a mask.
        let root = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let derive =
            |label: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&root, label).as_ref());
        Self {
            tag_key: derive(b"chancery nonce tag"),
            mask_key: derive(b"chancery nonce mask"),
            ledger: Mutex::new(Ledger { next: 0, windows: VecDeque::new() }),
        }
    }

    /// A new nonce, unpredictable (at least 128 bits) to whoever lacks the key.
    pub fn mint(&self, now: Timestamp) -> String {
        let counter = self.ledger().mint(now);
        let tag = self.tag(counter);
        let mut octets = [0; OCTETS];
        octets[..TAG].copy_from_slice(&tag);
        octets[TAG..].copy_from_slice(&(counter ^ self.mask(&tag)).to_be_bytes());
        Base64UrlUnpadded::encode_string(&octets)
    }

    /// Burns it: of concurrent calls with one nonce exactly one returns `Ok`.
    pub fn spend(&self, nonce: &str, now: Timestamp) -> Result<(), NonceError> {
        // A nonce of another server or an earlier start is well formed and unknown.
        if nonce.len() > MAX_TEXT {
            return Err(NonceError::Malformed);
        }
        let octets = Base64UrlUnpadded::decode_vec(nonce).map_err(|_| NonceError::Malformed)?;
        let octets: [u8; OCTETS] = octets.try_into().map_err(|_| NonceError::Bad)?;
        let (tag, masked) = octets.split_at(TAG);
        let masked = masked.iter().fold(0, |value: u64, octet| value << 8 | u64::from(*octet));
        let counter = masked ^ self.mask(tag);
        constant_time::verify_slices_are_equal(tag, &self.tag(counter))
            .map_err(|_| NonceError::Bad)?;
        if self.ledger().spend(counter, now) { Ok(()) } else { Err(NonceError::Bad) }
    }

    fn tag(&self, counter: u64) -> [u8; TAG] {
        let mut tag = [0; TAG];
        tag.copy_from_slice(&hmac::sign(&self.tag_key, &counter.to_be_bytes()).as_ref()[..TAG]);
        tag
    }

    fn mask(&self, tag: &[u8]) -> u64 {
        let mask = hmac::sign(&self.mask_key, tag);
        mask.as_ref()[..8].iter().fold(0, |value, octet| value << 8 | u64::from(*octet))
    }

    /// Held for a few instructions, none of which can panic half-way through a change.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces").finish_non_exhaustive()
    }
}

impl From<NonceError> for Problem {
    fn from(error: NonceError) -> Self {
        match error {
            NonceError::Bad => Self::new(
                ProblemType::BadNonce,
                "this nonce is unknown, too old, or was used; a fresh one is in this answer",
            ),
            NonceError::Malformed => Self::malformed("the nonce is not base64url"),
        }
    }
}

/// Which counters exist, and which were spent.
struct Ledger {
    next: u64,
    /// Oldest first; a nonce whose window is gone is too old.
    windows: VecDeque<Window>,
}

struct Window {
    opened: Timestamp,
    /// The first counter minted in it; the last is before the next window's first.
    first: u64,
    /// One bit per counter, as far as any was spent.
    spent: Vec<u64>,
}

impl Ledger {
    fn mint(&mut self, now: Timestamp) -> u64 {
        let counter = self.next;
        self.next += 1;
        let current = self.windows.back().is_some_and(|window| {
            now.since(window.opened) < WINDOW && counter - window.first < WINDOW_NONCES
        });
        if !current {
            if self.windows.len() == WINDOWS {
                self.windows.pop_front();
            }
            self.windows.push_back(Window { opened: now, first: counter, spent: Vec::new() });
        }
        counter
    }

    fn spend(&mut self, counter: u64, now: Timestamp) -> bool {
        while self
            .windows
            .front()
            .is_some_and(|window| now.since(window.opened) >= WINDOW + Nonces::LIFETIME)
        {
            self.windows.pop_front();
        }
        if counter >= self.next {
            return false;
        }
        let Some(window) = self.windows.iter_mut().rev().find(|window| window.first <= counter)
        else {
            return false;
        };
        let place = counter - window.first;
        // Below WINDOW_NONCES by `mint`.
        let (word, bit) = ((place / 64) as usize, 1 << (place % 64));
        if window.spent.len() <= word {
            window.spent.resize(word + 1, 0);
        }
        let fresh = window.spent[word] & bit == 0;
        window.spent[word] |= bit;
        fresh
    }
}

const TAG: usize = 16;
const OCTETS: usize = TAG + 8;
/// Longer than any nonce, in characters.
const MAX_TEXT: usize = 256;
/// Windows remembered at once: a lifetime's worth and two, or fewer under a flood.
const WINDOWS: usize = 8;
const WINDOW: Duration = Duration::from_secs(600);
/// A window ends early after so many.
const WINDOW_NONCES: u64 = 1 << 21;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const NOW: Timestamp = Timestamp(1_795_305_599_000);

    #[test]
    fn a_nonce_is_spent_once() {
        let nonces = Nonces::new([1; 32]);
        let (a, b) = (nonces.mint(NOW), nonces.mint(NOW));
        assert_ne!(a, b);
        assert_eq!(a.len(), 32);
        assert_eq!(nonces.spend(&b, NOW), Ok(()));
        assert_eq!(nonces.spend(&a, NOW), Ok(()));
        assert_eq!(nonces.spend(&a, NOW), Err(NonceError::Bad));
        assert_eq!(nonces.spend(&b, NOW), Err(NonceError::Bad));
    }

    #[test]
    fn a_nonce_lives_its_lifetime_and_not_much_longer() {
        let nonces = Nonces::new([1; 32]);
        let nonce = nonces.mint(NOW);
        let other = nonces.mint(NOW);
        assert_eq!(nonces.spend(&nonce, NOW.plus(Nonces::LIFETIME)), Ok(()));
        let late = NOW.plus(Nonces::LIFETIME).plus(WINDOW);
        assert_eq!(nonces.spend(&other, late), Err(NonceError::Bad));
        // A nonce minted at a window's end has its lifetime too.
        let end = NOW.plus(WINDOW - Duration::from_millis(1));
        let nonces = Nonces::new([1; 32]);
        nonces.mint(NOW);
        let nonce = nonces.mint(end);
        assert_eq!(nonces.spend(&nonce, end.plus(Nonces::LIFETIME)), Ok(()));
    }

    #[test]
    fn a_restart_forgets() {
        let nonce = Nonces::new([1; 32]).mint(NOW);
        let again = Nonces::new([2; 32]);
        again.mint(NOW);
        assert_eq!(again.spend(&nonce, NOW), Err(NonceError::Bad));
    }

    #[test]
    fn malformed_differs_from_unknown() {
        let nonces = Nonces::new([1; 32]);
        for bad in ["*", "YQ==", "YR", "a b", &"A".repeat(300)] {
            assert_eq!(nonces.spend(bad, NOW), Err(NonceError::Malformed), "{bad}");
        }
        for unknown in ["", "bm9uY2U", &"A".repeat(32)] {
            assert_eq!(nonces.spend(unknown, NOW), Err(NonceError::Bad), "{unknown}");
        }
        assert_eq!(Problem::from(NonceError::Bad).kind, ProblemType::BadNonce);
        assert_eq!(Problem::from(NonceError::Malformed).kind, ProblemType::Malformed);
    }

    #[test]
    fn memory_is_bounded() {
        let mut ledger = Ledger { next: 0, windows: VecDeque::new() };
        for round in 0..2 * WINDOWS as u64 {
            // Jump to the end of a window instead of minting two million.
            let first = ledger.mint(NOW);
            ledger.next = first + WINDOW_NONCES - 1;
            let last = ledger.mint(NOW);
            assert!(ledger.spend(last, NOW), "{round}");
        }
        assert_eq!(ledger.windows.len(), WINDOWS);
        let words: usize = ledger.windows.iter().map(|window| window.spent.len()).sum();
        assert_eq!(words * 8, 2 << 20);
        assert!(!ledger.spend(0, NOW), "the oldest lapsed");
    }

    #[test]
    fn of_many_who_spend_one_wins() {
        let nonces = Nonces::new([3; 32]);
        let minted: Vec<String> = (0..200).map(|_| nonces.mint(NOW)).collect();
        let won: Vec<AtomicUsize> = minted.iter().map(|_| AtomicUsize::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for (nonce, won) in minted.iter().zip(&won) {
                        if nonces.spend(nonce, NOW).is_ok() {
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert!(won.iter().all(|won| won.load(Ordering::Relaxed) == 1));
    }

    proptest! {
        /// Against a model that remembers every nonce.
        #[test]
        fn as_a_set_would(steps in proptest::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..900u64), 1..80)) {
            let nonces = Nonces::new([4; 32]);
            let mut now = NOW;
            let mut minted: Vec<(String, Timestamp, bool)> = Vec::new();
            for (mint, which, seconds) in steps {
                now = now.plus(Duration::from_secs(seconds));
                if mint || minted.is_empty() {
                    minted.push((nonces.mint(now), now, false));
                    continue;
                }
                let which = which.index(minted.len());
                let (nonce, at, spent) = &mut minted[which];
                let age = now.since(*at);
                let outcome = nonces.spend(nonce, now).is_ok();
                if *spent {
                    prop_assert!(!outcome);
                } else if age < Nonces::LIFETIME {
                    prop_assert!(outcome);
                } else if age > Nonces::LIFETIME + WINDOW {
                    prop_assert!(!outcome);
                }
                *spent |= outcome;
            }
        }

        #[test]
        fn a_changed_nonce_is_unknown(at in 0..32usize, to in "[A-Za-z0-9_-]") {
            let nonces = Nonces::new([5; 32]);
            for _ in 0..100 { nonces.mint(NOW); }
            let nonce = nonces.mint(NOW);
            let mut changed = nonce.clone();
            changed.replace_range(at..=at, &to);
            prop_assume!(changed != nonce);
            prop_assert_eq!(nonces.spend(&changed, NOW), Err(NonceError::Bad));
        }
    }
}
