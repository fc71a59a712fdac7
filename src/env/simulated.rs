//! env: simulated.
