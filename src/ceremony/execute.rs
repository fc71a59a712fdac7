//! Ceremony: execute.
