//! Which account keys the issuer accepted: a view of the log.
