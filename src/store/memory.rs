//! store: memory.
