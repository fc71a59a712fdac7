//! web: tls.
