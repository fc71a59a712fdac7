//! web: metrics.
