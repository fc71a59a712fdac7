//! env: system.
