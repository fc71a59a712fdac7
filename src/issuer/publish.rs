//! Files for everyone: checkpoint, CRL, chain, root. Immutable or replaced atomically.
