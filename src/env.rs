//! The world outside the process, as values that can be replaced: clock, randomness, disk,
//! name resolution and dialling. `system` is the real one; `simulated` obeys a seed.
//!
//! Only `env::system` may touch the operating system's clock, its random source and the disk's
//! durability calls. The rest of the crate receives what is here.

pub mod disk;
pub mod net;
pub mod room;
pub mod simulated;
pub mod spread;
pub mod system;

use std::time::Duration;

use crate::id::Timestamp;

pub use disk::{Disk, DiskFile, DiskLock};
pub use net::{Dialer, Resolver};
pub use room::KeepsRoom;
pub use spread::Spread;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reads the time. The wall clock may jump; the monotonic one may not.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary fixed instant of this process; never decreases.
    fn monotonic(&self) -> Duration;
}

/// Fills buffers with cryptographically strong random octets; never fails, or the process aborts.
pub trait Rng: Send + Sync {
    /// Overwrites all of `buffer`.
    fn fill(&self, buffer: &mut [u8]);
}

/// Sixteen octets at once: what ids and serials are made of.
pub fn random_16(rng: &dyn Rng) -> [u8; 16] {
    let mut octets = [0u8; 16];
    rng.fill(&mut octets);
    octets
}
