//! Reads a log directory without writing it: for the operator and the auditor.
