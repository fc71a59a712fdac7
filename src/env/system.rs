//! The operating system's clock, random source, disk, resolver and sockets.
//!
//! The only place in the crate that reads the system clock, draws system randomness or calls for
//! durability; everything else is handed these as values.

mod clock;
mod disk;
pub mod net;
mod process;

pub use clock::{SystemClock, SystemRng};
pub use disk::{Kept, SystemDisk};
pub use net::{Resolving, SystemDialer, SystemResolver, ZoneServers};
pub use process::{ProcessFigures, own_process};
