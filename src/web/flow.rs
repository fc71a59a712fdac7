//! web: flow.
