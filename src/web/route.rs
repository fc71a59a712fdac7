//! web: route.
