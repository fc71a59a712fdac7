//! web: page.
