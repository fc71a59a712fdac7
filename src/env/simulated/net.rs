//! A network of programmed answers and peers.
