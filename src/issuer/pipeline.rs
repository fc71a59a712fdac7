//! Rehearse, intend, sign, verify, record, release: one certificate, in the order of the design.
