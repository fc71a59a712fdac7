//! web: listen.
