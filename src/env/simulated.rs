//! A world that obeys its test: time moves when it is moved, randomness comes from a seed, the
//! network answers what it was programmed to answer.

mod clock;
mod disk;
mod net;

pub use clock::{ManualClock, SeededRng};
pub use disk::{CrashMode, Fault, SimulatedDisk};
pub use net::{SimulatedDialer, SimulatedResolver};
