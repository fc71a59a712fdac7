//! Ceremonies: one reviewed file says which keys and certificates shall exist; execution makes exactly those,
//! reads them back, and writes a transcript.

pub mod execute;
pub mod plan;
pub mod transcript;
