//! A world that obeys its test: time moves when it is moved, randomness comes from a seed, the
//! network answers what it was programmed to answer.

mod clock;
pub mod disk;
mod net;

pub use clock::{ManualClock, SeededRng};
