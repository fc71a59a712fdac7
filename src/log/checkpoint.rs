//! The C2SP tlog-checkpoint: origin, size, root, signatures.
