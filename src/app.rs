//! Builds each part once; owns start-up, reload and shutdown.
