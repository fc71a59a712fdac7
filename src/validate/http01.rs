//! http-01 (RFC 8555 section 8.3).
