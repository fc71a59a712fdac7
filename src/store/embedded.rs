//! store: embedded.
